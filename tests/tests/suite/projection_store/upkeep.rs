//! Who moves the position of a generation, and what could not be applied.

use domain::hash::Hash;
use projections::{
    documents::{Generation, Office, Parked, Position},
    store::{ProjectionStore, StoreError},
};
use uuid::Uuid;

use super::{
    backends::Stores,
    fixtures::{at, patient_id},
    generations::refused,
};

const ROUNDS: u64 = 20;

fn position(next_seq: u64) -> Position {
    Position { next_seq, hash: Hash([7; 32]), at: at(next_seq) }
}

fn parked(id: u128, seq: u64) -> Parked {
    let reason = format!("the record at {seq} cannot be applied");
    Parked { patient: patient_id(id), seq, reason, at: at(seq), retry: false }
}

/// Every write that only the holder may do is refused.
async fn check_fenced(store: &dyn ProjectionStore, generation: Generation, office: &Office) {
    let stays = async || {
        let (position, office) = (store.position(generation), store.office(generation));
        (position.await.unwrap(), office.await.unwrap(), store.note(generation).await.unwrap())
    };
    let before = stays().await;
    let refusals = [
        store.set_position(generation, &position(1_000), office).await,
        store.set_position(generation, &position(0), office).await,
        store.beat(generation, office).await,
        store.set_note(generation, "of one who is deposed", office).await,
    ];
    for refusal in refusals {
        assert!(matches!(refusal, Err(StoreError::Fenced)), "{refusal:?}");
    }
    store.leave_office(generation, office).await.unwrap();
    assert_eq!(stays().await, before);
}

pub(super) async fn an_office_is_taken_by_one_of_two_at_once(stores: &Stores) {
    let generation = stores.generation().await;
    for term in 1..=ROUNDS {
        let seen = stores.one.office(generation).await.unwrap();
        let holders = [Uuid::new_v4(), Uuid::new_v4()];
        let (one, two) = tokio::join!(
            stores.one.take_office(generation, seen, holders[0]),
            stores.two.take_office(generation, seen, holders[1]),
        );
        let taken: Vec<Office> = [one, two].into_iter().filter_map(Result::unwrap).collect();
        let [office] = taken[..] else { panic!("{taken:?}") };
        assert_eq!((office.term, office.beat), (term, 0));
        assert!(holders.map(Some).contains(&office.holder));
        assert_eq!(stores.two.office(generation).await.unwrap(), Some(office));
    }
}

pub(super) async fn an_office_whose_holder_is_alive_is_not_taken(stores: &Stores) {
    let generation = stores.generation().await;
    assert_eq!(stores.one.office(generation).await.unwrap(), None);
    let office = stores.in_office(generation).await;
    assert_eq!(stores.two.take_office(generation, None, Uuid::new_v4()).await.unwrap(), None);
    stores.one.beat(generation, &office).await.unwrap();
    let taken = stores.two.take_office(generation, Some(office), Uuid::new_v4()).await;
    assert_eq!(taken.unwrap(), None);
    stores.one.set_position(generation, &position(3), &office).await.unwrap();
    // Not ahead, but alive.
    stores.one.set_position(generation, &position(2), &office).await.unwrap();
    stores.one.set_note(generation, "half way", &office).await.unwrap();
    let seen = stores.two.office(generation).await.unwrap();
    assert_eq!(seen, Some(Office { beat: 4, ..office }));
    assert_eq!(stores.two.position(generation).await.unwrap(), Some(position(3)));
    let other = stores.one.create().await.unwrap();
    assert_eq!(stores.two.office(other).await.unwrap(), None);
}

pub(super) async fn who_is_deposed_moves_nothing_any_more(stores: &Stores) {
    let generation = stores.generation().await;
    let never = Office { holder: Some(Uuid::new_v4()), term: 1, beat: 0 };
    check_fenced(&*stores.one, generation, &never).await;
    let first = stores.in_office(generation).await;
    stores.one.set_position(generation, &position(5), &first).await.unwrap();
    stores.one.set_note(generation, "half way", &first).await.unwrap();
    let second = stores.in_office(generation).await;
    assert_eq!(second.term, 2);
    check_fenced(&*stores.one, generation, &first).await;
    // The same term, but another's.
    check_fenced(&*stores.two, generation, &Office { holder: first.holder, ..second }).await;
    check_fenced(&*stores.two, generation, &Office { holder: None, ..second }).await;
    stores.two.set_position(generation, &position(6), &second).await.unwrap();
    assert_eq!(stores.one.position(generation).await.unwrap(), Some(position(6)));
    assert_eq!(stores.one.note(generation).await.unwrap().as_deref(), Some("half way"));
}

