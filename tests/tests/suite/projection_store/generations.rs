//! Making, choosing and dropping generations.

use domain::{search::SearchCriteria, time::first_day};
use projections::{
    change::StreamChange,
    documents::{ActivityFilter, Generation, Office, Parked, Pointer, Position},
    store::{ProjectionStore, StoreError},
};

use super::{
    backends::Stores,
    fixtures::{KID, at, history, patient_id, registered, test_id, whole},
};

#[track_caller]
pub(super) fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>, generation: u32) {
    match result {
        Err(StoreError::Generation(number)) => assert_eq!(number, generation),
        other => panic!("{other:?} is no refusal of generation {generation}"),
    }
}

pub(super) async fn two_stores_at_once_make_one_first_generation(stores: &Stores) {
    let (one, two) = tokio::join!(stores.one.serving(), stores.two.serving());
    assert_eq!((one.unwrap(), two.unwrap()), (Generation(1), Generation(1)));
    assert_eq!(stores.two.list().await.unwrap(), [Generation(1)]);
    assert_eq!(stores.one.serving().await.unwrap(), Generation(1));
}

pub(super) async fn a_new_generation_is_empty_and_does_not_serve(stores: &Stores) {
    let first = stores.generation().await;
    let change = whole(patient_id(1), &history([registered("ANN")]));
    stores.one.apply(first, std::slice::from_ref(&change)).await.unwrap();

    let second = stores.one.create().await.unwrap();
    assert_eq!(second, Generation(2));
    assert_eq!(stores.two.list().await.unwrap(), [first, second]);
    assert_eq!(stores.two.serving().await.unwrap(), first);
    assert_eq!(stores.two.patient(second, patient_id(1)).await.unwrap(), None);
    assert_eq!(stores.two.scan_patients(second, None, 10).await.unwrap(), []);

    stores.two.apply(second, &[change]).await.unwrap();
    assert!(stores.two.activate(second, pointer(1, None)).await.unwrap());
    assert_eq!(stores.one.serving().await.unwrap(), second);
    assert!(stores.one.patient(second, patient_id(1)).await.unwrap().is_some());
    assert_eq!(stores.one.list().await.unwrap(), [first, second]);
}

pub(super) async fn a_serving_generation_is_not_dropped(stores: &Stores) {
    let first = stores.generation().await;
    refused(stores.one.drop_generation(first).await, 1);
    let second = stores.one.create().await.unwrap();
    assert!(stores.one.activate(second, pointer(1, None)).await.unwrap());
    refused(stores.two.drop_generation(second).await, 2);
    stores.one.settle(first).await.unwrap();
    stores.two.drop_generation(first).await.unwrap();
    assert_eq!(stores.one.list().await.unwrap(), [second]);
    let tables = stores.raw.tables().await;
    assert!(!tables.iter().any(|table| table.ends_with("_g1")), "{tables:?}");
}

fn pointer(serving: u32, also: Option<u32>) -> Pointer {
    Pointer { serving: Generation(serving), also: also.map(Generation) }
}

pub(super) async fn a_pointer_moves_by_way_of_both_generations(stores: &Stores) {
    let first = stores.generation().await;
    let second = stores.one.create().await.unwrap();
    let third = stores.two.create().await.unwrap();
    let read = async || stores.two.pointer().await.unwrap();
    let one = &stores.one;
    assert_eq!(read().await, pointer(1, None));
    refused(one.join(first).await, 1);
    // Each step twice: whoever did not hear the answer does it again.
    for _ in 0..2 {
        one.join(third).await.unwrap();
        assert_eq!(read().await, pointer(1, Some(3)));
    }
    one.join(second).await.unwrap();
    assert_eq!(read().await, pointer(1, Some(2)));
    assert!(one.activate(first, pointer(1, Some(2))).await.unwrap());
    assert_eq!(read().await, pointer(1, Some(2)));
    for _ in 0..2 {
        assert!(one.activate(second, pointer(1, Some(2))).await.unwrap());
        assert_eq!(read().await, pointer(2, Some(1)));
        assert_eq!(stores.one.serving().await.unwrap(), second);
    }
    for generation in [first, second] {
        refused(stores.two.drop_generation(generation).await, generation.0);
    }
    for other in [third, second, Generation(9)] {
        one.settle(other).await.unwrap();
        assert_eq!(read().await, pointer(2, Some(1)));
    }
    for _ in 0..2 {
        one.settle(first).await.unwrap();
        assert_eq!(read().await, pointer(2, None));
    }
    refused(stores.two.drop_generation(second).await, 2);
    // Back again, and a third one without the other's consent.
    assert!(one.activate(first, pointer(2, None)).await.unwrap());
    assert!(one.activate(third, pointer(1, Some(2))).await.unwrap());
    assert_eq!(read().await, pointer(3, Some(1)));
    stores.two.drop_generation(second).await.unwrap();
    assert_eq!(stores.one.list().await.unwrap(), [first, third]);
    assert_eq!(read().await, pointer(3, Some(1)));
    refused(one.join(second).await, 2);
    refused(one.activate(second, pointer(3, Some(1))).await, 2);
}

