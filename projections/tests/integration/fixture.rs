//! A ledger, empty read models and keys, and what happens to patients in them.

use std::{sync::Arc, time::Duration};

use domain::{
    content::{PatientContent, TestContent},
    event::Event,
    ids::{PatientId, TestId},
    patient::Patient,
    record::Record,
    time::Timestamp,
};
use projections::{
    applier::Applier,
    change::StreamChange,
    digest::{Digest, digest},
    documents::{ActivityFilter, Generation, PatientState},
    error::RebuildError,
    follower::{self, Deps, Options, Progress},
    history,
    key_ring::{
        DataKey, KeyRing,
        kek::{Kek, WrappedKey},
        memory::MemoryKeys,
        store::KeyStore,
    },
    office::Terms,
    rebuild::{self, Pace, Summary, rebuild},
    store::{Generations, ProjectionStore, ReadModels, hooked::Hooked, memory::MemoryStore},
};
use runtime::health::{Component, Readiness};
use serde_json::json;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{ledger::FakeLedger, process::Process};

/// Long enough for a slow machine, short enough to end a test that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Fixture {
    pub(crate) ledger: FakeLedger,
    pub(crate) store: MemoryStore,
    /// What the ring keeps its keys in.
    pub(crate) keys: Arc<MemoryKeys>,
    pub(crate) ring: KeyRing,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let keys = Arc::new(MemoryKeys::default());
        let ring = ring_over(keys.clone(), KEK);
        Self { ledger: FakeLedger::start().await, store: MemoryStore::default(), keys, ring }
    }

    pub(crate) fn deps(&self) -> Deps {
        Deps {
            store: Arc::new(self.store.clone()),
            audit: self.ledger.client(),
            ring: self.ring.clone(),
            ledger_key: None,
            clock: || Timestamp::from_millis(0),
        }
    }

    pub(crate) fn applier(&self) -> Applier {
        let store: Arc<dyn ProjectionStore> = Arc::new(self.store.clone());
        Applier::start(store, self.ledger.client(), self.ring.clone())
    }

    /// A patient with a key, who is in the ledger as soon as something happens to her.
    pub(crate) async fn patient(&self) -> Somebody<'_> {
        let key = self.ring.fresh().await.unwrap();
        Somebody { fixture: self, id: PatientId::new(Uuid::new_v4()), key }
    }

    /// Three patients and most of what can happen to them, with accesses in between.
    pub(crate) async fn history(&self) -> [PatientId; 3] {
        let (one, two, three) = (self.patient().await, self.patient().await, self.patient().await);
        let (kept, removed) = (TestId::new(Uuid::new_v4()), TestId::new(Uuid::new_v4()));
        one.registered("Ada");
        two.registered("Grace");
        self.ledger.read(one.id);
        one.recorded(kept);
        one.recorded(removed);
        two.amended("Hopper");
        self.ledger.search(&one.key, vec![one.id, two.id]);
        one.happens(&Event::TestRemoved { test: removed });
        one.happens(&Event::TestAmended { test: kept, content: test("second") });
        three.registered("Emmy");
        three.recorded(TestId::new(Uuid::new_v4()));
        self.ledger.refusal();
        three.happens(&Event::PatientRemoved);
        [one.id, two.id, three.id]
    }

    pub(crate) fn follow(&self) -> Following {
        follow(self.deps())
    }

    pub(crate) async fn rebuild(
        &self,
        options: &rebuild::Options,
    ) -> Result<Summary, RebuildError> {
        rebuild(&self.deps(), options, &CancellationToken::new()).await
    }

    /// Follows all of the ledger into the serving generation.
    pub(crate) async fn live(&self) -> Generation {
        let generation = self.serving().await;
        let mut following = self.follow();
        following.reaches(generation, self.ledger.size()).await;
        following.end().await;
        generation
    }

    pub(crate) async fn digest(&self, generation: Generation) -> Digest {
        digest(&self.store, generation).await.unwrap()
    }

    /// Follows from a process of its own, which may be frozen.
    pub(crate) fn follow_as(&self, process: &Arc<Hooked<Process>>) -> Following {
        let ring = ring_over(self.keys.clone(), KEK);
        follow(Deps { store: process.clone(), ring, ..self.deps() })
    }

    /// A process that has this fixture's store.
    pub(crate) fn process(&self) -> Arc<Hooked<Process>> {
        Arc::new(Hooked::new(Arc::new(self.store.clone()), Process::default()))
    }

    /// Loses a patient's data key; what is returned brings it back with
    /// [`Fixture::restore_key`].
    pub(crate) async fn lose_key(&self, somebody: &Somebody<'_>) -> Vec<WrappedKey> {
        let kid = somebody.key.kid();
        let backup = self.keys.get(&[kid]).await.unwrap();
        self.ring.destroy(kid).await.unwrap();
        backup
    }

    pub(crate) async fn restore_key(&self, backup: &[WrappedKey]) {
        self.keys.insert_batch(backup).await.unwrap();
    }

    pub(crate) async fn serving(&self) -> Generation {
        self.store.serving().await.unwrap()
    }

    /// Moves the pointer, without asking anybody.
    pub(crate) async fn lets_serve(&self, generation: Generation) {
        let pointer = self.store.pointer().await.unwrap();
        assert!(self.store.activate(generation, pointer).await.unwrap());
    }

    /// Checks that a generation holds of a patient what the ledger says.
    #[track_caller]
    pub(crate) fn is_live(
        &self,
        generation: Generation,
        patient: PatientId,
    ) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let audit = self.ledger.client();
            let history = history::load(&audit, &self.ring, patient).await.unwrap();
            let stored = self.store.patient(generation, patient).await.unwrap();
            let stored = stored.unwrap_or_else(|| panic!("no patient, from {caller}"));
            assert_eq!(stored.version, history.state.version, "from {caller}");
            let shown = match stored.state {
                PatientState::Active { current, .. } => Some(current.content),
                PatientState::Removed | PatientState::Erased => None,
            };
            let view = history.state.view(patient).map(|view| view.content);
            assert_eq!(shown, view, "from {caller}");
            let tests = self.store.tests(generation, patient).await.unwrap();
            let tests: Vec<_> = tests
                .into_iter()
                .map(|test| (test.id, test.current.map(|current| current.content)))
                .collect();
            assert_eq!(tests, tests_of(&history.state, patient), "from {caller}");
        }
    }
}

