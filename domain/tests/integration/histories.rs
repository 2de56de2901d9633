//! `evolve` over any history, also one that `decide` would not have made.

use domain::{
    decide::{Command, decide},
    event::Event,
    ids::PatientId,
    patient::{Lifecycle, Patient},
};
use proptest::prelude::*;
use uuid::Uuid;

use crate::given::{at, history, patient, test, test_id};

pub(crate) fn event() -> impl Strategy<Value = Event> {
    let id = || (0..4_u128).prop_map(test_id);
    let name = "[A-C]";
    prop_oneof![
        4 => name.prop_map(|n| Event::PatientRegistered(patient(&n))),
        4 => name.prop_map(|n| Event::PatientAmended(patient(&n))),
        1 => Just(Event::PatientRemoved),
        1 => Just(Event::PatientErased),
        8 => (id(), name).prop_map(|(test_id, n)| Event::TestRecorded { test: test_id, content: test(&n) }),
        8 => (id(), name).prop_map(|(test_id, n)| Event::TestAmended { test: test_id, content: test(&n) }),
        4 => id().prop_map(|test| Event::TestRemoved { test }),
    ]
}

proptest! {
    #[test]
    fn a_version_is_counted_whatever_the_event(events in prop::collection::vec(event(), 0..30)) {
        let count = events.len() as u64;
        prop_assert_eq!(Patient::replay(&history(events)).version, count);
    }

    #[test]
    fn nothing_comes_back_after_an_end(
        before in prop::collection::vec(event(), 0..10),
        after in prop::collection::vec(event(), 0..10),
        erased in any::<bool>(),
    ) {
        let end = if erased { Event::PatientErased } else { Event::PatientRemoved };
        let id = PatientId::new(Uuid::nil());
        let events = before.into_iter().chain([end]).chain(after);
        let state = Patient::replay(&history(events));
        prop_assert!(matches!(state.lifecycle, Lifecycle::Removed | Lifecycle::Erased));
        prop_assert!(state.view(id).is_none());
        prop_assert!(state.test_views(id).is_empty());
    }

    #[test]
    fn what_is_shown_is_the_last_content_in_the_order_of_recording(
        events in prop::collection::vec(event(), 0..30),
    ) {
        let history = history(events);
        let state = Patient::replay(&history);
        let id = PatientId::new(Uuid::nil());
        for view in state.test_views(id) {
            let last = history.iter().rev().find_map(|recorded| match &recorded.event {
                Event::TestRecorded { test, content } | Event::TestAmended { test, content }
                    if *test == view.id && recorded.at == view.last_updated => Some(content),
                _ => None,
            });
            prop_assert_eq!(last, Some(&view.content));
            prop_assert_eq!(state.test_view(id, view.id), Some(view));
        }
    }

    #[test]
    fn what_is_decided_changes_the_state_as_decided(
        events in prop::collection::vec(event(), 0..20), name in "[A-C]", number in 0..4_u128,
    ) {
        let state = Patient::replay(&history(events));
        let version = state.version + 1;
        let (id, test_id) = (PatientId::new(Uuid::nil()), test_id(number));
        let command = Command::AmendTest { test: test_id, content: test(&name), if_match: None };
        if let Ok(event) = decide(&state, command) {
            let recorded = domain::event::Recorded { version, at: at(version), event };
            let view = state.evolve(&recorded).test_view(id, test_id);
            prop_assert_eq!(view.map(|view| view.content), Some(test(&name)));
        }
    }
}
