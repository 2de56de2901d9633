//! A light load: what a few clinics do.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use crate::{
    http::{Answer, Api, text_body, try_send},
    samples::{plain_patient, test},
};

/// Requests under way; what is over it is not sent.
const AT_ONCE: usize = 64;

/// Patients to go on with.
const PATIENTS: usize = 50;

/// Requests of a fixed rate, until it is dropped.
#[derive(Debug)]
pub struct Traffic {
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    clinic: Api,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    patients: VecDeque<String>,
    answers: BTreeMap<(&'static str, u16), usize>,
}

impl Traffic {
    /// Begins.
    pub fn start(clinic: Api, a_second: u32) -> Self {
        let shared = Arc::new(Shared { clinic, seen: Mutex::default() });
        let mut task = JoinSet::new();
        task.spawn(run(Arc::clone(&shared), Duration::from_secs(1) / a_second));
        Self { shared, _task: task }
    }

    /// How often each request was answered with which status; 0 stands for no answer.
    pub fn answers(&self) -> BTreeMap<(&'static str, u16), usize> {
        self.shared.seen().answers.clone()
    }
}

async fn run(shared: Arc<Shared>, pause: Duration) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let (mut requests, mut ticks) = (JoinSet::new(), interval(pause));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for turn in 0_usize.. {
        ticks.tick().await;
        while requests.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let shared = Arc::clone(&shared);
        requests.spawn(async move {
            shared.request(turn).await;
            drop(place);
        });
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn request(&self, turn: usize) {
        let patient = self.patient(turn);
        let (what, answer) = match (patient, turn % 8) {
            (None, _) | (_, 0 | 4) => {
                let answer = self.post("/patient", &plain_patient()).await;
                self.created(answer.as_ref());
                ("POST /patient", answer)
            }
            (Some(patient), 2) => {
                let path = format!("/patient/{patient}/tests");
                ("POST /patient/{id}/tests", self.post(&path, &test(1)).await)
            }
            (Some(_), 6) => {
                ("POST /patient/search", self.post("/patient/search", &json!({})).await)
            }
            (Some(patient), _) => {
                let request = self.clinic.request(Method::GET, &format!("/patient/{patient}"));
                ("GET /patient/{id}", try_send(request).await.ok())
            }
        };
        let status = answer.map_or(0, |answer| answer.status);
        *self.seen().answers.entry((what, status)).or_default() += 1;
    }

    async fn post(&self, path: &str, body: &Value) -> Option<Answer> {
        try_send(text_body(self.clinic.request(Method::POST, path), body)).await.ok()
    }

    /// One of the patients so far.
    fn patient(&self, turn: usize) -> Option<String> {
        let patients = &self.seen().patients;
        let at = turn.checked_rem(patients.len())?;
        patients.get(at).cloned()
    }

    fn created(&self, answer: Option<&Answer>) {
        let body = answer.and_then(|it| serde_json::from_slice::<Value>(&it.body).ok());
        let Some(id) = body.as_ref().and_then(|body| body["id"].as_str()) else { return };
        let patients = &mut self.seen().patients;
        patients.truncate(PATIENTS - 1);
        patients.push_front(id.to_owned());
    }
}
