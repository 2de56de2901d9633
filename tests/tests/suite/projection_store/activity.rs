//! Activity and the follower's position.

use domain::{
    actor::{Actor, ActorKind, Outcome, Purpose},
    hash::Hash,
    ids::TraceId,
    record::RecordType,
};
use projections::{
    documents::{ActivityDoc, ActivityFilter, ActivityPage, Position},
    store::ACTIVITY_WINDOW,
};

use super::{
    backends::Stores,
    fixtures::{at, patient_id, test_id},
};

pub(super) fn bare(seq: u64, patients: &[u128]) -> ActivityDoc {
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

pub(super) fn full(seq: u64, patient: u128) -> ActivityDoc {
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

/// Records of four kinds, three patients, three actors; three at each time.
fn varied(seq: u64) -> ActivityDoc {
    let types = [
        RecordType::PatientRead,
        RecordType::PatientsSearched,
        RecordType::TestRead,
        RecordType::AccessRefused,
    ];
    let index = |length: usize, every: u64| usize::try_from(seq / every).unwrap() % length;
    let actor = ["ann", "bea", "cleo"][index(3, 2)];
    ActivityDoc {
        at: at(seq / 3),
        record_type: types[index(4, 1)],
        outcome: [Outcome::Success, Outcome::Denied][index(2, 3)],
        purpose: [Purpose::Treatment, Purpose::BreakTheGlass][index(2, 5)],
        actor: Actor { id: actor.parse().unwrap(), ..bare(0, &[]).actor },
        ..bare(seq, [&[1, 2][..], &[2], &[], &[3, 1]][index(4, 7)])
    }
}

pub(super) async fn each_filter_alone_and_all_together_show_what_fits(stores: &Stores) {
    const RECORDS: u64 = 200;
    let generation = stores.generation().await;
    let documents: Vec<ActivityDoc> = (0..RECORDS).map(varied).collect();
    stores.one.write_activity(generation, &documents).await.unwrap();
    let patients = [None, Some(patient_id(1)), Some(patient_id(2)), Some(patient_id(9))];
    let actors = [None, Some("bea"), Some("nobody")];
    let types = [None, Some(RecordType::TestRead), Some(RecordType::PatientErased)];
    let purposes = [None, Some(Purpose::BreakTheGlass)];
    let outcomes = [None, Some(Outcome::Denied), Some(Outcome::Failed)];
    let times = [
        (None, None),
        (Some(at(20)), None),
        (None, Some(at(50))),
        (Some(at(20)), Some(at(50))),
        (Some(at(50)), Some(at(20))),
        (Some(at(0)), Some(at(10_000))),
        (Some(at(10_000)), None),
        (None, Some(at(0))),
    ];
    let mut filters = Vec::new();
    for patient in patients {
        for actor in actors {
            for record_type in types {
                for purpose in purposes {
                    for outcome in outcomes {
                        filters.extend(times.map(|(from, until)| ActivityFilter {
                            patient,
                            actor: actor.map(|actor| actor.parse().unwrap()),
                            record_type,
                            purpose,
                            outcome,
                            from,
                            until,
                        }));
                    }
                }
            }
        }
    }
    for filter in filters {
        let expected: Vec<u64> =
            documents.iter().rev().filter(|it| filter.fits(it)).map(|it| it.seq).collect();
        for limit in [1_000, 17] {
            let (mut found, mut before) = (Vec::new(), None);
            loop {
                let page = stores.two.activity(generation, &filter, before, limit).await.unwrap();
                assert!(page.documents.len() <= limit);
                found.extend(page.documents.iter().map(|it| it.seq));
                before = page.next;
                if before.is_none() {
                    break;
                }
            }
            assert_eq!(found, expected, "{filter:?}");
        }
    }
}

pub(super) async fn a_page_may_be_short_and_not_the_last(stores: &Stores) {
    let generation = stores.generation().await;
    let window = ACTIVITY_WINDOW as u64;
    // The two records that fit lie one window apart, and the second is the oldest.
    let documents: Vec<ActivityDoc> = (0..=window + 3)
        .map(|seq| {
            let fits = [0, window].contains(&seq);
            let outcome = if fits { Outcome::Denied } else { Outcome::Success };
            ActivityDoc { outcome, ..bare(seq, &[1]) }
        })
        .collect();
    for documents in documents.chunks(1_000) {
        stores.one.write_activity(generation, documents).await.unwrap();
    }
    let denied = ActivityFilter { outcome: Some(Outcome::Denied), ..ActivityFilter::default() };
    let of_patient = ActivityFilter { patient: Some(patient_id(1)), ..denied.clone() };
    let of_actor = ActivityFilter { actor: Some("clinic".parse().unwrap()), ..denied.clone() };
    for filter in [denied, of_patient, of_actor] {
        let page = async |before| {
            let page = stores.two.activity(generation, &filter, before, 10).await.unwrap();
            (page.documents.iter().map(|it| it.seq).collect::<Vec<_>>(), page.next)
        };
        assert_eq!(page(None).await, (vec![window], Some(4)));
        assert_eq!(page(Some(4)).await, (vec![0], None));
        // A page without any document, that is not the last either.
        assert_eq!(page(Some(window)).await, (vec![0], None));
        let nothing = ActivityFilter { outcome: Some(Outcome::Failed), ..filter.clone() };
        let page = stores.two.activity(generation, &nothing, None, 10).await.unwrap();
        assert_eq!(page, ActivityPage { documents: Vec::new(), next: Some(4) });
    }
}

pub(super) async fn values_of_filters_are_never_operators(stores: &Stores) {
    let generation = stores.generation().await;
    stores.one.write_activity(generation, &[bare(1, &[1])]).await.unwrap();
    // Names are of a closed alphabet; these are what it allows that comes nearest.
    for name in ["clinic.", "_", "-", "ne", "Clinic", "clini"] {
        let actor = Some(name.parse().unwrap());
        let filter = ActivityFilter { actor, ..ActivityFilter::default() };
        let page = stores.two.activity(generation, &filter, None, 10).await.unwrap();
        assert_eq!(page, ActivityPage { documents: Vec::new(), next: None }, "{name}");
    }
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
