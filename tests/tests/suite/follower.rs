//! Following and rebuilding from a real audit service into real stores.

use std::{path::Path, sync::Arc, time::Duration};

use domain::{
    actor::{Actor, ActorKind, ErasureReason, Outcome, Purpose},
    content::{PatientContent, TestContent},
    event::{Event, SCHEMA},
    ids::{Name, ObjectRef, PatientId, Stream, TestId},
    record::RecordType,
    time::Timestamp,
    wire::Proposal,
};
use projections::{
    digest::{compare, digest},
    documents::Generation,
    follower::{self, Deps, Options, Progress},
    generations::activate,
    key_ring::{DataKey, KeyRing},
    open::{open_key_ring, open_projection_store},
    rebuild::{self, Pace, Until, rebuild},
    sealing::seal_event,
    status::{ledger_size, status},
    store::ProjectionStore,
};
use runtime::{
    health::{Component, Readiness},
    store_location::StoreLocation,
};
use serde_json::json;
use tempfile::TempDir;
use tests::mongod;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) mod audit;
mod parking;
mod processes;

use audit::Audit;

/// Patients of one test, with four events each.
const PATIENTS: usize = 60;

/// Long enough for a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_mins(1);

async fn follow_and_rebuild(folder: &Path, location: &StoreLocation) {
    let prefix: Name = mongod::database("follower").parse().unwrap();
    let audit = Audit::on_sqlite(&folder.join("ledger.db")).await;
    let kek = folder.join("kek");
    runtime::secrets::write_secret_file(&kek, "42".repeat(32)).unwrap();
    let kek = format!("file:{}", kek.display()).parse().unwrap();
    let keys = match location {
        StoreLocation::Sqlite(_) => StoreLocation::Sqlite(folder.join("keys.db")),
        other => other.clone(),
    };
    let ring = open_key_ring(&keys, &prefix, std::slice::from_ref(&kek)).await.unwrap();
    let store = open_projection_store(location, &prefix).await.unwrap();
    let deps = Deps {
        store: store.clone(),
        audit: audit.client("projections"),
        ring: ring.clone(),
        ledger_key: None,
        clock: || Timestamp::from_millis(0),
    };

    // Half of it is there before the follower starts, the rest comes while it follows.
    let clinic = Clinic { audit: &audit, ring: &ring };
    clinic.is_busy(PATIENTS / 2).await;
    let first = store.serving().await.unwrap();
    let mut following = Following::start(deps.clone());
    clinic.is_busy(PATIENTS / 2).await;
    let size = audit.size().await;
    following.reaches(first, size).await;
    let live = digest(store.as_ref(), first).await.unwrap();
    assert_eq!((live.patients, live.tests), (PATIENTS as u64, PATIENTS as u64));

    // A rebuild beside the running follower, which goes over to it.
    let summary = rebuild(&deps, &building(), &CancellationToken::new()).await.unwrap();
    let second = Generation(summary.generation);
    assert_eq!((store.serving().await.unwrap(), summary.records), (second, size));
    assert_eq!(summary.digest, live.hash);
    clinic.is_busy(2).await;
    let size = audit.size().await;
    following.reaches(second, size).await;
    let found = ledger_size(&deps.audit, None).await.unwrap();
    let status = status(store.as_ref(), Some(found), Timestamp::from_millis(0)).await.unwrap();
    assert_eq!((status.ledger_size, status.lag_records), (Some(size), Some(0)));
    let generations: Vec<u32> = status.generations.iter().map(|it| it.generation).collect();
    assert_eq!(generations, [first.0, second.0]);
    following.end().await;

    // Another process that opens the stores anew begins where that one ended.
    let store = open_projection_store(location, &prefix).await.unwrap();
    let mut following = Following::start(Deps { store: store.clone(), ..deps.clone() });
    following.reaches(second, size).await;
    following.end().await;
    check_rollback(&deps, first, second).await;
    check_equal(&deps, store.as_ref(), second).await;
    mongod_is_left_clean(location, &prefix).await;
}

