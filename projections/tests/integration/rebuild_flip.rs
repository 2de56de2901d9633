//! A rebuilt generation begins to serve without a gap, and only as it was asked to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::{
    actor::{Actor, ActorKind, Outcome, Purpose},
    ids::{Name, PatientId, TestId},
    record::RecordType,
    time::Timestamp,
};
use futures::future::join_all;
use projections::{
    applier::Applier,
    change::StreamChange,
    compare::{Differing, Kind},
    documents::{ActivityDoc, Generation, PatientState, Pointer},
    error::RebuildError,
    follower::Deps,
    key_ring::DataKey,
    rebuild::{Options, Then, rebuild},
    store::{Generations, ReadModels, Upkeep, WriteModels, memory::MemoryStore},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    fixture::{Fixture, Somebody, building, person, test},
    hooks::Watch,
};

const SECOND: Generation = Generation(2);

#[tokio::test]
async fn commands_are_told_before_and_leave_after() {
    let fixture = Fixture::new().await;
    fixture.history().await;
    let first = fixture.live().await;
    let patient = fixture.patient().await;
    let (store, ledger) = (fixture.store.clone(), fixture.ledger.clone());
    let (id, key) = (patient.id, patient.key.clone());
    let watch = Watch::over(fixture.store.clone(), move |write| match write {
        // By a process that does not know of the new generation yet.
        "join" => {
            let event = domain::event::Event::PatientRegistered(person("Ada"));
            ledger.event(id, &key, &event);
        }
        "activate" => {
            assert!(holds(&store, SECOND, id), "what came before the wait is there");
            assert_eq!(pointer(&store), Pointer { serving: Generation(1), also: Some(SECOND) });
            assert!(is_held(&store, SECOND));
        }
        "settle" => {
            let expected = Pointer { serving: SECOND, also: Some(Generation(1)) };
            assert_eq!(pointer(&store), expected);
            assert!(is_held(&store, SECOND), "no follower comes before the end");
        }
        _ => {}
    });
    let deps = Deps { store: watch.clone(), ..fixture.deps() };
    let mut options = building();
    options.pace.joined = Duration::from_millis(120);
    options.pace.settled = Duration::from_millis(150);
    rebuild(&deps, &options, &CancellationToken::new()).await.unwrap();
    let steps = watch.hook.of(&["join", "activate", "settle", "leave_office"]);
    let [join, activate, settle, _] = &steps[..] else { panic!("{steps:?}") };
    let names: Vec<_> = steps.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["join", "activate", "settle", "leave_office"]);
    assert!(activate.1 - join.1 >= options.pace.joined);
    assert!(settle.1 - activate.1 >= options.pace.settled);
    assert_eq!(pointer(&fixture.store), Pointer { serving: SECOND, also: None });
    assert!(!is_held(&fixture.store, SECOND), "the follower need not wait");
    assert!(fixture.store.list().await.unwrap().contains(&first));
}

/// Calls of the memory store never wait.
fn now<T>(call: impl Future<Output = T>) -> T {
    futures::FutureExt::now_or_never(call).expect("memory answers at once")
}

fn pointer(store: &MemoryStore) -> Pointer {
    now(store.pointer()).unwrap()
}

fn holds(store: &MemoryStore, generation: Generation, patient: PatientId) -> bool {
    now(store.patient(generation, patient)).unwrap().is_some()
}

fn is_held(store: &MemoryStore, generation: Generation) -> bool {
    now(store.office(generation)).unwrap().is_some_and(|office| office.holder.is_some())
}

/// A replica of patient-service, as far as the read models are concerned: it goes by a pointer
/// that it reads now and then.
struct Replica {
    pointer: watch::Receiver<Pointer>,
    applier: Applier,
}

/// Far shorter than a rebuild waits in this test.
const REPLICA_PERIOD: Duration = Duration::from_millis(40);

impl Replica {
    async fn start(fixture: &Fixture) -> Self {
        let store = fixture.store.clone();
        let (sender, pointer) = watch::channel(store.pointer().await.unwrap());
        tokio::spawn(async move {
            while !sender.is_closed() {
                tokio::time::sleep(REPLICA_PERIOD).await;
                sender.send_replace(store.pointer().await.unwrap());
            }
        });
        Self { pointer, applier: fixture.applier() }
    }

