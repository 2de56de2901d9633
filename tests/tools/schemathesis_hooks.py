"""What schemathesis cannot know by itself about the public API."""

import functools
import json

import jsonschema_rs
import schemathesis


@functools.cache
def record_validator(components):
    schema = {"$ref": "#/components/schemas/Record", "components": json.loads(components)}
    return jsonschema_rs.validator_for(schema, validate_formats=True)


@schemathesis.check
def every_line_is_a_record(_context, response, case):
    """NDJSON is no one JSON document, so that response_schema_conformance leaves it out."""
    kind = response.headers.get("content-type", [""])[0]
    if response.status_code == 200 and kind.startswith("application/x-ndjson"):
        validator = record_validator(json.dumps(case.operation.schema.raw_schema["components"]))
        for line in response.content.splitlines():
            problem = next(validator.iter_errors(json.loads(line)), None)
            if problem is not None:
                raise AssertionError(f"a line is no record: {problem.message}")