/// Nobody but the follower reads the pointer here.
fn building() -> rebuild::Options {
    let pause = Duration::from_millis(100);
    let pace = Pace { joined: pause, settled: pause, ..Pace::default() };
    rebuild::Options { pace, ..rebuild::Options::default() }
}

/// Back to a generation that has not served for a while, from one that shows an earlier state,
/// which is brought up to now by that.
async fn check_rollback(deps: &Deps, first: Generation, serving: Generation) {
    let (store, shutdown) = (deps.store.as_ref(), CancellationToken::new());
    let until = rebuild::Options { until: Some(Until::Seq(100)), ..building() };
    let earlier = rebuild(deps, &until, &shutdown).await.unwrap();
    assert_eq!((earlier.serves, store.serving().await.unwrap()), (false, serving));
    let now = digest(store, serving).await.unwrap();
    assert!(earlier.digest != now.hash && earlier.patients < now.patients);
    for generation in [Generation(earlier.generation), first] {
        let before = store.serving().await.unwrap();
        let pace = building().pace;
        let activated = activate(deps, generation, false, &pace, &shutdown).await.unwrap();
        assert_eq!((activated.serves, activated.before), (generation.0, before.0));
        // The first one was followed until its follower saw that it does not serve.
        assert!(activated.caught_up > 0 || generation == first);
        assert_eq!(digest(store, generation).await.unwrap(), now);
    }
}

/// A generation that was followed equals one rebuilt from the same ledger.
async fn check_equal(deps: &Deps, store: &dyn ProjectionStore, followed: Generation) {
    let summary = rebuild(deps, &building(), &CancellationToken::new()).await.unwrap();
    let differences = compare(store, followed, Generation(summary.generation)).await.unwrap();
    assert!(differences.is_empty(), "{differences:?}");
}

