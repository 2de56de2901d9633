//! What becomes of a change.

use domain::patient::Patient;
use projections::{change::StreamChange, documents::PatientState, store::Applied};

use super::{
    backends::Stores,
    fixtures::{
        KID, amended, full_history, full_history_and, history, own_tests, patient_id, registered,
        run, test, test_amended, test_id, test_recorded, whole,
    },
    interleavings::check_documents,
};

async fn apply(stores: &Stores, change: &StreamChange) -> Applied {
    let generation = stores.generation().await;
    let mut results = stores.one.apply(generation, std::slice::from_ref(change)).await.unwrap();
    assert_eq!(results.len(), 1);
    results.pop().unwrap()
}

/// The result that the port's documentation asks for.
fn expected(cursor: u64, from: u64, to: u64) -> Applied {
    match cursor {
        k if k >= to => Applied::Already,
        k if k < from => Applied::Gap { at: k },
        _ => Applied::Done,
    }
}

pub(super) async fn a_change_is_applied_is_there_already_or_leaves_a_gap(stores: &Stores) {
    let history = full_history();
    let last = history.len() as u64;
    let mut id = 0;
    for cursor in 0..=last {
        for from in 0..last {
            for to in from + 1..=last {
                id += 1;
                let patient = patient_id(id);
                // Tests are the patient's own, so each patient's get ids of their own.
                let history = own_tests(history.clone(), id);
                if cursor > 0 {
                    assert_eq!(
                        apply(stores, &run(patient, &history, 0, cursor)).await,
                        Applied::Done
                    );
                }
                let result = apply(stores, &run(patient, &history, from, to)).await;
                assert_eq!(result, expected(cursor, from, to), "{from}..={to} at {cursor}");
                let applied = if result == Applied::Done { to } else { cursor };
                // Behind a gap, tests may be ahead of the patient; nothing else may.
                let generation = stores.generation().await;
                let document = stores.one.patient(generation, patient).await.unwrap();
                assert_eq!(document.map_or(0, |it| it.version), applied);
                if !matches!(result, Applied::Gap { .. }) && applied > 0 {
                    let events = &history[..usize::try_from(applied).unwrap()];
                    check_documents(&*stores.two, generation, patient, events).await;
                }
            }
        }
    }
}

pub(super) async fn an_overlapping_change_is_applied_whole(stores: &Stores) {
    let (patient, history) = (patient_id(1), full_history());
    assert_eq!(apply(stores, &run(patient, &history, 0, 3)).await, Applied::Done);
    assert_eq!(apply(stores, &run(patient, &history, 1, 6)).await, Applied::Done);
    check_documents(&*stores.one, stores.generation().await, patient, &history).await;
}

pub(super) async fn a_change_applied_twice_is_applied_once(stores: &Stores) {
    let patient = patient_id(1);
    let history = full_history_and([domain::event::Event::PatientRemoved]);
    let change = whole(patient, &history);
    assert_eq!(apply(stores, &change).await, Applied::Done);
    assert_eq!(apply(stores, &change).await, Applied::Already);
    check_documents(&*stores.one, stores.generation().await, patient, &history).await;
}

pub(super) async fn one_batch_tells_each_change_its_own_result(stores: &Stores) {
    let history = history([registered("ANN"), amended("BEA"), amended("CLEO")]);
    let generation = stores.generation().await;
    for (id, cursor) in [(1, 1), (2, 2), (3, 3), (5, 2)] {
        apply(stores, &run(patient_id(id), &history, 0, cursor)).await;
    }
    let changes = [
        run(patient_id(1), &history, 2, 3),
        run(patient_id(2), &history, 2, 3),
        run(patient_id(3), &history, 2, 3),
        run(patient_id(4), &history, 0, 3),
        run(patient_id(5), &history, 0, 3),
        run(patient_id(6), &history, 1, 2),
    ];
    let expected = [
        Applied::Gap { at: 1 },
        Applied::Done,
        Applied::Already,
        Applied::Done,
        Applied::Done,
        Applied::Gap { at: 0 },
    ];
    assert_eq!(stores.one.apply(generation, &changes).await.unwrap(), expected);
    assert_eq!(stores.one.apply(generation, &[]).await.unwrap(), []);
}

