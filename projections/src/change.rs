//! What a run of events of one stream changes in the read models. Pure.

use std::collections::BTreeMap;

use domain::{
    content::TestContent,
    event::{Event, Recorded},
    ids::{KeyId, PatientId, TestId},
    patient::Current,
};

use crate::documents::PatientState;

/// The effect of the events `from + 1 ..= to` of one stream.
///
/// May be applied to a stream whose cursor is anywhere in `from .. to`: later events win.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamChange {
    /// The patient.
    pub patient: PatientId,
    /// Version before the first event; 0 where the stream begins here.
    pub from: u64,
    /// Version of the last event.
    pub to: u64,
    /// The patient's new state; `None` leaves it and moves the cursor alone.
    pub state: Option<PatientState>,
    /// Tests touched, each once: also those that are gone again, so that no late writer can
    /// insert one of them anew.
    pub tests: BTreeMap<TestId, TestChange>,
    /// The patient was removed or erased at this version: every test with a lower version
    /// becomes a tombstone of it.
    pub tests_gone_at: Option<u64>,
    /// The patient was erased, and this key must not exist any more.
    pub erased: Option<KeyId>,
}

/// What happens to one test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestChange {
    /// Version of the last event that touched the test.
    pub version: u64,
    /// Version of the event that recorded it; `None` where that lies before this change.
    pub first: Option<u64>,
    /// The data; `None` is a tombstone.
    pub current: Option<Current<TestContent>>,
}

impl StreamChange {
    /// Folds consecutive events of one stream, ascending and without gaps. `kid` is the
    /// patient's data key, needed where an event holds the patient's data.
    ///
    /// Returns `None` for no events, for a version 0, and for a patient's data without a key:
    /// passing over it would move the cursor past data that is not written.
    pub fn fold(patient: PatientId, kid: Option<KeyId>, events: &[Recorded]) -> Option<Self> {
        let (first, last) = (events.first()?, events.last()?);
        let mut change = Self {
            patient,
            from: first.version.checked_sub(1)?,
            to: last.version,
            state: None,
            tests: BTreeMap::new(),
            tests_gone_at: None,
            erased: None,
        };
        for recorded in events {
            change.add(kid, recorded)?;
        }
        Some(change)
    }

    /// The whole of an erased patient's stream, of which nothing is left but ids and versions.
    ///
    /// Fits a stream at any cursor. Every test ever recorded, named with the version that
    /// recorded it, becomes a tombstone: without them a late writer that read the content before
    /// could still insert it.
    pub fn erasure(
        patient: PatientId,
        kid: KeyId,
        version: u64,
        tests: impl IntoIterator<Item = (TestId, u64)>,
    ) -> Self {
        let gone = |first| TestChange { version, first: Some(first), current: None };
        Self {
            patient,
            from: 0,
            to: version,
            state: Some(PatientState::Erased),
            tests: tests.into_iter().map(|(test, first)| (test, gone(first))).collect(),
            tests_gone_at: Some(version),
            erased: Some(kid),
        }
    }

    fn add(&mut self, kid: Option<KeyId>, recorded: &Recorded) -> Option<()> {
        let version = recorded.version;
        match &recorded.event {
            Event::PatientRegistered(content) | Event::PatientAmended(content) => {
                let current = current(content, recorded);
                self.state = Some(PatientState::Active { kid: kid?, current });
            }
            Event::PatientRemoved => self.end(PatientState::Removed, version),
            Event::PatientErased => self.end(PatientState::Erased, version),
            Event::TestRecorded { test, content } => {
                let current = Some(current(content, recorded));
                self.tests.insert(*test, TestChange { version, first: Some(version), current });
            }
            Event::TestAmended { test, content } => {
                self.touch(*test, version).current = Some(current(content, recorded));
            }
            Event::TestRemoved { test } => self.touch(*test, version).current = None,
        }
        Some(())
    }

    fn end(&mut self, state: PatientState, version: u64) {
        self.state = Some(state);
        self.tests_gone_at = Some(version);
        for test in self.tests.values_mut() {
            test.version = version;
            test.current = None;
        }
    }

    fn touch(&mut self, test: TestId, version: u64) -> &mut TestChange {
        let change =
            self.tests.entry(test).or_insert(TestChange { version, first: None, current: None });
        change.version = version;
        change
    }
}

