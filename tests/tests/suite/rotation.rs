//! Keys and credentials that services use are replaced, as the docs say, under clients that have
//! not one request fail.

mod database;
mod service_keys;
mod start_keys;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use domain::record::{Record, RecordType};
use reqwest::Method;
use serde_json::{Value, json};
use tests::{
    http::{Answer, Api, text_body, try_send},
    ledger::Ledger,
    programs::POLL_PAUSE,
    samples::{id_of, patient, random_name, test},
    system::{PATIENCE, System},
};
use tokio::task::JoinSet;

/// Clients at once.
const CLIENTS: usize = 4;

/// Between two refusals of one caller; the gateway records ten in a second.
const REFUSAL_PAUSE: Duration = Duration::from_millis(250);

/// Clients of the public API, who use every service and every hop between two of them.
struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

struct Shared {
    clinic: Api,
    compliance: Api,
    stop: AtomicBool,
    rounds: AtomicUsize,
    refused: AtomicUsize,
    failed: Mutex<Vec<String>>,
}

impl Load {
    /// Starts the clients, with `patient:read` and `patient:write`, and with `audit:read`.
    fn start(clinic: Api, compliance: Api) -> Self {
        let shared = Arc::new(Shared {
            clinic,
            compliance,
            stop: AtomicBool::new(false),
            rounds: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            failed: Mutex::default(),
        });
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(Arc::clone(&shared).work());
        }
        clients.spawn(Arc::clone(&shared).be_refused());
        Self { shared, clients }
    }

    /// Waits until each client has been through everything since this was asked, or has failed.
    async fn go_on(&self) {
        let rounds = || self.shared.rounds.load(Ordering::SeqCst);
        let (until, deadline) = (rounds() + 2 * CLIENTS, Instant::now() + PATIENCE);
        while rounds() < until && self.shared.failed().is_empty() {
            assert!(Instant::now() < deadline, "nothing is answered any more");
            tokio::time::sleep(POLL_PAUSE).await;
        }
    }

    /// Ends the clients; none of them may have seen a failure, and every refusal is a record.
    async fn finish(self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.clients.join_all().await;
        assert_eq!(*self.shared.failed(), [""; 0]);
        let refused = self.shared.refused.load(Ordering::SeqCst);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ledger = Ledger::read(&self.shared.compliance).await;
            let of_type = |it: &&Record| it.record_type == RecordType::AccessRefused;
            let recorded = ledger.records.iter().filter(of_type).count();
            if recorded >= refused {
                assert!(refused > 0 && recorded == refused, "{recorded} of {refused}");
                return;
            }
            assert!(Instant::now() < deadline, "{recorded} of {refused} refusals are recorded");
            tokio::time::sleep(POLL_PAUSE).await;
        }
    }
}

impl Shared {
    fn failed(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.failed.lock().unwrap()
    }

    async fn work(self: Arc<Self>) {
        while !self.stop.load(Ordering::SeqCst) {
            if self.round().await.is_none() {
                return;
            }
            self.rounds.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Everything that a clinic does with a patient, and an auditor with the ledger.
    async fn round(&self) -> Option<()> {
        let (clinic, none) = (&self.clinic, &Value::Null);
        let name = random_name();
        let created = self.ask(clinic, Method::POST, "/patient", &patient(&name), 201).await?;
        let path = format!("/patient/{}", id_of(&created.json()));
        let tests = format!("{path}/tests");
        let search = json!({ "firstName": name });
        for (api, method, path, body, status) in [
            (clinic, Method::PUT, path.as_str(), &created.json(), 200),
            (clinic, Method::GET, &path, none, 200),
            (clinic, Method::POST, &tests, &test(1), 201),
            (clinic, Method::GET, &tests, none, 200),
            (clinic, Method::POST, "/patient/search", &search, 200),
            (clinic, Method::GET, &format!("{path}/history"), none, 200),
            // Waits for the follower.
            (clinic, Method::GET, &format!("{path}/activity"), none, 200),
            (&self.compliance, Method::GET, "/audit/records?limit=2", none, 200),
        ] {
            let _ = self.ask(api, method, path, body, status).await?;
        }
        Some(())
    }

    /// Is refused again and again, which the gateway itself has recorded.
    async fn be_refused(self: Arc<Self>) {
        while !self.stop.load(Ordering::SeqCst) {
            let asked =
                self.ask(&self.clinic, Method::GET, "/audit/records", &Value::Null, 403).await;
            if asked.is_none() {
                return;
            }
            self.refused.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(REFUSAL_PAUSE).await;
        }
    }

    /// The answer, if it has this status.
    async fn ask(
        &self,
        api: &Api,
        method: Method,
        path: &str,
        body: &Value,
        status: u16,
    ) -> Option<Answer> {
        let request = api.request(method, path);
        let request = if body.is_null() { request } else { text_body(request, body) };
        let problem = match try_send(request).await {
            Ok(answer) if answer.status == status => return Some(answer),
            Ok(answer) => format!("{answer:?}"),
            Err(error) => format!("{error:#}"),
        };
        self.failed().push(problem);
        None
    }
}

/// A system of replicas behind balancers, with its clients at work.
async fn at_work(system: &System, mongo: &str) -> Load {
    let key = async |name: &str, scopes: &[&str]| {
        let scopes = scopes.iter().flat_map(|scope| ["--scope", scope]);
        let command: Vec<&str> = ["add", name].into_iter().chain(scopes).collect();
        let key = system.subscriptions(Some(mongo), &command).await.unwrap();
        system.api().with_key(key)
    };
    let clinic = key("clinic", &["patient:read", "patient:write"]).await;
    let compliance = key("compliance", &["audit:read"]).await;
    // Each of the gateways learns of them within a second.
    let deadline = Instant::now() + PATIENCE;
    let mut known = 0;
    while known < 20 {
        assert!(Instant::now() < deadline, "the keys are not known");
        known = if compliance.get("/echo/resource").await.status == 200 { known + 1 } else { 0 };
        tokio::time::sleep(POLL_PAUSE).await;
    }
    let load = Load::start(clinic, compliance);
    load.go_on().await;
    load
}
