//! Random histories, with conflicts, retries, removals, erasures and crashes.

use std::sync::Arc;

use futures::future::join_all;
use projections::store::memory::MemoryStore;
use proptest::{prelude::*, test_runner::TestRunner};
use reqwest::Method;
use serde_json::{Value, json};
use tests::samples;
use tokio::sync::Mutex;

use super::{
    crash::Crash,
    process::{Answer, Process},
    world::{Backend, World},
};

/// Commands that are under way at once, mostly of the same few patients.
const AT_ONCE: usize = 4;

/// Patients that a history goes on about; few, so that commands meet.
const PATIENTS: usize = 3;

/// What somebody does, by the number of a patient and of one of her tests.
#[derive(Debug, Clone)]
enum Step {
    Register,
    Amend(usize),
    Remove(usize),
    Record(usize),
    AmendTest(usize, usize),
    RemoveTest(usize, usize),
    Erase(usize),
    /// Sends a command again that was sent before, under its key.
    Retry(usize),
    Read(usize),
    Search,
    /// The process is killed at a moment from here on, and another started.
    Kill(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let patient = 0..PATIENTS;
    prop_oneof![
        3 => Just(Step::Register),
        4 => patient.clone().prop_map(Step::Amend),
        1 => patient.clone().prop_map(Step::Remove),
        5 => patient.clone().prop_map(Step::Record),
        3 => (patient.clone(), 0..3_usize).prop_map(|(one, test)| Step::AmendTest(one, test)),
        2 => (patient.clone(), 0..3_usize).prop_map(|(one, test)| Step::RemoveTest(one, test)),
        1 => patient.clone().prop_map(Step::Erase),
        3 => (0..100_usize).prop_map(Step::Retry),
        2 => patient.prop_map(Step::Read),
        1 => Just(Step::Search),
        1 => (0..12_usize).prop_map(Step::Kill),
    ]
}

/// A command that can be sent again.
#[derive(Clone)]
struct Sent {
    method: Method,
    path: String,
    key: String,
    body: Option<Value>,
}

/// Patients and tests as far as they were answered, and what was sent.
#[derive(Default)]
struct Known {
    patients: Vec<(String, Vec<String>)>,
    sent: Vec<Sent>,
    commands: usize,
}

impl Known {
    fn path(&self, patient: usize) -> Option<String> {
        let (id, _) = self.patients.iter().rev().nth(patient)?;
        Some(format!("/patient/{id}"))
    }

    fn test_path(&self, patient: usize, test: usize) -> Option<String> {
        let (id, tests) = self.patients.iter().rev().nth(patient)?;
        Some(format!("/patient/{id}/tests/{}", tests.iter().rev().nth(test)?))
    }

    /// The command of a step, if there is anything for it to be about.
    fn command(&mut self, step: &Step) -> Option<Sent> {
        let name = || Some(samples::patient(&samples::random_name()));
        let with_id = |path: &str, mut body: Value| {
            body["id"] = path.rsplit('/').next().into();
            Some(body)
        };
        let (method, path, body) = match step {
            Step::Register => (Method::POST, "/patient".to_owned(), name()),
            Step::Amend(patient) => {
                let path = self.path(*patient)?;
                let body = with_id(&path, samples::patient(&samples::random_name()));
                (Method::PUT, path, body)
            }
            Step::Remove(patient) => (Method::DELETE, self.path(*patient)?, None),
            Step::Record(patient) => {
                let path = format!("{}/tests", self.path(*patient)?);
                (Method::POST, path, Some(samples::test(2)))
            }
            Step::AmendTest(patient, test) => {
                let path = self.test_path(*patient, *test)?;
                let body = with_id(&path, samples::test(1));
                (Method::PUT, path, body)
            }
            Step::RemoveTest(patient, test) => {
                (Method::DELETE, self.test_path(*patient, *test)?, None)
            }
            Step::Erase(patient) => {
                let path = format!("{}/erase", self.path(*patient)?);
                (Method::POST, path, Some(json!({ "reason": "objection" })))
            }
            Step::Retry(nth) => {
                let sent = self.sent.len();
                return self.sent.get(nth % sent.max(1)).cloned();
            }
            Step::Read(patient) => (Method::GET, self.path(*patient)?, None),
            Step::Search => (Method::POST, "/patient/search".to_owned(), Some(json!({}))),
            Step::Kill(_) => return None,
        };
        self.commands += 1;
        let sent = Sent { method, path, key: format!("command-{}", self.commands), body };
        self.sent.push(sent.clone());
        Some(sent)
    }