pub(super) async fn a_pointer_that_is_not_as_expected_stays(stores: &Stores) {
    stores.generation().await;
    let second = stores.one.create().await.unwrap();
    let third = stores.one.create().await.unwrap();
    stores.one.join(second).await.unwrap();
    let read = async || stores.one.pointer().await.unwrap();
    let others = [(1, None), (1, Some(3)), (2, None), (2, Some(1)), (3, Some(1)), (9, None)];
    for (serving, also) in others {
        let expected = pointer(serving, also);
        for generation in [second, third] {
            let moved = stores.two.activate(generation, expected).await.unwrap();
            assert!(!moved, "{generation:?} by way of {expected:?}");
            assert_eq!(read().await, pointer(1, Some(2)));
        }
    }
    // Commands were told to leave it a moment ago.
    stores.two.settle(second).await.unwrap();
    assert!(!stores.one.activate(second, pointer(1, Some(2))).await.unwrap());
    assert_eq!(read().await, pointer(1, None));
}

pub(super) async fn of_two_that_activate_at_once_one_does(stores: &Stores) {
    let first = stores.generation().await;
    let second = stores.one.create().await.unwrap();
    let third = stores.one.create().await.unwrap();
    let seen = pointer(1, None);
    let (one, two) =
        tokio::join!(stores.one.activate(second, seen), stores.two.activate(third, seen));
    let expected = match (one.unwrap(), two.unwrap()) {
        (true, false) => pointer(2, Some(1)),
        (false, true) => pointer(3, Some(1)),
        both => panic!("{both:?}"),
    };
    assert_eq!(stores.one.pointer().await.unwrap(), expected);
    refused(stores.one.drop_generation(first).await, 1);
}

pub(super) async fn nothing_of_a_dropped_generation_is_left(stores: &Stores) {
    stores.generation().await;
    let second = stores.one.create().await.unwrap();
    let office = stores.in_office(second).await;
    stores.one.set_note(second, "SECRETNOTE", &office).await.unwrap();
    let patient = patient_id(1);
    let erasure = StreamChange::erasure(patient, KID, 2, [(test_id(1), 1)]);
    stores.one.apply(second, &[erasure]).await.unwrap();
    let (seq, reason) = (1, "why".to_owned());
    let parked = Parked { patient, seq, reason, at: at(1), retry: false };
    stores.one.park(second, &parked).await.unwrap();
    let tables = stores.raw.tables().await;
    let kinds = ["erasures_g2", "parked_g2", "patients_g2", "tests_g2", "activity_g2"];
    let exists = |kind: &&str| tables.iter().any(|table| table == kind);
    assert!(tables.is_empty() || kinds.iter().all(exists), "{tables:?}");

    stores.two.drop_generation(second).await.unwrap();
    let tables = stores.raw.tables().await;
    assert!(!tables.iter().any(|table| table.ends_with("_g2")), "{tables:?}");
    assert!(!stores.raw.mentions_books(second).await);
}