fn tests_of(state: &Patient, patient: PatientId) -> Vec<(TestId, Option<TestContent>)> {
    state.test_views(patient).into_iter().map(|view| (view.id, Some(view.content))).collect()
}

/// Offices change hands quickly.
pub(crate) fn options() -> Options {
    let terms = Terms {
        look: Duration::from_millis(20),
        patience: Duration::from_secs(1),
        beat: Duration::from_millis(50),
    };
    Options { terms, ..Options::default() }
}

pub(crate) fn follow(deps: Deps) -> Following {
    follow_with(deps, options())
}

pub(crate) fn follow_with(deps: Deps, options: Options) -> Following {
    let component = Readiness::default().component("follower");
    let shutdown = CancellationToken::new();
    let (sender, progress) = watch::channel(Progress::default());
    let following = follower::follow(deps, options, sender, shutdown.clone(), component.clone());
    Following { progress, shutdown, component, task: tokio::spawn(following) }
}

/// A rebuild that waits for nobody for long. Its holder is taken for dead after many beats, so
/// that a busy machine delays no living one for so long.
pub(crate) fn building() -> rebuild::Options {
    let millis = Duration::from_millis;
    let pace = Pace {
        joined: millis(20),
        settled: millis(20),
        terms: Terms { look: millis(10), patience: millis(500), beat: millis(10) },
        look: millis(10),
        ..Pace::default()
    };
    rebuild::Options { pace, ..rebuild::Options::default() }
}

/// Every byte of the key-encryption key that tests use.
pub(crate) const KEK: u8 = 7;

pub(crate) fn ring() -> KeyRing {
    ring_over(Arc::default(), KEK)
}