    fn learn(&mut self, sent: &Sent, answer: &Answer) {
        let Some(id) = answer.body["id"].as_str().filter(|_| answer.status == 201) else { return };
        match answer.body["patientId"].as_str() {
            None if !self.patients.iter().any(|(known, _)| known == id) => {
                self.patients.push((id.to_owned(), Vec::new()));
            }
            Some(patient) => {
                let found = self.patients.iter_mut().find(|(known, _)| known == patient);
                if let Some((_, tests)) = found
                    && !tests.iter().any(|known| known == id)
                {
                    tests.push(id.to_owned());
                }
            }
            None => {}
        }
        assert_eq!(sent.method, Method::POST);
    }
}

/// What a client may be told, whatever happens behind the service.
const ANSWERS: [u16; 8] = [200, 201, 204, 404, 410, 412, 422, 503];

async fn send(process: &Process, known: &Mutex<Known>, step: &Step) {
    let Some(sent) = known.lock().await.command(step) else { return };
    let Sent { method, path, key, body } = &sent;
    let key = (*method != Method::GET && path != "/patient/search").then_some(key.as_str());
    if let Some(answer) = process.send(method.clone(), path, key, body.as_ref()).await {
        assert!(ANSWERS.contains(&answer.status), "{method} {path}: {}", answer.status);
        known.lock().await.learn(&sent, &answer);
    }
}

async fn live(backend: Backend, steps: &[Step]) {
    let world = World::new(backend).await;
    let known = Mutex::new(Known::default());
    let mut process = Process::start(&world, Crash::never()).await;
    send(&process, &known, &Step::Register).await;
    for run in steps.chunks(AT_ONCE) {
        let kill = run.iter().find_map(|step| match step {
            Step::Kill(moment) => Some(*moment),
            _ => None,
        });
        if let Some(moment) = kill {
            process.kill();
            process = Process::start(&world, Crash::at(moment)).await;
        }
        join_all(run.iter().map(|step| send(&process, &known, step))).await;
        if kill.is_some() {
            process.kill();
            process = Process::start(&world, Crash::never()).await;
        }
    }
    world.check("live and rebuilt differ").await;
    process.kill();
    world.end().await;
}

fn histories(backend: Backend, cases: u32) {
    let config = ProptestConfig { cases, max_shrink_iters: 30, ..ProptestConfig::default() };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let histories = prop::collection::vec(step(), 10..60);
    TestRunner::new(config)
        .run(&histories, |steps| {
            runtime.block_on(live(backend, &steps));
            Ok(())
        })
        .unwrap();
}

#[test]
fn random_histories_replay_to_what_is_live_on_sqlite() {
    histories(Backend::Sqlite, 12);
}

#[test]
fn random_histories_replay_to_what_is_live_on_mongo() {
    histories(Backend::Mongo, 8);
}

/// One ledger, followed into one store and rebuilt into all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_store_comes_to_the_same_read_models() {
    let (world, other) = (World::new(Backend::Sqlite).await, World::new(Backend::Mongo).await);
    let known = Mutex::new(Known::default());
    let process = Process::start(&world, Crash::never()).await;
    let rounds = [
        vec![Step::Register, Step::Register, Step::Register],
        vec![Step::Record(0), Step::Record(1), Step::Amend(0), Step::Record(1), Step::Record(2)],
        vec![Step::AmendTest(0, 0), Step::RemoveTest(1, 0), Step::Erase(2), Step::Search],
        vec![Step::Remove(1), Step::Register, Step::Record(0), Step::Retry(4)],
    ];
    for round in &rounds {
        join_all(round.iter().map(|step| send(&process, &known, step))).await;
    }
    let live = world.live().await;
    assert!(live.patients >= 4 && live.tests >= 4, "{live:?}");
    assert_eq!(world.rebuilt(Arc::new(MemoryStore::default())).await, live);
    assert_eq!(world.rebuilt(other.place.store().await).await, live);
    assert_eq!(world.rebuilt(world.place.store().await).await, live);
    process.kill();
    other.end().await;
    world.end().await;
}