async fn mongod_is_left_clean(location: &StoreLocation, prefix: &Name) {
    if !matches!(location, StoreLocation::Sqlite(_)) {
        mongod::drop_databases(prefix.as_str()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follow_and_rebuild_on_sqlite() {
    let folder = TempDir::new().unwrap();
    let location = StoreLocation::Sqlite(folder.path().join("patients.db"));
    follow_and_rebuild(folder.path(), &location).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follow_and_rebuild_on_mongo() {
    let folder = TempDir::new().unwrap();
    let location = mongod::uri().await.parse().unwrap();
    follow_and_rebuild(folder.path(), &location).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_tampered_with_under_a_running_ledger_stops_the_follower() {
    let folder = TempDir::new().unwrap();
    let (audit, ledger) = Audit::in_memory(folder.path()).await;
    let location = StoreLocation::Sqlite(folder.path().join("patients.db"));
    let keys = Arc::new(projections::key_ring::memory::MemoryKeys::default());
    let kek = projections::key_ring::kek::Kek::new(zeroize::Zeroizing::new([1; 32]));
    let ring = KeyRing::new(keys, kek);
    Clinic { audit: &audit, ring: &ring }.is_busy(5).await;
    let mut blocks = ledger.blocks();
    let block = blocks.first_mut().unwrap();
    let line = block.lines.first_mut().unwrap();
    *line = line.replace("\"success\"", "\"denied\"");
    let tampered = block.first;
    ledger.replace_block(block.clone());

    let store = open_projection_store(&location, &"t".parse().unwrap()).await.unwrap();
    let audit_client = audit.client("projections");
    let clock = || Timestamp::from_millis(0);
    let deps = Deps { store, audit: audit_client, ring, ledger_key: None, clock };
    let stopped_at = Following::start(deps.clone()).stops().await;
    // The changed line still reads as a record, so the link after it is the broken one.
    assert_eq!(stopped_at, tampered + 1);
    assert!(rebuild(&deps, &building(), &CancellationToken::new()).await.is_err());
    assert_eq!(deps.store.list().await.unwrap(), [Generation(1)]);
}

/// Appends what patient-service would, and applies nothing.
struct Clinic<'a> {
    audit: &'a Audit,
    ring: &'a KeyRing,
}

impl Clinic<'_> {
    async fn is_busy(&self, patients: usize) {
        let visits = (0..patients).map(|_| self.visit());
        futures::future::join_all(visits).await;
    }

    /// A patient is registered, tested, amended and read, and the test is amended.
    async fn visit(&self) {
        let key = self.ring.fresh().await.unwrap();
        let patient = PatientId::new(Uuid::new_v4());
        let test = TestId::new(Uuid::new_v4());
        let events = [
            Event::PatientRegistered(person("Ada")),
            Event::TestRecorded { test, content: laboratory("first") },
            Event::PatientAmended(person("Lovelace")),
            Event::TestAmended { test, content: laboratory("second") },
        ];
        for (event, version) in events.iter().zip(1..) {
            self.append(event_of(patient, version, &key, event)).await;
        }
        let mut read = proposal(RecordType::PatientRead);
        read.stream = Some(Stream::Patient(patient));
        self.append(read).await;
    }

    async fn append(&self, proposal: Proposal) {
        self.audit.client("patient-service").append(proposal).await.unwrap();
    }
}

fn event_of(patient: PatientId, version: u64, key: &DataKey, event: &Event) -> Proposal {
    let mut proposal = proposal(event.record_type());
    proposal.stream = Some(Stream::Patient(patient));
    proposal.version = Some(version);
    proposal.object = event.test().map(ObjectRef);
    proposal.schema = Some(SCHEMA);
    proposal.reason = (*event == Event::PatientErased).then_some(ErasureReason::ConsentWithdrawn);
    proposal.data = seal_event(key, patient, version, event).unwrap();
    proposal
}

fn proposal(record_type: RecordType) -> Proposal {
    let id = "clinic".parse().unwrap();
    let actor = Actor { id, kind: ActorKind::Subscription, roles: Vec::new() };
    Proposal::new(record_type, actor, Purpose::Treatment, Outcome::Success)
}

fn person(name: &str) -> PatientContent {
    let body = json!({
        "firstName": name, "gender": "female", "dateOfBirth": "1815-12-10", "postCode": "3050",
    });
    PatientContent::from_create(body.as_object().unwrap()).unwrap()
}

fn laboratory(reference: &str) -> TestContent {
    let body = json!({ "performer": "lab", "orderReference": reference, "observations": [] });
    TestContent::from_create(body.as_object().unwrap()).unwrap()
}

/// A follower at work.
struct Following {
    progress: watch::Receiver<Progress>,
    shutdown: CancellationToken,
    component: Component,
    task: JoinHandle<()>,
}

impl Following {
    fn start(deps: Deps) -> Self {
        let component = Readiness::default().component("follower");
        let shutdown = CancellationToken::new();
        let (sender, progress) = watch::channel(Progress::default());
        let following =
            follower::follow(deps, Options::default(), sender, shutdown.clone(), component.clone());
        Self { progress, shutdown, component, task: tokio::spawn(following) }
    }

    async fn reaches(&mut self, generation: Generation, next_seq: u64) {
        let there = |progress: &Progress| {
            progress.generation == generation.0 && progress.next_seq >= next_seq
        };
        let reached = tokio::time::timeout(PATIENCE, self.progress.wait_for(there)).await;
        reached.expect("it gets there").unwrap();
        assert!(self.component.is_ready());
    }

    /// Waits until it has followed so far and so many streams are parked.
    async fn parks(&mut self, next_seq: u64, streams: u64) {
        let there = |progress: &Progress| {
            progress.next_seq >= next_seq && progress.in_office && progress.parked == streams
        };
        let reached = tokio::time::timeout(PATIENCE, self.progress.wait_for(there)).await;
        reached.expect("it gets there").unwrap();
        assert!(self.component.is_ready());
    }

    async fn stops(self) -> u64 {
        tokio::time::timeout(PATIENCE, self.task).await.expect("it stops").unwrap();
        assert!(!self.component.is_ready());
        self.progress.borrow().stopped_at.expect("it names the record")
    }

    async fn end(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends").unwrap();
    }
}