/// As another process opens it: nothing of the keys is in memory.
pub(crate) fn ring_over(keys: Arc<MemoryKeys>, kek: u8) -> KeyRing {
    KeyRing::new(keys, Kek::new(Zeroizing::new([kek; 32])))
}

/// A patient to whom things happen in the ledger alone.
pub(crate) struct Somebody<'a> {
    fixture: &'a Fixture,
    pub(crate) id: PatientId,
    pub(crate) key: DataKey,
}

impl Somebody<'_> {
    pub(crate) fn happens(&self, event: &Event) -> Record {
        self.fixture.ledger.event(self.id, &self.key, event)
    }

    pub(crate) fn registered(&self, name: &str) -> Record {
        self.happens(&Event::PatientRegistered(person(name)))
    }

    pub(crate) fn amended(&self, name: &str) -> Record {
        self.happens(&Event::PatientAmended(person(name)))
    }

    pub(crate) fn recorded(&self, id: TestId) -> Record {
        self.happens(&Event::TestRecorded { test: id, content: test("first") })
    }

    /// The change that some of her records come to.
    pub(crate) async fn change(&self, from: u64, to: u64) -> StreamChange {
        let audit = self.fixture.ledger.client();
        let mut history =
            history::load_from(&audit, &self.fixture.ring, self.id, from).await.unwrap();
        history.events.retain(|recorded| recorded.version <= to);
        StreamChange::fold(self.id, Some(self.key.kid()), &history.events).unwrap()
    }
}

pub(crate) fn person(name: &str) -> PatientContent {
    let body = json!({
        "firstName": name, "gender": "female", "dateOfBirth": "1900-01-01", "postCode": "3050",
    });
    PatientContent::from_create(body.as_object().unwrap()).unwrap()
}

pub(crate) fn test(reference: &str) -> TestContent {
    let body = json!({ "performer": "lab", "orderReference": reference, "observations": [] });
    TestContent::from_create(body.as_object().unwrap()).unwrap()
}

/// A follower at work.
pub(crate) struct Following {
    progress: watch::Receiver<Progress>,
    shutdown: CancellationToken,
    component: Component,
    task: JoinHandle<()>,
}

impl Following {
    /// Waits until it is at a position of a generation.
    pub(crate) async fn reaches(&mut self, generation: Generation, next_seq: u64) {
        self.shows(|progress| {
            progress.generation == generation.0
                && progress.in_office
                && progress.next_seq >= next_seq
        })
        .await;
    }

    /// Waits until it stands by, which is as ready as following.
    pub(crate) async fn stands_by(&mut self) {
        self.shows(|progress| progress.generation > 0 && !progress.in_office).await;
    }

    /// Waits until it has parked so many streams, and no more or fewer.
    pub(crate) async fn parks(&mut self, streams: u64) {
        self.shows(|progress| progress.in_office && progress.parked == streams).await;
    }

    /// Waits until its progress is like that.
    #[track_caller]
    pub(crate) fn shows(
        &mut self,
        like_that: impl FnMut(&Progress) -> bool,
    ) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let reached = tokio::time::timeout(PATIENCE, self.progress.wait_for(like_that)).await;
            assert!(reached.is_ok_and(|shown| shown.is_ok()), "it never gets there, from {caller}");
            assert!(self.component.is_ready(), "from {caller}");
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Ends it as kill -9 does: nothing is left behind in good order.
    pub(crate) fn kill(&self) {
        self.task.abort();
    }

    /// Waits until it has stopped for good, and says where.
    pub(crate) async fn stops(self) -> u64 {
        let Self { progress, component, task, .. } = self;
        tokio::time::timeout(PATIENCE, task).await.expect("it stops").unwrap();
        assert!(!component.is_ready());
        progress.borrow().stopped_at.expect("it names the record")
    }

    /// Ends it as a shutdown does.
    pub(crate) async fn end(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends").unwrap();
    }
}

pub(crate) fn of_patient(patient: PatientId) -> ActivityFilter {
    ActivityFilter { patient: Some(patient), ..ActivityFilter::default() }
}
