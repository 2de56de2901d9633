//! Digests and comparisons are of what documents say.

use domain::{event::Event, hash::Hash, ids::KeyId};
use projections::{
    change::StreamChange,
    compare::{Differing, differing},
    digest::{
        Difference, Document, activity_digest, compare, compare_activity, compare_one, digest,
    },
    documents::{ActivityDoc, Generation, Position},
    store::{Generations, ProjectionStore, ReadModels, WriteModels, memory::MemoryStore},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use uuid::Uuid;

use super::{
    activity::{bare, full},
    backends::Stores,
    fixtures::{
        amended, at, full_history, full_history_and, history, patient_id, registered, run,
        test_amended, test_id, test_recorded, test_removed, whole,
    },
    histories::random_history,
};

async fn in_memory(changes: &[StreamChange]) -> projections::digest::Digest {
    let memory = MemoryStore::default();
    let generation = memory.serving().await.unwrap();
    memory.apply(generation, changes).await.unwrap();
    digest(&memory, generation).await.unwrap()
}

pub(super) async fn equal_documents_have_equal_digests_whatever_the_store(stores: &Stores) {
    let mut rng = StdRng::seed_from_u64(11);
    let changes: Vec<StreamChange> = (0..450)
        .map(|_| {
            let patient = domain::ids::PatientId::new(Uuid::from_u128(rng.random()));
            whole(patient, &random_history(&mut rng))
        })
        .collect();
    let generation = stores.generation().await;
    stores.one.apply(generation, &changes).await.unwrap();
    let ours = digest(&*stores.two, generation).await.unwrap();
    assert_eq!(ours, in_memory(&changes).await);
    assert_eq!(ours.patients, 450);

    // The way there makes no difference: one event at a time, into another generation.
    let second = stores.one.create().await.unwrap();
    let mut rng = StdRng::seed_from_u64(11);
    for _ in 0..20 {
        let patient = domain::ids::PatientId::new(Uuid::from_u128(rng.random()));
        let events = random_history(&mut rng);
        for to in 1..=events.len() as u64 {
            let step = run(patient, &events, to - 1, to);
            stores.one.apply(second, &[step]).await.unwrap();
        }
    }
    assert_eq!(digest(&*stores.one, second).await.unwrap(), in_memory(&changes[..20]).await);
}

pub(super) async fn any_single_change_changes_the_digest(stores: &Stores) {
    let (generation, patient) = (stores.generation().await, patient_id(1));
    let events = full_history_and([
        test_recorded(3, "three"),
        test_amended(3, "three again"),
        test_removed(3),
        amended("CLEO"),
        Event::PatientRemoved,
        Event::PatientErased,
    ]);
    let mut seen = vec![digest(&*stores.one, generation).await.unwrap().hash];
    for to in 1..=events.len() as u64 {
        stores.one.apply(generation, &[run(patient, &events, to - 1, to)]).await.unwrap();
        let hash = digest(&*stores.one, generation).await.unwrap().hash;
        assert!(!seen.contains(&hash), "version {to}");
        seen.push(hash);
    }
    assert_eq!(digest(&*stores.one, generation).await.unwrap().hash, *seen.last().unwrap());
}

pub(super) async fn an_erasure_is_part_of_the_digest(stores: &Stores) {
    let (first, second) = (stores.generation().await, stores.one.create().await.unwrap());
    let third = stores.one.create().await.unwrap();
    let patient = patient_id(1);
    let erasure = |kid: u128, version| {
        StreamChange::erasure(patient, KeyId::new(Uuid::from_u128(kid)), version, [])
    };
    // Everything but the entry is equal.
    let without = StreamChange { erased: None, ..erasure(1, 2) };
    for (generation, change) in [(first, erasure(1, 2)), (second, erasure(2, 2)), (third, without)]
    {
        stores.one.apply(generation, &[change]).await.unwrap();
    }
    let store: &dyn ReadModels = &*stores.two;
    let digest = async |generation| digest(store, generation).await.unwrap();
    let digests = [digest(first).await, digest(second).await, digest(third).await];
    assert_eq!(digests.map(|it| (it.patients, it.erasures)), [(1, 1), (1, 1), (1, 0)]);
    assert!(digests[0].hash != digests[1].hash && digests[0].hash != digests[2].hash);
    assert_eq!(digests[0], in_memory(&[erasure(1, 2)]).await);
    let document = Document::Erasure(patient);
    for (other, version) in [(second, Some(0)), (third, None)] {
        let expected = Difference { document, first: Some(0), second: version };
        assert_eq!(compare(store, first, other).await.unwrap(), [expected]);
    }
    stores.one.apply(third, &[erasure(1, 2)]).await.unwrap();
    assert_eq!(compare(store, first, third).await.unwrap(), []);
}

/// Follows into a generation: activity first, then the position.
async fn follow(store: &dyn ProjectionStore, generation: Generation, documents: &[ActivityDoc]) {
    for some in documents.chunks(100) {
        store.write_activity(generation, some).await.unwrap();
    }
    let next_seq = documents.iter().map(|it| it.seq + 1).max().unwrap_or(0);
    let position = Position { next_seq, hash: Hash::ZERO, at: at(next_seq) };
    let seen = store.office(generation).await.unwrap();
    let office = store.take_office(generation, seen, Uuid::nil()).await.unwrap().unwrap();
    store.set_position(generation, &position, &office).await.unwrap();
}

pub(super) async fn lost_and_changed_activity_is_named(stores: &Stores) {
    let (first, second) = (stores.generation().await, stores.one.create().await.unwrap());
    let store = &*stores.two;
    let documents: Vec<ActivityDoc> =
        (0..450).map(|seq| if seq % 2 == 0 { full(seq, 1) } else { bare(seq, &[2, 3]) }).collect();
    follow(&*stores.one, first, &documents).await;
    let (lost, changed) = ([7, 300], [8, 431]);
    let mut other: Vec<_> =
        documents.iter().filter(|it| !lost.contains(&it.seq)).cloned().collect();
    for document in &mut other {
        if changed.contains(&document.seq) {
            document.patients.push(patient_id(9));
        }
    }
    // The second one is behind: what it lacks for that is no difference.
    other.truncate(440);
    let up_to = other.last().unwrap().seq + 1;
    follow(&*stores.one, second, &other).await;
    let expected = |serving: Option<u64>, built: Option<u64>| {
        [(431, Some(0), Some(0)), (300, serving, built), (8, Some(0), Some(0)), (7, serving, built)]
            .map(|(seq, first, second)| Difference {
                document: Document::Activity(seq),
                first,
                second,
            })
    };
    let named = compare_activity(store, first, second, up_to, 10).await.unwrap();
    assert_eq!(named, expected(Some(0), None));
    assert_eq!(compare_activity(store, first, second, up_to, 2).await.unwrap(), named[..2]);
    assert_eq!(
        compare_activity(store, second, first, up_to, 10).await.unwrap(),
        expected(None, Some(0))
    );
    assert_eq!(compare_activity(store, first, first, 450, 10).await.unwrap(), []);
    for difference in named.iter().copied() {
        let again = compare_one(store, first, second, difference.document).await.unwrap();
        assert_eq!(again, Some(difference));
    }
    assert_eq!(compare_one(store, first, second, Document::Activity(6)).await.unwrap(), None);
    let pause = std::time::Duration::from_millis(1);
    let differing = differing(store, first, second, pause).await.unwrap();
    assert_eq!(differing, named.into_iter().map(Differing::from).collect::<Vec<_>>());
    let digest = async |generation, up_to| {
        let digest = activity_digest(store, generation, up_to).await.unwrap();
        (digest.records, digest.hash, digest.up_to)
    };
    assert_eq!(digest(first, 7).await, digest(second, 7).await);
    assert_eq!((digest(first, 8).await.0, digest(second, 8).await.0), (8, 7));
    let differ = [(8, 8), (9, 9), (7, 6)];
    for (one, other) in differ {
        assert_ne!(digest(first, one).await.1, digest(second, other).await.1);
    }
    let memory = MemoryStore::default();
    let generation = memory.serving().await.unwrap();
    follow(&memory, generation, &documents).await;
    let ours = activity_digest(&memory, generation, 450).await.unwrap();
    assert_eq!((450, ours.hash, 450), digest(first, 450).await);
}

pub(super) async fn differences_are_named_with_their_versions(stores: &Stores) {
    let (first, second) = (stores.generation().await, stores.one.create().await.unwrap());
    let events = full_history();
    let same = whole(patient_id(1), &events);
    let other = |name: &str| whole(patient_id(2), &history([registered(name)]));
    let only =
        |id, test| whole(patient_id(id), &history([registered("A"), test_recorded(test, "t")]));
    stores.one.apply(first, &[same.clone(), other("ANN"), only(3, 30)]).await.unwrap();
    stores.one.apply(second, &[same, other("BEA"), only(4, 40)]).await.unwrap();
    stores.one.apply(second, &[run(patient_id(1), &more(), 6, 7)]).await.unwrap();
    let store: &dyn ReadModels = &*stores.two;
    let differences = compare(store, first, second).await.unwrap();
    let patient = |id| Document::Patient(patient_id(id));
    let test = |id, test| Document::Test(patient_id(id), test_id(test));
    let expected = [
        (patient(1), Some(6), Some(7)),
        (patient(2), Some(1), Some(1)),
        (patient(3), Some(2), None),
        (patient(4), None, Some(2)),
        (test(1, 1), Some(5), Some(7)),
        (test(3, 30), Some(2), None),
        (test(4, 40), None, Some(2)),
    ]
    .map(|(document, first, second)| Difference { document, first, second });
    assert_eq!(differences, expected);
    assert_eq!(compare(store, first, first).await.unwrap(), []);
}

/// One event more, of a test.
fn more() -> Vec<domain::event::Recorded> {
    full_history_and([test_amended(1, "one more")])
}
