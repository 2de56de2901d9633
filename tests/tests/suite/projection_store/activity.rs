//! Activity and the follower's position.

use domain::{
    actor::{Actor, ActorKind, Outcome, Purpose},
    hash::Hash,
    ids::TraceId,
    record::RecordType,
};
use projections::documents::{ActivityDoc, ActivityFilter, Position};

use super::{
    backends::Stores,
    fixtures::{at, patient_id, test_id},
};

fn bare(seq: u64, patients: &[u128]) -> ActivityDoc {
    ActivityDoc {
        seq,
        at: at(seq),
        record_type: RecordType::PatientsSearched,
        outcome: Outcome::Success,
        purpose: Purpose::Treatment,
        actor: Actor {
            id: "clinic".parse().unwrap(),
            kind: ActorKind::Subscription,
            roles: Vec::new(),
        },
        source: "patient-service".parse().unwrap(),
        client: None,
        trace: None,
        test: None,
        patients: patients.iter().copied().map(patient_id).collect(),
    }
}

fn full(seq: u64, patient: u128) -> ActivityDoc {
    ActivityDoc {
        record_type: RecordType::TestRead,
        outcome: Outcome::NotFound,
        purpose: Purpose::BreakTheGlass,
        actor: Actor {
            id: "0d3b".parse().unwrap(),
            kind: ActorKind::User,
            roles: vec!["nurse".parse().unwrap(), "night-shift".parse().unwrap()],
        },
        client: Some("2001:db8::7".parse().unwrap()),
        trace: TraceId::new([7; 16]),
        test: Some(test_id(3)),
        ..bare(seq, &[patient])
    }
}

fn of_patient(patient: u128) -> ActivityFilter {
    ActivityFilter { patient: Some(patient_id(patient)), ..ActivityFilter::default() }
}

pub(super) async fn a_record_written_twice_stays_once(stores: &Stores) {
    let generation = stores.generation().await;
    let documents = [full(5, 1), bare(6, &[1, 2])];
    stores.one.write_activity(generation, &documents).await.unwrap();
    let again = [bare(4, &[1]), full(6, 1), full(5, 1), bare(7, &[])];
    stores.two.write_activity(generation, &again).await.unwrap();
    stores.two.write_activity(generation, &[]).await.unwrap();
    let of = async |patient| {
        let page = stores.two.activity(generation, &of_patient(patient), None, 10).await.unwrap();
        assert_eq!(page.next, None);
        page.documents
    };
    assert_eq!(of(1).await, [bare(6, &[1, 2]), full(5, 1), bare(4, &[1])]);
    assert_eq!(of(2).await, [bare(6, &[1, 2])]);
    assert_eq!(of(3).await, []);
}

pub(super) async fn pages_go_back_in_time(stores: &Stores) {
    let generation = stores.generation().await;
    let documents: Vec<ActivityDoc> =
        (0..30).map(|seq| bare(seq, if seq % 3 == 0 { &[1] } else { &[2, 3] })).collect();
    stores.one.write_activity(generation, &documents).await.unwrap();
    let (mut seqs, mut before) = (Vec::new(), None);
    loop {
        let page = stores.two.activity(generation, &of_patient(1), before, 4).await.unwrap();
        seqs.extend(page.documents.iter().map(|document| document.seq));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seqs, [27, 24, 21, 18, 15, 12, 9, 6, 3, 0]);
}

pub(super) async fn a_position_only_moves_forward(stores: &Stores) {
    let (first, second) = (stores.generation().await, stores.one.create().await.unwrap());
    let position =
        |next_seq: u64, byte: u8| Position { next_seq, hash: Hash([byte; 32]), at: at(next_seq) };
    let office = stores.in_office(first).await;
    let read = async || stores.two.position(first).await.unwrap();
    assert_eq!(read().await, None);
    for (set, expected) in [
        (position(5, 1), position(5, 1)),
        (position(9, 2), position(9, 2)),
        (position(9, 3), position(9, 2)),
        (position(7, 4), position(9, 2)),
        (position(10, 5), position(10, 5)),
    ] {
        stores.one.set_position(first, &set, &office).await.unwrap();
        assert_eq!(read().await, Some(expected));
    }
    assert_eq!(stores.two.position(second).await.unwrap(), None);
    let (behind, racing) = (position(19, 2), position(20, 1));
    let office = stores.in_office(second).await;
    let (one, two) = tokio::join!(
        stores.one.set_position(second, &behind, &office),
        stores.two.set_position(second, &racing, &office),
    );
    one.and(two).unwrap();
    assert_eq!(stores.one.position(second).await.unwrap(), Some(racing));
}
