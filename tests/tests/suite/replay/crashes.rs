//! A crash before and after every durable write of a command, a follower, an erasure, a rebuild
//! with its flip, and a rotation of the key-encryption key; then another process goes on.

use std::{collections::HashSet, sync::Arc};

use domain::{
    ids::{KeyId, Stream},
    record::Record,
    sealed::parse_compact,
    time::Timestamp,
};
use projections::{
    follower::Deps,
    key_ring::{DataKey, KeyRing, kek::Kek, keks::Keks, rotation::rotate},
    rebuild::{Options, Pace, rebuild},
    store::hooked::Hooked,
};
use reqwest::Method;
use serde_json::{Value, json};
use tests::samples;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    crash::{Crash, Keys},
    process::{Answer, Process},
    world::{Backend, World, at_once},
};

/// More moments than any of the scenarios has: a scenario that never ends is a defect.
const MOST_MOMENTS: usize = 400;

/// One command of a patient's life: what it is, and how it is answered in the end.
struct Command {
    method: Method,
    path: String,
    body: Option<Value>,
    status: u16,
}

impl Command {
    fn new(method: Method, path: String, body: Option<Value>, status: u16) -> Self {
        Self { method, path, body, status }
    }
}

/// A life that ends in an erasure; processes are started as they are needed.
struct Life<'a> {
    world: &'a World,
    process: Option<Process>,
    /// When the first of them ends.
    crash: Crash,
    crashed: bool,
    commands: usize,
    name: String,
}

impl<'a> Life<'a> {
    fn new(world: &'a World, moment: usize) -> Self {
        let name = format!("life-{moment}-{}", samples::random_name());
        Self { world, process: None, crash: Crash::at(moment), crashed: false, commands: 0, name }
    }

    /// Sends a command under its key, as often as it takes, until it is answered for good.
    async fn send(&mut self, command: Command) -> Answer {
        let Command { method, path, body, status } = command;
        self.commands += 1;
        let key = format!("{}-{}", self.name, self.commands);
        for _ in 0..20 {
            let process = match self.process.take() {
                Some(process) => process,
                None => Process::start(self.world, self.crash.clone()).await,
            };
            let answer = process.send(method.clone(), &path, Some(&key), body.as_ref()).await;
            self.process = Some(process);
            if self.crash.happened() {
                self.goes_on().await;
            }
            match answer {
                Some(answer) if answer.status == status => return answer,
                Some(answer) => assert_eq!(answer.status, 503, "{method} {path}"),
                None => {}
            }
        }
        panic!("{method} {path} is never answered");
    }

    /// Another process takes the place of the one that crashed.
    async fn goes_on(&mut self) {
        if let Some(dead) = self.process.take() {
            dead.kill();
        }
        self.crashed = true;
        self.crash = Crash::never();
        self.process = Some(Process::start(self.world, self.crash.clone()).await);
    }

    /// Waits until everything is followed, by whatever process it takes.
    async fn is_followed(&mut self) {
        loop {
            tokio::select! {
                _ = self.world.live() => return,
                () = self.crash.happening() => {}
            }
            self.goes_on().await;
        }
    }

    async fn lives(&mut self) -> String {
        let body = samples::patient(&samples::random_name());
        let registered = Command::new(Method::POST, "/patient".into(), Some(body.clone()), 201);
        let answer = self.send(registered).await;
        let patient = samples::id_of(&answer.body);
        let path = format!("/patient/{patient}");
        let record =
            || Command::new(Method::POST, format!("{path}/tests"), Some(samples::test(2)), 201);
        let first = samples::id_of(&self.send(record()).await.body);
        let amended = with_id(body, &patient);
        self.send(Command::new(Method::PUT, path.clone(), Some(amended), 200)).await;
        let test = format!("{path}/tests/{first}");
        let amended = with_id(samples::test(1), &first);
        self.send(Command::new(Method::PUT, test.clone(), Some(amended), 200)).await;
        self.send(record()).await;
        self.send(Command::new(Method::DELETE, test, None, 204)).await;
        let reason = json!({ "reason": "consentWithdrawn" });
        self.send(Command::new(Method::POST, format!("{path}/erase"), Some(reason), 204)).await;
        patient
    }
}

