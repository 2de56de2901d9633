//! Which patients were erased.

use domain::ids::{KeyId, PatientId};
use projections::{change::StreamChange, documents::Erasure, store::Applied};
use uuid::Uuid;

use super::{
    backends::Stores,
    fixtures::{KID, full_history, full_history_and, own_tests, patient_id, run, test_id, whole},
};

fn kid(n: u128) -> KeyId {
    KeyId::new(Uuid::from_u128(n))
}

fn erasure(id: u128) -> StreamChange {
    let tests = [(test_id(1_000 * id + 1), 2), (test_id(1_000 * id + 2), 4)];
    StreamChange::erasure(patient_id(id), kid(id), 7, tests)
}

fn entry(id: u128) -> Erasure {
    Erasure { patient: patient_id(id), kid: kid(id) }
}

pub(super) async fn erasures_are_listed_by_patient(stores: &Stores) {
    let generation = stores.generation().await;
    let list = async |after: Option<u128>, limit| {
        let after: Option<PatientId> = after.map(patient_id);
        stores.two.erasures(generation, after, limit).await.unwrap()
    };
    assert_eq!(list(None, 10).await, []);
    // At every cursor: of a stream that is not there, that has begun, that is all there.
    for (id, cursor) in [(3, 0), (1, 1), (2, 4), (4, 6)] {
        let events = own_tests(full_history(), id);
        if cursor > 0 {
            let change = run(patient_id(id), &events, 0, cursor);
            stores.one.apply(generation, &[change]).await.unwrap();
        }
        let results = stores.one.apply(generation, &[erasure(id)]).await.unwrap();
        assert_eq!(results, [Applied::Done], "{id}");
        assert!(stores.two.tests(generation, patient_id(id)).await.unwrap().is_empty());
    }
    assert_eq!(list(None, 10).await, [1, 2, 3, 4].map(entry));
    assert_eq!(list(None, 2).await, [1, 2].map(entry));
    assert_eq!(list(Some(2), 2).await, [3, 4].map(entry));
    assert_eq!(list(Some(4), 2).await, []);
    assert_eq!(list(None, 0).await, []);
    let other = stores.one.create().await.unwrap();
    assert_eq!(stores.two.erasures(other, None, 10).await.unwrap(), []);
}

/// Where the cursor says that everything is applied, the entry may still be missing.
pub(super) async fn an_erasure_leaves_its_entry_wherever_the_cursor_is(stores: &Stores) {
    let generation = stores.generation().await;
    let events = own_tests(full_history_and([domain::event::Event::PatientErased]), 1);
    let change = whole(patient_id(1), &events);
    assert_eq!(change.erased, None);
    assert_eq!(stores.one.apply(generation, &[change]).await.unwrap(), [Applied::Done]);
    assert_eq!(stores.two.erasures(generation, None, 10).await.unwrap(), []);
    for _ in 0..2 {
        let results = stores.one.apply(generation, &[erasure(1)]).await.unwrap();
        assert_eq!(results, [Applied::Already]);
        assert_eq!(stores.two.erasures(generation, None, 10).await.unwrap(), [entry(1)]);
    }
}

/// The key is all that the entry says beside the patient.
pub(super) async fn rows_of_erasures_and_parked_streams_hold_no_content(stores: &Stores) {
    use projections::documents::Parked;
    let generation = stores.generation().await;
    let events = own_tests(full_history(), 1);
    stores.one.apply(generation, &[whole(patient_id(1), &events)]).await.unwrap();
    let change = StreamChange { erased: Some(KID), ..erasure(1) };
    stores.one.apply(generation, &[change]).await.unwrap();
    let parked = Parked {
        patient: patient_id(1),
        seq: 5,
        reason: "a key is missing".to_owned(),
        at: super::fixtures::at(5),
        retry: true,
    };
    stores.one.park(generation, &parked).await.unwrap();
    for (kind, expected) in
        [("erasures", &["kid"][..]), ("parked", &["at", "reason", "retry", "seq"][..])]
    {
        let table = format!("{kind}_g{}", generation.0);
        let members = stores.raw.members(&table, &patient_id(1).to_string()).await;
        let names: Vec<&str> = members.keys().map(String::as_str).collect();
        let names: Vec<&str> =
            names.into_iter().filter(|name| !["_id", "patient"].contains(name)).collect();
        if !members.is_empty() {
            assert_eq!(names, expected);
            assert!(!members.values().any(|value| value.contains("ANN")), "{members:?}");
        }
    }
}

/// A crash in the midst of dropping a generation leaves what no list names any more.
pub(super) async fn an_erasure_reaches_what_a_crash_left_of_a_dropped_generation(stores: &Stores) {
    let first = stores.generation().await;
    let second = stores.one.create().await.unwrap();
    stores.one.drop_generation(second).await.unwrap();
    let events = own_tests(full_history(), 1);
    stores.one.apply(first, &[whole(patient_id(1), &events)]).await.unwrap();
    stores.raw.copy_of_dropped("patients_g1", "patients_g2").await;
    stores.one.apply(first, &[erasure(1)]).await.unwrap();
    assert!(!stores.raw.tables().await.iter().any(|table| table == "patients_g2"));
}
