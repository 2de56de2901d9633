//! Patients and tests to send.

use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Whole systems that run at once: each is up to seven processes, and machines for tests are small.
const SYSTEMS_AT_ONCE: usize = 3;

static SYSTEMS: Semaphore = Semaphore::const_new(SYSTEMS_AT_ONCE);

/// Waits for a place to run a whole system in. Take it first, so that it is given back last.
pub async fn a_place() -> SemaphorePermit<'static> {
    SYSTEMS.acquire().await.expect("the semaphore is never closed")
}

/// A patient with every field.
pub fn patient(first_name: &str) -> Value {
    json!({
        "firstName": first_name, "lastName": "DOE", "fullName": format!("{first_name} DOE"),
        "gender": "female", "dateOfBirth": "1980-07-01", "postCode": "1234",
        "insuranceNumber": "INS-1", "preferredContactNumber": "+49 30 1",
    })
}

/// A patient with no field that can be left out, of a random name.
pub fn plain_patient() -> Value {
    json!({
        "firstName": random_name(), "gender": "other", "dateOfBirth": "1999", "postCode": "0815",
    })
}

/// Six random upper-case letters.
pub fn random_name() -> String {
    (0..6).map(|_| rand::random_range(b'A'..=b'Z') as char).collect()
}

/// A test with this many observations.
pub fn test(observations: usize) -> Value {
    let observation = |number: usize| {
        json!({
            "id": format!("obs-{number}"), "code": "2951-2", "measurement": "145 mmol/L",
            "interpretation": "normal", "status": "final", "issued": "2026-01-01T09:00:00+01:00",
        })
    };
    json!({
        "performer": "Laboratory 1", "orderReference": "order-1",
        "observations": (0..observations).map(observation).collect::<Vec<_>>(),
    })
}

/// What was sent, as it must come back: with what the service adds.
#[track_caller]
pub fn expect_content(answer: &Value, sent: &Value) {
    let mut expected = sent.clone();
    for member in ["id", "patientId", "lastUpdated"] {
        if let Some(value) = answer.get(member) {
            expected[member] = value.clone();
        }
    }
    assert_eq!(*answer, expected);
    let time = answer["lastUpdated"].as_str().unwrap_or_default();
    assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
}

/// The id in an answer.
#[track_caller]
pub fn id_of(answer: &Value) -> String {
    answer["id"].as_str().unwrap_or_else(|| panic!("no id in {answer}")).to_owned()
}

/// An id that nothing has.
pub fn unknown_id() -> String {
    let hex = format!("{:032x}", rand::random::<u128>());
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}
