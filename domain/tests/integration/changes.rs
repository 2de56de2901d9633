//! What changed between two states, and nothing else.

use std::collections::BTreeMap;

use domain::{
    changes::{Change, between, fields},
    content::TestContent,
    event::Event,
    ids::TestId,
    patient::Patient,
};
use proptest::prelude::*;

use crate::{
    given::{history, patient, test, test_id},
    histories::event,
};

/// The state before and after the last of some events.
fn last_step(mut events: Vec<Event>) -> (Patient, Patient) {
    let after = Patient::replay(&history(events.clone()));
    events.pop();
    (Patient::replay(&history(events)), after)
}

#[track_caller]
fn check(events: Vec<Event>, expected: &[(&str, Option<&str>, Option<&str>)]) {
    let about = events.last().unwrap().test();
    let (before, after) = last_step(events);
    let found: Vec<_> = between(&fields(&before, about), &fields(&after, about))
        .into_iter()
        .map(|Change { field, from, to }| (field, from, to))
        .collect();
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let expected: Vec<_> = expected
        .iter()
        .map(|(field, from, to)| ((*field).to_owned(), owned(*from), owned(*to)))
        .collect();
    assert_eq!(found, expected);
}

fn registered() -> Event {
    Event::PatientRegistered(patient("A"))
}

fn recorded() -> Event {
    Event::TestRecorded { test: test_id(1), content: test("P") }
}

fn amended(content: TestContent) -> Event {
    Event::TestAmended { test: test_id(1), content }
}

#[test]
fn a_registration_brings_every_field_that_there_is() {
    check(
        vec![registered()],
        &[
            ("dateOfBirth", None, Some("1980")),
            ("firstName", None, Some("A")),
            ("gender", None, Some("female")),
            ("postCode", None, Some("1234")),
        ],
    );
}

#[test]
fn an_amendment_names_what_it_changed_brought_and_took_away() {
    let (mut one, mut other) = (patient("A"), patient("B"));
    one.last_name = Some("X".into());
    other.full_name = Some("B X".into());
    check(
        vec![Event::PatientRegistered(one), Event::PatientAmended(other)],
        &[
            ("firstName", Some("A"), Some("B")),
            ("lastName", Some("X"), None),
            ("fullName", None, Some("B X")),
        ],
    );
    check(vec![registered(), Event::PatientAmended(patient("A"))], &[]);
}

#[test]
fn observations_are_named_by_where_they_stand() {
    let mut more = test("P");
    let mut second = more.observations[0].clone();
    second.measurement = "7".into();
    more.observations.push(second);
    let mut less = more.clone();
    less.observations.remove(0);
    let events = vec![registered(), recorded(), amended(more), amended(less)];
    check(
        events.clone(),
        &[
            ("observations[0].measurement", Some("145 mmol/L"), Some("7")),
            ("observations[1].code", Some("2951-2"), None),
            ("observations[1].id", Some("1"), None),
            ("observations[1].interpretation", Some("normal"), None),
            ("observations[1].issued", Some("2026-01-01"), None),
            ("observations[1].measurement", Some("7"), None),
            ("observations[1].status", Some("final"), None),
        ],
    );
}

#[test]
fn a_removal_takes_the_fields_of_what_is_removed() {
    let gone = |field, from| (field, Some(from), None);
    check(
        vec![registered(), recorded(), Event::PatientRemoved],
        &[
            gone("dateOfBirth", "1980"),
            gone("firstName", "A"),
            gone("gender", "female"),
            gone("postCode", "1234"),
        ],
    );
    let mut content = test("P");
    content.observations.clear();
    let removed = Event::TestRemoved { test: test_id(1) };
    check(
        vec![registered(), Event::TestRecorded { test: test_id(1), content }, removed],
        &[gone("orderReference", "o"), gone("performer", "P")],
    );
}

/// The fields of what an event is about, in a state.
fn fields_in(state: &Patient, about: Option<TestId>) -> BTreeMap<String, String> {
    let fields = fields(state, about);
    let count = fields.len();
    let fields = BTreeMap::from_iter(fields);
    assert_eq!(fields.len(), count, "one name, one field");
    fields
}

fn observed(measurements: &[u8]) -> TestContent {
    let mut content = test("P");
    let one = content.observations.remove(0);
    content.observations = measurements
        .iter()
        .map(|measurement| {
            let mut observation = one.clone();
            observation.measurement = measurement.to_string();
            observation
        })
        .collect();
    content
}

proptest! {
    #[test]
    fn the_changes_applied_to_the_state_before_give_the_state_after(
        events in prop::collection::vec(event(), 1..30),
    ) {
        let about = events.last().unwrap().test();
        let (before, after) = last_step(events);
        let mut state = fields_in(&before, about);
        let changes = between(&fields(&before, about), &fields(&after, about));
        for Change { field, from, to } in changes {
            prop_assert_ne!(&from, &to);
            prop_assert_eq!(state.remove(&field), from);
            state.extend(to.map(|to| (field, to)));
        }
        prop_assert_eq!(state, fields_in(&after, about));
    }

    #[test]
    fn contents_with_the_same_fields_are_the_same(
        one in prop::collection::vec(0..3_u8, 0..4), other in prop::collection::vec(0..3_u8, 0..4),
    ) {
        let (one, other) = (observed(&one), observed(&other));
        let fields_of = |content: &TestContent| {
            let recorded = Event::TestRecorded { test: test_id(1), content: content.clone() };
            fields(&Patient::replay(&history([registered(), recorded])), Some(test_id(1)))
        };
        let changes = between(&fields_of(&one), &fields_of(&other));
        prop_assert_eq!(changes.is_empty(), one == other);
    }
}
