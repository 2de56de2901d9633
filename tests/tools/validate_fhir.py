"""Validates a Bundle from standard input as FHIR R4 and prints the tags of its AuditEvents, a line each.

R4B is R4 but for a handful of resources that are none of these.
"""

import json
import sys

from fhir.resources.R4B.auditevent import AuditEvent
from fhir.resources.R4B.bundle import Bundle

text = sys.stdin.read()
bundle = Bundle.model_validate_json(text)
assert bundle.type == "searchset", bundle.type
plain = json.loads(text)
for entry, sent in zip(bundle.entry or [], plain.get("entry", []), strict=True):
    event = entry.resource
    assert isinstance(event, AuditEvent), type(event)
    # What the model writes is what was sent: nothing was dropped or read in another way.
    again = json.loads(event.model_dump_json())
    again["recorded"] = sent["resource"]["recorded"]
    assert again == sent["resource"], (again, sent["resource"])
    print(event.meta.tag[0].code)
