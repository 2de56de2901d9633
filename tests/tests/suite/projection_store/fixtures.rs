//! Builders of what goes into the stores.

use domain::{
    content::{PatientContent, TestContent},
    event::{Event, Recorded},
    ids::{KeyId, PatientId, TestId},
    time::Timestamp,
};
use projections::change::StreamChange;
use serde_json::json;
use uuid::Uuid;

pub(super) const KID: KeyId = KeyId::new(Uuid::from_u128(0xAA));

pub(super) fn patient_id(n: u128) -> PatientId {
    PatientId::new(Uuid::from_u128(n))
}

pub(super) fn test_id(n: u128) -> TestId {
    TestId::new(Uuid::from_u128(n))
}

pub(super) fn patient(first_name: &str) -> PatientContent {
    serde_json::from_value(json!({
        "firstName": first_name, "lastName": "LAST", "fullName": "FIRST LAST", "gender": "female",
        "dateOfBirth": "1980-07", "postCode": "1234", "insuranceNumber": "I-1",
        "preferredContactNumber": "C-1"
    }))
    .unwrap()
}

pub(super) fn test(performer: &str) -> TestContent {
    serde_json::from_value(json!({
        "performer": performer, "orderReference": "order", "observations": [{
            "id": "1", "code": "718-7", "measurement": "13.5 g/dL", "interpretation": "normal",
            "status": "final", "issued": "2020-02-03T04:05:06+02:00"
        }]
    }))
    .unwrap()
}

pub(super) fn registered(first_name: &str) -> Event {
    Event::PatientRegistered(patient(first_name))
}

pub(super) fn amended(first_name: &str) -> Event {
    Event::PatientAmended(patient(first_name))
}

pub(super) fn test_recorded(id: u128, performer: &str) -> Event {
    Event::TestRecorded { test: test_id(id), content: test(performer) }
}

pub(super) fn test_amended(id: u128, performer: &str) -> Event {
    Event::TestAmended { test: test_id(id), content: test(performer) }
}

pub(super) fn test_removed(id: u128) -> Event {
    Event::TestRemoved { test: test_id(id) }
}

/// Gives events the versions 1, 2, 3 … and a time each.
pub(super) fn history(events: impl IntoIterator<Item = Event>) -> Vec<Recorded> {
    let stamp = |(version, event)| Recorded { version, at: at(version), event };
    (1..).zip(events).map(stamp).collect()
}

pub(super) fn at(version: u64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + 1_001 * i64::try_from(version).unwrap())
}

/// The change of the events `from + 1 ..= to` of a history.
pub(super) fn run(patient: PatientId, history: &[Recorded], from: u64, to: u64) -> StreamChange {
    let index = |version: u64| usize::try_from(version).unwrap();
    StreamChange::fold(patient, Some(KID), &history[index(from)..index(to)]).unwrap()
}

/// The change of a whole history.
pub(super) fn whole(patient: PatientId, history: &[Recorded]) -> StreamChange {
    run(patient, history, 0, history.len() as u64)
}

/// A history of every kind of event, before the patient goes.
pub(super) fn full_history() -> Vec<Recorded> {
    history([
        registered("ANN"),
        test_recorded(1, "one"),
        amended("BEA"),
        test_recorded(2, "two"),
        test_amended(1, "one again"),
        test_removed(2),
    ])
}

/// [`full_history`] and more events.
pub(super) fn full_history_and(more: impl IntoIterator<Item = Event>) -> Vec<Recorded> {
    let events = full_history().into_iter().map(|recorded| recorded.event);
    history(events.chain(more))
}

/// The same events about tests that no other patient has.
pub(super) fn own_tests(mut history: Vec<Recorded>, patient: u128) -> Vec<Recorded> {
    for recorded in &mut history {
        if let Event::TestRecorded { test, .. }
        | Event::TestAmended { test, .. }
        | Event::TestRemoved { test } = &mut recorded.event
        {
            *test = test_id(1_000 * patient + test.uuid().as_u128());
        }
    }
    history
}