pub(super) async fn who_left_office_is_followed_at_once(stores: &Stores) {
    let generation = stores.generation().await;
    let first = stores.in_office(generation).await;
    stores.one.leave_office(generation, &first).await.unwrap();
    check_fenced(&*stores.one, generation, &first).await;
    let seen = stores.two.office(generation).await.unwrap();
    assert_eq!(seen.map(|office| (office.holder, office.term)), Some((None, 1)));
    let next = stores.two.take_office(generation, seen, Uuid::new_v4()).await.unwrap().unwrap();
    assert_eq!(next.term, 2);
    stores.two.beat(generation, &next).await.unwrap();
}

pub(super) async fn a_note_is_what_was_written_last(stores: &Stores) {
    let generation = stores.generation().await;
    assert_eq!(stores.one.note(generation).await.unwrap(), None);
    let office = stores.in_office(generation).await;
    let long = format!("{{\"$set\": {}}}", "x".repeat(8_000));
    for note in ["first", long.as_str(), ""] {
        stores.one.set_note(generation, note, &office).await.unwrap();
        assert_eq!(stores.two.note(generation).await.unwrap().as_deref(), Some(note));
    }
    assert_eq!(stores.two.position(generation).await.unwrap(), None);
}

pub(super) async fn parked_streams_are_listed_retried_and_forgotten(stores: &Stores) {
    let generation = stores.generation().await;
    let list = async |after: Option<u128>, limit| {
        stores.two.parked(generation, after.map(patient_id), limit).await.unwrap()
    };
    assert_eq!(list(None, 10).await, []);
    for id in [4, 2, 5, 1, 3] {
        stores.one.park(generation, &parked(id, 10 * u64::try_from(id).unwrap())).await.unwrap();
    }
    // Parked again, it is what was said last.
    stores.two.park(generation, &parked(2, 21)).await.unwrap();
    let all = [parked(1, 10), parked(2, 21), parked(3, 30), parked(4, 40), parked(5, 50)];
    assert_eq!(list(None, 10).await, all);
    assert_eq!(list(None, 2).await, all[..2]);
    assert_eq!(list(Some(2), 2).await, all[2..4]);
    assert_eq!(list(Some(4), 2).await, all[4..]);
    assert_eq!(list(None, 0).await, []);

    let some = [9, 3, 2].map(patient_id);
    assert_eq!(stores.one.retry_parked(generation, Some(&some)).await.unwrap(), 2);
    assert_eq!(stores.one.retry_parked(generation, Some(&[])).await.unwrap(), 0);
    let retried: Vec<bool> = list(None, 10).await.iter().map(|parked| parked.retry).collect();
    assert_eq!(retried, [false, true, true, false, false]);
    stores.one.park(generation, &parked(2, 22)).await.unwrap();
    assert_eq!(list(Some(1), 1).await, [parked(2, 22)]);
    assert_eq!(stores.one.retry_parked(generation, None).await.unwrap(), 5);
    assert!(list(None, 10).await.iter().all(|parked| parked.retry));

    for id in [2, 4, 9] {
        stores.one.unpark(generation, patient_id(id)).await.unwrap();
    }
    let left: Vec<_> = list(None, 10).await.iter().map(|parked| parked.patient).collect();
    assert_eq!(left, [1, 3, 5].map(patient_id));

    let other = stores.one.create().await.unwrap();
    assert_eq!(stores.two.parked(other, None, 10).await.unwrap(), []);
    assert_eq!(stores.one.retry_parked(other, None).await.unwrap(), 0);
}

pub(super) async fn books_of_a_missing_generation_are_refused(stores: &Stores) {
    stores.generation().await;
    let dropped = stores.one.create().await.unwrap();
    // Both stores know the generation, one of them drops it.
    let office = stores.in_office(dropped).await;
    stores.two.beat(dropped, &office).await.unwrap();
    stores.one.park(dropped, &parked(1, 1)).await.unwrap();
    stores.one.drop_generation(dropped).await.unwrap();
    let never = Generation(9);
    for (store, generation) in [(&stores.one, never), (&stores.one, dropped), (&stores.two, never)]
    {
        let number = generation.0;
        refused(store.position(generation).await, number);
        refused(store.office(generation).await, number);
        refused(store.note(generation).await, number);
        refused(store.parked(generation, None, 10).await, number);
        refused(store.park(generation, &parked(1, 1)).await, number);
        refused(store.retry_parked(generation, None).await, number);
        refused(store.unpark(generation, patient_id(1)).await, number);
    }
    for (store, generation) in
        [(&stores.two, dropped), (&stores.one, dropped), (&stores.two, never)]
    {
        let number = generation.0;
        refused(store.take_office(generation, None, Uuid::new_v4()).await, number);
        refused(store.beat(generation, &office).await, number);
        refused(store.set_position(generation, &position(9), &office).await, number);
        refused(store.set_note(generation, "", &office).await, number);
        refused(store.leave_office(generation, &office).await, number);
    }
}
