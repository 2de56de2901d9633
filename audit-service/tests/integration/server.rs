//! The real service on a free port, on a ledger in memory.

use std::time::Duration;

use audit_service::{Parts, outside::Outside, store::memory::MemoryLedger};
use domain::record::Record;
use http::HeaderMap;
use runtime::{
    headers::ACTOR_HEADER,
    health::Readiness,
    secrets::Secret,
    service_keys::{Callers, SERVICE_KEY_HEADER},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::fixture::{FIRST_KEY, Machine, PATIENCE};

/// Everybody who has a key.
pub(crate) const CALLERS: [&str; 6] =
    ["patient-service", "gateway", "projections", "audit", "operator", "old-clinic"];

/// A caller's key.
pub(crate) fn key(caller: &str) -> String {
    format!("the-service-key-of-{caller}")
}

pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) store: MemoryLedger,
    pub(crate) shutdown: CancellationToken,
    http: reqwest::Client,
    task: JoinHandle<()>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The lines of an NDJSON answer.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<&str> {
        assert_eq!((self.status, self.header("content-type")), (200, Some("application/x-ndjson")));
        assert!(self.text.is_empty() || self.text.ends_with('\n'));
        self.text.lines().collect()
    }

    #[track_caller]
    pub(crate) fn records(&self) -> Vec<Record> {
        self.lines().into_iter().map(|line| Record::parse(line).unwrap()).collect()
    }

    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!((&problem["status"], &problem["statusCode"]), (&json!(status), &json!(status)));
        problem
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_on(&MemoryLedger::new()).await
    }

    pub(crate) async fn start_on(store: &MemoryLedger) -> Self {
        Self::start_as(&[FIRST_KEY], store, Outside::default()).await
    }

    /// As [`Server::start_on`], with these signing keys.
    pub(crate) async fn start_with(seeds: &[u8], store: &MemoryLedger) -> Self {
        Self::start_as(seeds, store, Outside::default()).await
    }

    /// One with witnesses and anchors.
    pub(crate) async fn start_outside(store: &MemoryLedger, outside: Outside) -> Self {
        Self::start_as(&[FIRST_KEY], store, outside).await
    }

    async fn start_as(seeds: &[u8], store: &MemoryLedger, outside: Outside) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let machine = Machine::new();
        let callers = CALLERS.map(|caller| (caller, Secret::new(key(caller))));
        let parts = Parts { outside, ..machine.parts_with(seeds, store.clone()) };
        let stop = shutdown.clone();
        let task = tokio::spawn(async move {
            let callers = Callers::from_keys(callers).unwrap();
            let parts = async { Ok(parts) };
            audit_service::run(listener, callers, Readiness::default(), stop, parts).await.unwrap();
            drop(machine);
        });
        let http = runtime::client::internal_client();
        let server = Self { url, store: store.clone(), shutdown, http, task };
        server.become_ready().await;
        server
    }

    async fn become_ready(&self) {
        let polling = async {
            while self.get_with_key("none", "/readyz").await.status != 200 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, polling).await.expect("the service gets ready");
    }

    pub(crate) async fn get(&self, caller: &str, path: &str) -> Answer {
        self.get_with_key(&key(caller), path).await
    }

    pub(crate) async fn get_with_key(&self, key: &str, path: &str) -> Answer {
        self.send(self.http.get(self.at(path)).header(SERVICE_KEY_HEADER, key)).await
    }

    /// A read that the gateway makes for a client.
    pub(crate) async fn get_for(&self, client: &str, path: &str) -> Answer {
        let actor = json!({ "id": client, "kind": "subscription" }).to_string();
        let request = self.http.get(self.at(path)).header(SERVICE_KEY_HEADER, key("gateway"));
        self.send(request.header(ACTOR_HEADER, actor)).await
    }

    pub(crate) async fn post(
        &self,
        caller: &str,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        self.send(self.request(caller, "POST", path).body(body)).await
    }

    pub(crate) fn request(
        &self,
        caller: &str,
        method: &str,
        path: &str,
    ) -> reqwest::RequestBuilder {
        let method = method.parse().unwrap();
        self.http.request(method, self.at(path)).header(SERVICE_KEY_HEADER, key(caller))
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.timeout(PATIENCE * 4).send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, text: response.text().await.unwrap() }
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE * 3, self.task).await.expect("it stops").unwrap();
    }
}