fn current<T: Clone>(content: &T, recorded: &Recorded) -> Current<T> {
    Current { content: content.clone(), revision: recorded.version, last_updated: recorded.at }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use domain::{content::PatientContent, time::Timestamp};
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    const PATIENT: PatientId = PatientId::new(Uuid::from_u128(1));
    const KID: KeyId = KeyId::new(Uuid::from_u128(2));
    const BLOOD: TestId = TestId::new(Uuid::from_u128(3));
    const URINE: TestId = TestId::new(Uuid::from_u128(4));

    fn patient(name: &str) -> PatientContent {
        serde_json::from_value(json!({
            "firstName": name, "gender": "other", "dateOfBirth": "1980", "postCode": "1234"
        }))
        .unwrap()
    }

    fn test(performer: &str) -> TestContent {
        serde_json::from_value(
            json!({ "performer": performer, "orderReference": "O", "observations": [] }),
        )
        .unwrap()
    }

    fn recorded(test: TestId) -> Event {
        Event::TestRecorded { test, content: self::test("first") }
    }

    fn amended(test: TestId) -> Event {
        Event::TestAmended { test, content: self::test("second") }
    }

    /// Folds events that follow version `from`.
    fn fold(from: u64, events: Vec<Event>) -> StreamChange {
        let history: Vec<Recorded> = (from + 1..)
            .zip(events)
            .map(|(version, event)| Recorded { version, at: at(version), event })
            .collect();
        StreamChange::fold(PATIENT, Some(KID), &history).unwrap()
    }

    fn at(version: u64) -> Timestamp {
        Timestamp::from_millis(1_000 * i64::try_from(version).unwrap())
    }

    fn set<T>(content: T, revision: u64) -> Current<T> {
        Current { content, revision, last_updated: at(revision) }
    }

    #[test]
    fn the_last_data_of_a_patient_wins_and_keeps_its_own_revision() {
        let change = fold(
            0,
            vec![
                Event::PatientRegistered(patient("A")),
                Event::PatientAmended(patient("B")),
                recorded(BLOOD),
            ],
        );
        assert_eq!((change.from, change.to), (0, 3));
        let current = set(patient("B"), 2);
        assert_eq!(change.state, Some(PatientState::Active { kid: KID, current }));
    }

    #[test]
    fn events_of_tests_move_the_cursor_alone() {
        let change = fold(4, vec![recorded(BLOOD)]);
        assert_eq!((change.from, change.to, &change.state), (4, 5, &None));
        assert_eq!(change.tests_gone_at, None);
    }

    #[test]
    fn a_test_knows_its_first_version_only_where_it_was_recorded_here() {
        let change = fold(4, vec![recorded(BLOOD), amended(BLOOD), amended(URINE)]);
        let current = Some(set(test("second"), 6));
        let expected = TestChange { version: 6, first: Some(5), current };
        assert_eq!(change.tests[&BLOOD], expected);
        let current = Some(set(test("second"), 7));
        assert_eq!(change.tests[&URINE], TestChange { version: 7, first: None, current });
    }

    #[test]
    fn a_removed_test_is_a_tombstone() {
        let change = fold(4, vec![recorded(BLOOD), Event::TestRemoved { test: BLOOD }]);
        let expected = TestChange { version: 6, first: Some(5), current: None };
        assert_eq!(change.tests[&BLOOD], expected);
    }

    #[test]
    fn the_end_of_a_patient_buries_all_tests_at_its_version() {
        for (end, state) in [
            (Event::PatientRemoved, PatientState::Removed),
            (Event::PatientErased, PatientState::Erased),
        ] {
            let change = fold(4, vec![recorded(BLOOD), amended(URINE), end]);
            assert_eq!(change.state, Some(state));
            assert_eq!(change.tests_gone_at, Some(7));
            for test in change.tests.values() {
                assert_eq!((test.version, &test.current), (7, &None));
            }
        }
    }

    #[test]
    fn an_erasure_after_a_removal_moves_the_tombstones_on() {
        let change = fold(4, vec![Event::PatientRemoved, Event::PatientErased]);
        assert_eq!(change.state, Some(PatientState::Erased));
        assert_eq!(change.tests_gone_at, Some(6));
    }

    #[test]
    fn an_erasure_leaves_a_tombstone_of_every_test() {
        let change = StreamChange::erasure(PATIENT, KID, 5, [(BLOOD, 2), (URINE, 3)]);
        let gone = |first| TestChange { version: 5, first: Some(first), current: None };
        assert_eq!(change.tests, BTreeMap::from([(BLOOD, gone(2)), (URINE, gone(3))]));
        assert_eq!((change.from, change.to, change.tests_gone_at), (0, 5, Some(5)));
        assert_eq!((change.state, change.erased), (Some(PatientState::Erased), Some(KID)));
    }

    #[test]
    fn nothing_and_data_without_its_key_make_no_change() {
        assert_eq!(StreamChange::fold(PATIENT, Some(KID), &[]), None);
        let event = Event::PatientRegistered(patient("A"));
        let history = [Recorded { version: 1, at: at(1), event }];
        assert_eq!(StreamChange::fold(PATIENT, None, &history), None);
    }
}