pub(super) async fn a_number_is_never_used_again(stores: &Stores) {
    stores.generation().await;
    let second = stores.one.create().await.unwrap();
    let position = Position { next_seq: 1, hash: domain::hash::Hash::ZERO, at: at(1) };
    stores.one.set_position(second, &position, &stores.in_office(second).await).await.unwrap();
    stores.one.drop_generation(second).await.unwrap();
    let third = stores.two.create().await.unwrap();
    assert_eq!(third, Generation(3));
    assert_eq!(stores.two.position(third).await.unwrap(), None);
    assert_eq!(stores.one.list().await.unwrap(), [Generation(1), third]);
}

pub(super) async fn two_stores_that_create_at_once_get_two_generations(stores: &Stores) {
    let (one, two) = tokio::join!(stores.one.create(), stores.two.create());
    let mut made = [one.unwrap(), two.unwrap()];
    made.sort_unstable();
    assert_eq!(made, [Generation(2), Generation(3)]);
    assert_eq!(stores.one.list().await.unwrap(), [1, 2, 3].map(Generation));
    assert_eq!(stores.one.serving().await.unwrap(), Generation(1));
}

pub(super) async fn a_generation_that_does_not_exist_is_refused(stores: &Stores) {
    stores.generation().await;
    let missing = Generation(9);
    let change = whole(patient_id(1), &history([registered("ANN")]));
    let position = Position { next_seq: 1, hash: domain::hash::Hash::ZERO, at: at(1) };
    refused(stores.one.activate(missing, pointer(1, None)).await, 9);
    refused(stores.one.join(missing).await, 9);
    refused(stores.one.drop_generation(missing).await, 9);
    refused(stores.one.apply(missing, std::slice::from_ref(&change)).await, 9);
    let office = Office { holder: None, term: 1, beat: 0 };
    refused(stores.one.set_position(missing, &position, &office).await, 9);
    refused(stores.one.cursors(missing, &[patient_id(1)]).await, 9);

    let second = stores.one.create().await.unwrap();
    stores.one.apply(second, std::slice::from_ref(&change)).await.unwrap();
    stores.one.drop_generation(second).await.unwrap();
    refused(stores.one.apply(second, &[change]).await, 2);
    refused(stores.one.activate(second, pointer(1, None)).await, 2);
}

pub(super) async fn reads_of_a_generation_that_does_not_exist_are_refused(stores: &Stores) {
    stores.generation().await;
    let dropped = stores.one.create().await.unwrap();
    for answer in reads(&*stores.one, dropped).await {
        answer.unwrap();
    }
    stores.one.drop_generation(dropped).await.unwrap();
    let never = Generation(9);
    let asked = [(&stores.one, never), (&stores.one, dropped), (&stores.two, never)];
    for (store, generation) in asked.into_iter().chain([(&stores.two, dropped)]) {
        for answer in reads(&**store, generation).await {
            refused(answer, generation.0);
        }
    }
}

/// The answers of everything that reads a generation.
async fn reads(
    store: &dyn ProjectionStore,
    generation: Generation,
) -> [Result<(), StoreError>; 12] {
    let timed = ActivityFilter { from: Some(at(1)), ..ActivityFilter::default() };
    let (patient, all) = (patient_id(1), SearchCriteria::default());
    let born =
        SearchCriteria { date_of_birth_from: first_day("1980"), ..SearchCriteria::default() };
    [
        store.patient(generation, patient).await.map(|_| ()),
        store.test(generation, patient, test_id(1)).await.map(|_| ()),
        store.tests(generation, patient).await.map(|_| ()),
        store.search(generation, &all, None, 1).await.map(|_| ()),
        store.search(generation, &born, None, 0).await.map(|_| ()),
        store.scan_patients(generation, None, 1).await.map(|_| ()),
        store.scan_tests(generation, None, 1).await.map(|_| ()),
        store.erasures(generation, None, 1).await.map(|_| ()),
        store.activity(generation, &timed, None, 1).await.map(|_| ()),
        store.activity(generation, &ActivityFilter::default(), None, 1).await.map(|_| ()),
        store.parked(generation, None, 1).await.map(|_| ()),
        store.cursors(generation, &[patient]).await.map(|_| ()),
    ]
}

pub(super) async fn a_store_that_was_not_replaced_confirms_its_answers(stores: &Stores) {
    stores.generation().await;
    stores.one.confirm().await.unwrap();
    stores.two.confirm().await.unwrap();
}
