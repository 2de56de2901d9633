//! Fixtures.

use domain::{
    content::{Observation, PatientContent, TestContent},
    event::{Event, Recorded},
    ids::TestId,
    time::Timestamp,
};
use serde_json::json;
use uuid::Uuid;

pub(crate) fn patient(first_name: &str) -> PatientContent {
    serde_json::from_value(json!({
        "firstName": first_name, "gender": "female", "dateOfBirth": "1980", "postCode": "1234"
    }))
    .unwrap()
}

pub(crate) fn test(performer: &str) -> TestContent {
    let observation = Observation {
        id: "1".into(),
        code: "2951-2".into(),
        measurement: "145 mmol/L".into(),
        interpretation: "normal".into(),
        status: "final".into(),
        issued: "2026-01-01".into(),
    };
    let (performer, order_reference) = (performer.to_owned(), "o".to_owned());
    TestContent { performer, order_reference, observations: vec![observation] }
}

pub(crate) fn test_id(number: u128) -> TestId {
    TestId::new(Uuid::from_u128(number))
}

/// Events with versions 1, 2, 3 … and times a second apart.
pub(crate) fn history(events: impl IntoIterator<Item = Event>) -> Vec<Recorded> {
    (1..).zip(events).map(|(version, event)| Recorded { version, at: at(version), event }).collect()
}

pub(crate) fn at(version: u64) -> Timestamp {
    Timestamp::from_millis(i64::try_from(version).unwrap() * 1_000)
}