pub(super) async fn a_batch_of_many_hundreds_is_applied(stores: &Stores) {
    let generation = stores.generation().await;
    let change = |id: u128| {
        let history = history([registered("ANN"), test_recorded(id, "lab")]);
        whole(patient_id(id), &history)
    };
    let changes: Vec<StreamChange> = (1..=1_200).map(change).collect();
    let results = stores.one.apply(generation, &changes).await.unwrap();
    assert_eq!(results, vec![Applied::Done; changes.len()]);
    let found = stores.two.scan_patients(generation, None, 2_000).await.unwrap();
    assert_eq!(found.len(), changes.len());
    let found = stores.two.scan_tests(generation, None, 2_000).await.unwrap();
    assert_eq!(found.len(), changes.len());
    let results = stores.two.apply(generation, &changes).await.unwrap();
    assert_eq!(results, vec![Applied::Already; changes.len()]);
}

pub(super) async fn an_amended_test_keeps_its_place(stores: &Stores) {
    let (patient, generation) = (patient_id(1), stores.generation().await);
    // The ids are in the opposite order of the recording.
    let history = history([
        registered("ANN"),
        test_recorded(9, "first"),
        test_recorded(5, "second"),
        test_recorded(1, "third"),
        test_amended(9, "first again"),
    ]);
    for to in 1..=5 {
        assert_eq!(apply(stores, &run(patient, &history, to - 1, to)).await, Applied::Done);
    }
    let tests = stores.two.tests(generation, patient).await.unwrap();
    let listed: Vec<_> = tests.iter().map(|test| (test.id, test.first, test.version)).collect();
    assert_eq!(listed, [(test_id(9), 2, 5), (test_id(5), 3, 3), (test_id(1), 4, 4)]);
    let current = tests[0].current.as_ref().unwrap();
    assert_eq!((&current.content, current.revision), (&test("first again"), 5));
}

pub(super) async fn tests_of_another_patient_are_not_found(stores: &Stores) {
    let generation = stores.generation().await;
    apply(stores, &whole(patient_id(1), &history([registered("A"), test_recorded(1, "a")]))).await;
    apply(stores, &whole(patient_id(2), &history([registered("B"), test_recorded(2, "b")]))).await;
    let test = |patient, id| stores.one.test(generation, patient_id(patient), test_id(id));
    assert!(test(1, 1).await.unwrap().is_some());
    assert!(test(1, 2).await.unwrap().is_none());
    assert!(test(1, 3).await.unwrap().is_none());
    assert!(test(3, 1).await.unwrap().is_none());
    assert_eq!(stores.one.tests(generation, patient_id(2)).await.unwrap().len(), 1);
    assert_eq!(stores.one.tests(generation, patient_id(3)).await.unwrap(), []);
}

pub(super) async fn a_stream_that_does_not_begin_with_a_registration_is_a_gap(stores: &Stores) {
    let change = whole(patient_id(1), &history([test_recorded(1, "lab")]));
    assert_eq!(apply(stores, &change).await, Applied::Gap { at: 0 });
    let generation = stores.generation().await;
    assert_eq!(stores.one.patient(generation, patient_id(1)).await.unwrap(), None);
}

pub(super) async fn cursors_are_of_what_is_applied(stores: &Stores) {
    let (generation, history) = (stores.generation().await, full_history());
    for (id, to) in [(1, 1), (2, 4), (3, 6)] {
        apply(stores, &run(patient_id(id), &own_tests(history.clone(), id), 0, to)).await;
    }
    let ids = [4, 3, 2, 1].map(patient_id);
    let cursors = stores.two.cursors(generation, &ids).await.unwrap();
    let expected = [(1, 1), (2, 4), (3, 6)].map(|(id, to)| (patient_id(id), to));
    assert_eq!(cursors, expected.into());
    assert_eq!(stores.two.cursors(generation, &[]).await.unwrap(), [].into());

    let document = stores.two.patient(generation, patient_id(3)).await.unwrap().unwrap();
    let PatientState::Active { kid, current } = document.state else { panic!("not active") };
    assert_eq!((kid, current.revision), (KID, 3));
    assert_eq!(Patient::replay(&history).view(patient_id(3)).unwrap().content, current.content);
}