fn with_id(mut body: Value, id: &str) -> Value {
    body["id"] = id.into();
    body
}

/// The keys that a patient's events were sealed under, and her events.
async fn stream(world: &World, patient: &str) -> (HashSet<KeyId>, usize) {
    let stream = Stream::Patient(patient.parse().unwrap());
    let lines = world.audit.client("projections").stream(stream, 1).await.unwrap();
    let records: Vec<Record> = lines.iter().map(|line| Record::parse(line).unwrap()).collect();
    let sealed = records.iter().filter_map(|record| record.data.as_deref());
    let keys = sealed.map(|data| parse_compact(data).unwrap().header.kid).collect();
    (keys, records.len())
}

/// Seven commands, one event each; nothing of the patient is left, and replay equals live.
async fn a_life_with_a_crash(world: &World, moment: usize) -> bool {
    let mut life = Life::new(world, moment);
    let patient = life.lives().await;
    life.is_followed().await;
    world.check(&format!("after a crash at moment {moment}")).await;
    let (keys, events) = stream(world, &patient).await;
    assert_eq!((keys.len(), events), (1, 7), "moment {moment}");
    let left = world.place.keys().await.get(&Vec::from_iter(keys)).await.unwrap();
    assert!(left.is_empty(), "moment {moment}");
    life.crashed
}

