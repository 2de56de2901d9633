//! The cohort of FHIR R4 bundles in `tests/data`, as patients and tests of the public API.

use anyhow::Context;
use serde_json::{Value, json};

const COHORT: &str = include_str!("../data/carebundle/cohort.ndjson");

/// What stands before the number of an observation.
const BEFORE_NUMBER: &str = "\"valueQuantity\":{\"value\":";

/// One bundle: a patient, and her tests, one for each encounter.
#[derive(Debug, Clone)]
pub struct Case {
    /// Body of `POST /patient`.
    pub patient: Value,
    /// Bodies of `POST /patient/{id}/tests`.
    pub tests: Vec<Value>,
}

/// All bundles.
pub fn cohort() -> anyhow::Result<Vec<Case>> {
    COHORT.lines().map(case).collect()
}

fn case(line: &str) -> anyhow::Result<Case> {
    let bundle: Value = serde_json::from_str(line)?;
    let entries = bundle["entry"].as_array().context("entries")?;
    let (patient, observations) = entries.split_first().context("a patient")?;
    // A number as it was written: in medicine 0.90 is not 0.9, and parsing would lose that.
    let mut numbers = line.split(BEFORE_NUMBER).skip(1).filter_map(|rest| rest.split(',').next());
    let mut tests: Vec<Value> = Vec::new();
    for entry in observations {
        let number = numbers.next().context("a number")?;
        let order = text(entry, "/resource/encounter/reference")?;
        let known = tests.iter().position(|test| test["orderReference"] == order);
        let number_of_test = known.unwrap_or(tests.len());
        if known.is_none() {
            let performer = text(entry, "/resource/performer/0/reference")?;
            tests.push(json!({
                "performer": performer, "orderReference": order, "observations": [],
            }));
        }
        let test = &mut tests[number_of_test];
        let observations = test["observations"].as_array_mut().context("observations")?;
        observations.push(observation(entry, number)?);
    }
    Ok(Case { patient: patient_body(patient)?, tests })
}

fn patient_body(entry: &Value) -> anyhow::Result<Value> {
    let given = text(entry, "/resource/name/0/given/0")?;
    let family = text(entry, "/resource/name/0/family")?;
    let identifier = text(entry, "/resource/identifier/0/value")?;
    Ok(json!({
        "firstName": given,
        "lastName": family,
        "fullName": format!("{given} {family}"),
        "gender": text(entry, "/resource/gender")?,
        "dateOfBirth": text(entry, "/resource/birthDate")?,
        // The cohort has no addresses; four characters are all that the rule asks for.
        "postCode": identifier.get(..4).context("eight digits")?,
        "insuranceNumber": identifier,
    }))
}

fn observation(entry: &Value, number: &str) -> anyhow::Result<Value> {
    let value = entry.pointer("/resource/valueQuantity/value").context("a value")?;
    anyhow::ensure!(number.parse::<f64>().ok() == value.as_f64(), "{number} is not {value}");
    let unit = text(entry, "/resource/valueQuantity/unit")?;
    Ok(json!({
        "id": text(entry, "/fullUrl")?,
        "code": text(entry, "/resource/code/coding/0/code")?,
        "measurement": format!("{number} {unit}"),
        "interpretation": "not interpreted",
        "status": text(entry, "/resource/status")?,
        "issued": text(entry, "/resource/effectiveDateTime")?,
    }))
}

fn text<'a>(entry: &'a Value, pointer: &'static str) -> anyhow::Result<&'a str> {
    entry.pointer(pointer).and_then(Value::as_str).context(pointer)
}
