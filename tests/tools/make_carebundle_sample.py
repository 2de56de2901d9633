#!/usr/bin/env python3
"""Write the cohort that the end-to-end suite loads, as one FHIR R4 Bundle a line.

Needs the packages named in tests/data/carebundle/README.md. The bundles come from
`carebundle.generate_cohort` with a fixed seed. This script only leaves out: resources other
than Patient and laboratory Observation, and the members that Vitalog does not map
(`meta`, `text`, `category`, `request`, display texts). Nothing is changed or invented,
except that a Bundle without `request` members is of type `collection`, and that the label
which says "test data" stands once on the Bundle instead of on each resource.
"""

import argparse
import json
import pathlib
import re
import sys

from carebundle import generate_cohort, to_json

PATIENTS = 200
SEED = 20260101
AGES = (18, 95)
# Every profile of the package; its default mix has no anaemia.
PREVALENCE = {
    "anaemia": 0.10,
    "ckd_stage3": 0.15,
    "healthy": 0.40,
    "hypertension": 0.20,
    "type2_diabetes": 0.15,
}

TEST_DATA_LABEL = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason",
    "code": "HTEST",
    "display": "test health data",
}
PATIENT_MEMBERS = ("resourceType", "identifier", "name", "gender", "birthDate")
OBSERVATION_MEMBERS = (
    "resourceType",
    "status",
    "code",
    "subject",
    "encounter",
    "effectiveDateTime",
    "performer",
    "valueQuantity",
)

# A decimal's digits are part of its value in FHIR (1.10 is not 1.1), and Python's float would lose
# them: decimals pass through as marked strings and lose mark and quotes in the output.
MARK = "\ue000"
MARKED = re.compile(f'"{MARK}([^"]+)"')


def trimmed_patient(resource):
    """The members of a Patient that are mapped."""
    return {name: resource[name] for name in PATIENT_MEMBERS}


def trimmed_observation(resource):
    """The members of an Observation that are mapped: the code without its display text."""
    observation = {name: resource[name] for name in OBSERVATION_MEMBERS}
    observation["code"] = {
        "coding": [
            {"system": coding["system"], "code": coding["code"]}
            for coding in resource["code"]["coding"]
        ]
    }
    quantity = resource["valueQuantity"]
    observation["valueQuantity"] = {"value": quantity["value"], "unit": quantity["unit"]}
    return observation


def is_laboratory(resource):
    """Whether an Observation is a laboratory result (and no vital sign or survey)."""
    return any(
        coding["code"] == "laboratory"
        for category in resource["category"]
        for coding in category["coding"]
    )


def trimmed(bundle):
    """One patient's Bundle with the Patient first, then the laboratory Observations."""
    entries = []
    for entry in bundle["entry"]:
        resource = entry["resource"]
        if resource["resourceType"] == "Patient":
            kept = trimmed_patient(resource)
        elif resource["resourceType"] == "Observation" and is_laboratory(resource):
            kept = trimmed_observation(resource)
        else:
            continue
        entries.append({"fullUrl": entry["fullUrl"], "resource": kept})
    return {
        "resourceType": "Bundle",
        "meta": {"security": [TEST_DATA_LABEL]},
        "type": "collection",
        "entry": entries,
    }


def line(bundle):
    """Compact JSON on one line, with the decimals as carebundle wrote them."""
    text = json.dumps(bundle, ensure_ascii=False, separators=(",", ":"))
    return MARKED.sub(r"\1", text) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=pathlib.Path, help="the NDJSON file to write")
    output = parser.parse_args().output

    cohort = generate_cohort(
        count=PATIENTS, seed=SEED, age_range=AGES, prevalence=PREVALENCE, include_vitals=False
    )
    bundles = [
        trimmed(json.loads(to_json(bundle), parse_float=lambda digits: MARK + digits))
        for bundle in cohort
    ]
    output.write_text("".join(map(line, bundles)), encoding="utf-8")

    observations = [
        entry["resource"]
        for bundle in bundles
        for entry in bundle["entry"]
        if entry["resource"]["resourceType"] == "Observation"
    ]
    codes = {o["code"]["coding"][0]["code"] for o in observations}
    print(
        f"{len(bundles)} patients, {len(observations)} observations, {len(codes)} LOINC codes",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