    /// An event is appended, applied to all generations in use, and then answered.
    async fn command(&self, patient: &Somebody<'_>, name: &str) -> u64 {
        let version = patient.amended(name).version.unwrap();
        let change = patient.change(version, version).await;
        let pointer = *self.pointer.borrow();
        for generation in pointer.written() {
            self.applier.apply(generation, change.clone()).await.unwrap();
        }
        version
    }

    async fn read(&self, store: &MemoryStore, patient: PatientId) -> u64 {
        let serving = self.pointer.borrow().serving;
        store.patient(serving, patient).await.unwrap().map_or(0, |document| document.version)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_replica_is_asked_nothing_that_was_answered_is_missing() {
    let fixture = Fixture::new().await;
    fixture.history().await;
    let patients = join_all((0..8).map(|_| fixture.patient())).await;
    for patient in &patients {
        patient.registered("Ada");
        patient.recorded(TestId::new(Uuid::new_v4()));
    }
    fixture.live().await;
    let (one, two) = (Replica::start(&fixture).await, Replica::start(&fixture).await);
    let answered: Vec<AtomicU64> = patients.iter().map(|_| AtomicU64::new(2)).collect();
    let done = CancellationToken::new();
    let writing = join_all(patients.iter().zip(&answered).map(async |(patient, answered)| {
        while !done.is_cancelled() {
            let version = one.command(patient, "Lovelace").await;
            answered.store(version, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }));
    let reading = async {
        while !done.is_cancelled() {
            for (patient, answered) in patients.iter().zip(&answered) {
                let least = answered.load(Ordering::SeqCst);
                let shown = two.read(&fixture.store, patient.id).await;
                assert!(shown >= least, "version {shown} is shown and {least} was answered");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let rebuilding = async {
        let mut options = building();
        (options.pace.joined, options.pace.settled) = (4 * REPLICA_PERIOD, 4 * REPLICA_PERIOD);
        for generation in [2, 3] {
            let summary = fixture.rebuild(&options).await.unwrap();
            assert_eq!((summary.generation, summary.differences), (generation, Vec::new()));
        }
        tokio::time::sleep(4 * REPLICA_PERIOD).await;
        done.cancel();
    };
    futures::join!(writing, reading, rebuilding);
    assert!(fixture.ledger.size() > 100);
    let live = fixture.live().await;
    let summary = fixture.rebuild(&building()).await.unwrap();
    assert_eq!(summary.digest, fixture.digest(live).await.hash);
}

#[tokio::test]
async fn one_that_commands_left_a_moment_before_does_not_serve() {
    let fixture = Fixture::new().await;
    fixture.history().await;
    let first = fixture.live().await;
    let store = fixture.store.clone();
    // After all that the builder looked at: only the write itself can notice it.
    let watch = Watch::over(fixture.store.clone(), move |write| {
        if write == "activate" {
            now(store.settle(SECOND)).unwrap();
        }
    });
    let deps = Deps { store: watch.clone(), ..fixture.deps() };
    let error = rebuild(&deps, &building(), &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, RebuildError::Pointer), "{error}");
    assert_eq!(pointer(&fixture.store), Pointer { serving: first, also: None });
    // Trying again goes on with it.
    let summary = fixture.rebuild(&building()).await.unwrap();
    assert_eq!((summary.generation, summary.resumed_at), (2, fixture.ledger.size()));
}

/// A change of her first events to other content than the ledger has.
fn wrong(patient: PatientId, key: &DataKey, mut change: StreamChange) -> StreamChange {
    assert_eq!((change.patient, key.kid()), (patient, key.kid()));
    if let Some(PatientState::Active { current, .. }) = &mut change.state {
        current.content = person("Nobody");
    }
    for test_change in change.tests.values_mut() {
        test_change.current.as_mut().unwrap().content = test("of nobody");
    }
    change
}

fn made_up_activity(seq: u64) -> ActivityDoc {
    let id: Name = "nobody".parse().unwrap();
    ActivityDoc {
        seq,
        at: Timestamp::from_millis(1),
        record_type: RecordType::PatientsSearched,
        outcome: Outcome::Success,
        purpose: Purpose::Treatment,
        actor: Actor { id: id.clone(), kind: ActorKind::Subscription, roles: Vec::new() },
        source: id,
        client: None,
        trace: None,
        test: None,
        patients: Vec::new(),
    }
}

/// Read models in which three documents are not what the ledger says, and one is of nobody.
async fn with_differences(fixture: &Fixture) -> Vec<Differing> {
    let serving = fixture.serving().await;
    let (one, two) = (fixture.patient().await, fixture.patient().await);
    let tested = TestId::new(Uuid::new_v4());
    one.registered("Ada");
    two.registered("Grace");
    two.recorded(tested);
    fixture.history().await;
    let mut made_up = one.change(1, 1).await;
    let stranger = PatientId::new(Uuid::new_v4());
    made_up.patient = stranger;
    let changes =
        [wrong(one.id, &one.key, one.change(1, 1).await), made_up, two.change(1, 1).await];
    fixture.store.apply(serving, &changes).await.unwrap();
    let test_change = wrong(two.id, &two.key, two.change(2, 2).await);
    fixture.store.apply(serving, &[test_change]).await.unwrap();
    // What is there stays, so the follower does not put it right.
    let made_up_record = made_up_activity(1);
    fixture.store.write_activity(serving, std::slice::from_ref(&made_up_record)).await.unwrap();
    fixture.live().await;
    vec![
        Differing {
            kind: Kind::Patient,
            patient: Some(one.id),
            seq: None,
            test: None,
            serving: Some(1),
            built: Some(1),
        },
        Differing {
            kind: Kind::Test,
            patient: Some(two.id),
            seq: None,
            test: Some(tested),
            serving: Some(2),
            built: Some(2),
        },
        Differing {
            kind: Kind::Patient,
            patient: Some(stranger),
            seq: None,
            test: None,
            serving: Some(1),
            built: None,
        },
        Differing {
            kind: Kind::Activity,
            patient: None,
            seq: Some(made_up_record.seq),
            test: None,
            serving: Some(0),
            built: Some(0),
        },
    ]
}

fn sorted(mut differences: Vec<Differing>) -> Vec<Differing> {
    differences.sort_by_key(|it| (it.kind, it.patient, it.test));
    differences
}

#[tokio::test]
async fn a_dry_run_names_just_the_documents_that_differ_and_changes_nothing() {
    let fixture = Fixture::new().await;
    let expected = with_differences(&fixture).await;
    let first = fixture.serving().await;
    let watch = Watch::over(fixture.store.clone(), |_| ());
    let deps = Deps { store: watch.clone(), ..fixture.deps() };
    let options = Options { then: Then::Drop, ..building() };
    let summary = rebuild(&deps, &options, &CancellationToken::new()).await.unwrap();
    assert_eq!(sorted(summary.differences), sorted(expected));
    assert!(!summary.serves && !summary.differences_cut);
    assert!(summary.build_seconds > 0.0 && summary.build_seconds < summary.seconds);
    assert_eq!(fixture.store.list().await.unwrap(), [first]);
    assert_eq!(watch.hook.of(&["join", "activate"]), [], "no command is told");
}

#[tokio::test]
async fn differences_that_are_too_many_are_cut_and_it_says_so() {
    let fixture = Fixture::new().await;
    let serving = fixture.serving().await;
    let patient = fixture.patient().await;
    patient.registered("Ada");
    let change = patient.change(1, 1).await;
    // Of nobody whom the ledger knows.
    let made_up =
        |id| StreamChange { patient: PatientId::new(Uuid::from_u128(id)), ..change.clone() };
    let changes: Vec<_> = (1..=1_200).map(made_up).collect();
    fixture.store.apply(serving, &changes).await.unwrap();
    let mut options = Options { then: Then::Drop, ..building() };
    options.pace.look = Duration::from_millis(1);
    let summary = fixture.rebuild(&options).await.unwrap();
    assert_eq!((summary.differences.len(), summary.differences_cut), (1_000, true));
}

#[tokio::test]
async fn the_wait_for_commands_is_no_part_of_building() {
    let fixture = Fixture::new().await;
    fixture.history().await;
    let mut options = building();
    options.pace.joined = Duration::from_millis(500);
    let summary = fixture.rebuild(&options).await.unwrap();
    assert!(summary.build_seconds > 0.0, "{summary:?}");
    assert!(summary.seconds - summary.build_seconds >= 0.5, "{summary:?}");
}

#[tokio::test]
async fn a_dry_run_of_equal_generations_names_none() {
    let fixture = Fixture::new().await;
    fixture.history().await;
    let first = fixture.live().await;
    let summary = fixture.rebuild(&Options { then: Then::Drop, ..building() }).await.unwrap();
    assert_eq!(summary.differences, []);
    assert_eq!(summary.digest, fixture.digest(first).await.hash);
    assert_eq!(fixture.store.list().await.unwrap(), [first]);
}

#[tokio::test]
async fn documents_that_are_only_ahead_do_not_differ() {
    let fixture = Fixture::new().await;
    let patient = fixture.patient().await;
    patient.registered("Ada");
    let serving = fixture.live().await;
    // Applied before it can be read from the ledger, as far as this rebuild can see.
    patient.amended("Lovelace");
    let ahead = patient.change(2, 2).await;
    fixture.store.apply(serving, &[ahead]).await.unwrap();
    let late = Arc::new(std::sync::Mutex::new(Vec::new()));
    fixture.ledger.tamper(|lines| late.lock().unwrap().extend(lines.pop()));
    let ledger = fixture.ledger.clone();
    let options = Options { then: Then::Drop, ..building() };
    let running = fixture.rebuild(&options);
    let later = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        ledger.tamper(|lines| lines.append(&mut late.lock().unwrap()));
    };
    let (summary, ()) = futures::join!(running, later);
    let summary = summary.unwrap();
    assert_eq!((summary.differences, summary.records), (Vec::new(), 2));
}

#[tokio::test]
async fn where_they_must_be_equal_a_difference_keeps_it_from_serving() {
    let fixture = Fixture::new().await;
    let expected = with_differences(&fixture).await;
    let first = fixture.serving().await;
    let equal = Options { then: Then::ServeIfEqual, ..building() };
    let summary = fixture.rebuild(&equal).await.unwrap();
    assert_eq!(sorted(summary.differences), sorted(expected.clone()));
    let pointer = fixture.store.pointer().await.unwrap();
    assert_eq!((summary.serves, pointer), (false, Pointer { serving: first, also: None }));
    // It is kept; another build begins anew, and drops it not even where it is to be fresh.
    let fresh = Options { fresh: true, ..building() };
    let summary = fixture.rebuild(&fresh).await.unwrap();
    assert_eq!((summary.generation, summary.resumed_at, summary.dropped), (3, 0, Vec::new()));
    assert_eq!(sorted(summary.differences), sorted(expected));
    assert_eq!(fixture.store.list().await.unwrap(), [first, SECOND, Generation(3)]);
    // Now the old one is the one that differs.
    let summary = fixture.rebuild(&equal).await.unwrap();
    assert_eq!((summary.serves, summary.generation), (true, 4));
}

#[tokio::test]
async fn keys_of_the_erased_that_a_backup_brought_back_are_destroyed() {
    let fixture = Fixture::new().await;
    let patient = fixture.patient().await;
    patient.registered("Ada");
    patient.happens(&domain::event::Event::PatientErased);
    // Read models that know of the erasure, and a key ring that does not.
    let serving = fixture.serving().await;
    let erasure =
        projections::erasure::find(&fixture.ledger.client(), patient.id).await.unwrap().unwrap();
    fixture.store.apply(serving, &[erasure]).await.unwrap();
    fixture.rebuild(&building()).await.unwrap();
    assert_eq!(fixture.ring.destroy_remaining(&[patient.key.kid()]).await.unwrap(), 0);
}
