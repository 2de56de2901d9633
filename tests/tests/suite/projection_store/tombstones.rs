//! What is gone stays gone.

use domain::event::Event;
use projections::store::Applied;

use super::{
    backends::Stores,
    fixtures::{
        full_history_and, history, own_tests, patient_id, registered, run, test_id, test_recorded,
        test_removed, whole,
    },
    interleavings::check_documents,
};

pub(super) async fn a_late_writer_brings_nothing_back(stores: &Stores) {
    let generation = stores.generation().await;
    for (id, end) in [
        (1, vec![Event::PatientRemoved]),
        (2, vec![Event::PatientErased]),
        (3, vec![Event::PatientRemoved, Event::PatientErased]),
    ] {
        let patient = patient_id(id);
        let events = own_tests(full_history_and(end), id);
        let length = events.len() as u64;
        stores.one.apply(generation, &[whole(patient, &events)]).await.unwrap();
        for from in 0..length {
            for to in from + 1..=length {
                let late = run(patient, &events, from, to);
                let results = stores.two.apply(generation, &[late]).await.unwrap();
                assert_eq!(results, [Applied::Already], "{from}..={to}");
            }
        }
        check_documents(&*stores.one, generation, patient, &events).await;
        assert_eq!(stores.one.tests(generation, patient).await.unwrap(), []);
    }
}

pub(super) async fn nothing_personal_is_left_in_a_tombstone(stores: &Stores) {
    let generation = stores.generation().await;
    let (removed, erased, lost_test) = (patient_id(1), patient_id(2), patient_id(3));
    let events = |id, end| {
        history([
            registered("SECRETNAME"),
            test_recorded(id, "SECRETLAB"),
            test_removed(if id == 3 { 3 } else { 4 }),
            end,
        ])
    };
    for (id, end) in
        [(1, Event::PatientRemoved), (2, Event::PatientErased), (3, Event::PatientErased)]
    {
        let events = events(id, end);
        for to in 1..=4 {
            let change = run(patient_id(id), &events, to - 1, to);
            assert_eq!(stores.one.apply(generation, &[change]).await.unwrap(), [Applied::Done]);
        }
    }

    let table = format!("patients_g{}", generation.0);
    for (patient, status) in [(removed, "removed"), (erased, "erased"), (lost_test, "erased")] {
        let mut members = stores.raw.members(&table, &patient.to_string()).await;
        if let Some(stored) = members.remove("status") {
            assert_eq!(stored, status);
        }
        members.retain(|member, _| !["_id", "id", "version", "write"].contains(&member.as_str()));
        assert_eq!(members, [].into());
    }
    let table = format!("tests_g{}", generation.0);
    for id in [1, 2, 3] {
        let mut members = stores.raw.members(&table, &test_id(id).to_string()).await;
        if let Some(stored) = members.remove("status") {
            assert_eq!(stored, "removed");
        }
        let kept = ["_id", "id", "patientId", "patient_id", "version", "first"];
        members.retain(|member, _| !kept.contains(&member.as_str()));
        assert_eq!(members, [].into());
    }
    for secret in ["SECRETNAME", "SECRETLAB"] {
        assert!(!stores.raw.files_contain(secret), "{secret} is still in a file");
    }
}