/// Tries every `each`-th moment from `first` on until the scenario ends without a crash.
async fn at_every_moment(backend: Backend, first: usize, each: usize) {
    let world = World::new(backend).await;
    let mut moments = (first..MOST_MOMENTS).step_by(each);
    let uncrashed = loop {
        let moment = moments.next().expect("the scenario ends");
        if !a_life_with_a_crash(&world, moment).await {
            break moment;
        }
    };
    assert!(uncrashed > 30, "there are more durable writes than {uncrashed}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_moment_of_a_patients_life_leaves_nothing_half_done_on_sqlite() {
    at_every_moment(Backend::Sqlite, 0, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_moment_of_a_patients_life_leaves_nothing_half_done_on_mongo() {
    at_every_moment(Backend::Mongo, 1, 4).await;
}

/// A rebuild that ends at a moment, and another that goes on; whether the first one ended so.
async fn a_rebuild_with_a_crash(world: &World, moment: usize) -> bool {
    let crash = Crash::at(moment);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (place, fate) = (world.place.clone(), crash.clone());
    let audit = world.audit.url().to_owned();
    let first = runtime.spawn(async move {
        let store = Arc::new(Hooked::new(place.store().await, fate));
        let ring = place.ring().await;
        let audit = crate::follower::audit::client(&audit, "projections");
        let clock = || Timestamp::from_millis(0);
        let deps = Deps { store, audit, ring, ledger_key: None, clock };
        rebuild(&deps, &small_steps(), &CancellationToken::new()).await.unwrap()
    });
    let finished = tokio::select! {
        summary = first => summary.is_ok(),
        () = crash.happening() => false,
    };
    runtime.shutdown_background();
    let store = world.place.store().await;
    if !finished {
        let deps = world.deps(store.clone(), world.place.ring().await);
        let summary = rebuild(&deps, &small_steps(), &CancellationToken::new()).await.unwrap();
        assert!(summary.serves && summary.differences.is_empty(), "moment {moment}: {summary:?}");
    }
    let pointer = store.pointer().await.unwrap();
    assert_eq!(pointer.also, None, "moment {moment}");
    world.check(&format!("after a crash of a rebuild at moment {moment}")).await;
    for generation in store.list().await.unwrap() {
        if generation != pointer.serving {
            store.drop_generation(generation).await.unwrap();
        }
    }
    !finished
}

/// A rebuild of many batches.
fn small_steps() -> Options {
    let options = at_once();
    Options { pace: Pace { batch: 10, ..options.pace }, ..options }
}

async fn rebuilds_at_every_moment(backend: Backend, each: usize) {
    let world = World::new(backend).await;
    for moment in [0, 1_000_000] {
        // The second one has no crash: two lives are enough to rebuild.
        a_life_with_a_crash(&world, moment).await;
    }
    let mut moments = (0..MOST_MOMENTS).step_by(each);
    let uncrashed = loop {
        let moment = moments.next().expect("the rebuild ends");
        if !a_rebuild_with_a_crash(&world, moment).await {
            break moment;
        }
    };
    assert!(uncrashed > 15, "there are more durable writes than {uncrashed}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_moment_of_a_rebuild_leaves_nothing_half_done_on_sqlite() {
    rebuilds_at_every_moment(Backend::Sqlite, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_moment_of_a_rebuild_leaves_nothing_half_done_on_mongo() {
    rebuilds_at_every_moment(Backend::Mongo, 4).await;
}

fn kek(byte: u8) -> Kek {
    Kek::new([byte; 32].into())
}

/// A rotation that ends at a moment while a key is destroyed beside it, and another that goes on;
/// whether the first one ended so. The first is cut short wherever it is.
async fn a_rotation_with_a_crash(world: &World, moment: usize) -> bool {
    let store = world.place.keys().await;
    let (before, after) = (moment.to_le_bytes()[0], moment.to_le_bytes()[0].wrapping_add(1));
    let both = Arc::new(Keks::new(kek(after), vec![kek(before)]));
    let key = |byte: u8| DataKey::from_parts(KeyId::new(Uuid::new_v4()), [byte; 32].into());
    let made: Vec<DataKey> = (0..20).map(key).collect();
    let wrapped: Vec<_> = made.iter().map(|key| kek(before).wrap(key)).collect();
    store.insert_batch(&wrapped).await.unwrap();
    let ring = KeyRing::new(store.clone(), kek(before));
    let (kept, gone) = (&made[0], &made[1]);
    let crash = Crash::at(moment);
    let keys = Keys { inner: store.clone(), crash: crash.clone() };
    let wrapping = both.clone();
    let first = tokio::spawn(async move { rotate(&keys, &wrapping, |_| {}).await.unwrap() });
    let destroying = ring.destroy(gone.kid());
    let abort = first.abort_handle();
    let finished = tokio::select! {
        ended = async { tokio::join!(first, destroying).0 } => ended.is_ok(),
        () = crash.happening() => false,
    };
    abort.abort();
    ring.destroy(gone.kid()).await.unwrap();
    rotate(store.as_ref(), &both, |_| {}).await.unwrap();
    let left: Vec<_> = store.counts().await.unwrap().into_keys().collect();
    assert_eq!(left, [both.first()]);
    let ring = KeyRing::new(store, kek(after));
    assert!(ring.get(kept.kid()).await.unwrap().is_some(), "moment {moment}");
    assert!(ring.get(gone.kid()).await.unwrap().is_none(), "moment {moment}");
    !finished
}

async fn rotations_at_every_moment(backend: Backend) {
    let world = World::new(backend).await;
    let mut moments = 0..MOST_MOMENTS;
    let uncrashed = loop {
        let moment = moments.next().expect("the rotation ends");
        if !a_rotation_with_a_crash(&world, moment).await {
            break moment;
        }
    };
    assert!(uncrashed > 3, "there are more durable writes than {uncrashed}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_moment_of_a_key_rotation_leaves_every_key_readable_on_sqlite() {
    rotations_at_every_moment(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_moment_of_a_key_rotation_leaves_every_key_readable_on_mongo() {
    rotations_at_every_moment(Backend::Mongo).await;
}
