//! Boots the real services on free ports, and talks to them as the gateway does.

use std::{sync::Arc, time::Duration};

use audit_client::{AuditClient, Options};
use audit_service::{
    Parts,
    checkpoint::{CheckpointFile, CheckpointSigner, new_signing_key},
    outside::Outside,
    seal::SealKeys,
    service::system_clock,
    store::memory::MemoryLedger,
};
use domain::{
    ids::PatientId,
    record::{Record, RecordType},
    time::Timestamp,
};
use http::{HeaderMap, Method, StatusCode};
use patient_service::{Deps, Door};
use projections::{
    key_ring::{KeyRing, kek::Kek, memory::MemoryKeys},
    store::{ProjectionStore, memory::MemoryStore},
};
use runtime::{
    health::Readiness,
    secrets::Secret,
    service_keys::{Callers, SERVICE_KEY_HEADER},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub(crate) const GATEWAY_KEY: &str = "the-key-of-the-gateway-at-patients";
pub(crate) const OTHER_KEY: &str = "the-key-of-some-other-service-here";
const AUDIT_KEY: &str = "the-key-of-the-patient-service";
const ORIGIN: &str = "test-ledger";

/// How long an append may take here: long enough for a busy machine, short enough to wait for.
const APPEND_DEADLINE: Duration = Duration::from_secs(2);

/// How long anything that should happen may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running service; dropped, it stops.
pub(crate) struct Process {
    pub(crate) url: String,
    shutdown: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Process {
    async fn stop(&mut self) {
        self.shutdown.cancel();
        if let Some(task) = self.task.take() {
            task.await.unwrap();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// One ledger, one projection store, one key ring; one audit service, and patient services.
pub(crate) struct System {
    pub(crate) ledger: MemoryLedger,
    pub(crate) store: MemoryStore,
    pub(crate) keys: Arc<MemoryKeys>,
    pub(crate) audit: Process,
    pub(crate) patients: Vec<Process>,
    http: reqwest::Client,
    directory: TempDir,
}

impl System {
    pub(crate) async fn start() -> Self {
        Self::with_instances(1).await
    }

    /// Patient services that share everything but their memory.
    pub(crate) async fn with_instances(count: usize) -> Self {
        crate::privacy::capture_logs();
        let directory = tempfile::tempdir().unwrap();
        let ledger = MemoryLedger::new();
        let audit = start_audit("127.0.0.1:0", &ledger, &directory).await;
        let mut system = Self {
            ledger,
            store: MemoryStore::default(),
            keys: Arc::new(MemoryKeys::default()),
            audit,
            patients: Vec::new(),
            http: runtime::client::internal_client(),
            directory,
        };
        for _ in 0..count {
            let url = system.audit.url.clone();
            system.add_instance(&url).await;
        }
        system
    }

    /// Adds a patient service that reaches the audit service at `audit_url`.
    pub(crate) async fn add_instance(&mut self, audit_url: &str) {
        self.add_instance_over(audit_url, Arc::new(self.store.clone())).await;
    }

    /// As [`System::add_instance`], which reaches the projection store through another.
    pub(crate) async fn add_instance_over(
        &mut self,
        audit_url: &str,
        store: Arc<dyn ProjectionStore>,
    ) {
        self.add_instance_with(audit_url, store, &['c']).await;
    }

    /// Adds a patient service whose command keys are these digits over and over, the newest first.
    pub(crate) async fn add_instance_keyed(&mut self, command_keys: &[char]) {
        let url = self.audit.url.clone();
        self.add_instance_with(&url, Arc::new(self.store.clone()), command_keys).await;
    }

    async fn add_instance_with(
        &mut self,
        audit_url: &str,
        store: Arc<dyn ProjectionStore>,
        command_keys: &[char],
    ) {
        let (newest, older) = command_keys.split_first().unwrap();
        let options = Options {
            append_deadline: APPEND_DEADLINE,
            ..Options::new(audit_url, Secret::new(AUDIT_KEY))
        };
        let deps = Deps {
            audit: AuditClient::start(options),
            store,
            ring: KeyRing::new(self.keys.clone(), Kek::new([3; 32].into())),
            command_key: Secret::new(newest.to_string().repeat(64)),
            older_command_keys: older
                .iter()
                .map(|digit| Secret::new(digit.to_string().repeat(64)))
                .collect(),
            // 2100-01-01T00:00:00Z, later than any record made here.
            clock: || Timestamp::from_millis(4_102_444_800_000),
        };
        let keys = [("gateway", GATEWAY_KEY), ("other", OTHER_KEY)];
        let callers =
            Callers::from_keys(keys.map(|(name, key)| (name, Secret::new(key.as_bytes()))));
        let door = Door { callers: Arc::new(callers.unwrap()), readiness: Readiness::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let task = tokio::spawn(async move {
            patient_service::run(listener, door, deps, stop).await.unwrap();
        });
        ready(&self.http, &url).await;
        self.patients.push(Process { url, shutdown, task: Some(task) });
    }

    /// An audit client of its own, for a follower and for records of other processes.
    pub(crate) fn audit_client(&self) -> AuditClient {
        AuditClient::start(Options::new(&self.audit.url, Secret::new(AUDIT_KEY)))
    }

    pub(crate) async fn stop_audit(&mut self) {
        self.audit.stop().await;
    }

    /// Starts the audit service again where it was.
    pub(crate) async fn start_audit(&mut self) {
        let address = self.audit.url.trim_start_matches("http://").to_owned();
        self.audit = start_audit(&address, &self.ledger, &self.directory).await;
    }

    /// Every record of the ledger.
    pub(crate) fn records(&self) -> Vec<Record> {
        let blocks = self.ledger.blocks();
        blocks
            .iter()
            .flat_map(|block| &block.lines)
            .map(|line| Record::parse(line).unwrap())
            .collect()
    }

    pub(crate) fn records_of(&self, record_type: RecordType) -> Vec<Record> {
        self.records().into_iter().filter(|record| record.record_type == record_type).collect()
    }

    /// A request to the first instance.
    pub(crate) fn request(&self, method: Method, path: &str) -> Request {
        self.request_to(0, method, path)
    }

    pub(crate) fn request_to(&self, instance: usize, method: Method, path: &str) -> Request {
        let url = format!("{}{path}", self.patients[instance].url);
        let actor = json!({"id": "clinic", "kind": "subscription"}).to_string();
        let builder = self
            .http
            .request(method, url)
            .header(SERVICE_KEY_HEADER, GATEWAY_KEY)
            .header(runtime::headers::ACTOR_HEADER, actor)
            .header(runtime::headers::CLIENT_HEADER, "192.0.2.7");
        Request(builder)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path).send().await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.request(Method::POST, path).json(body).send().await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.request(Method::PUT, path).json(body).send().await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.request(Method::DELETE, path).send().await
    }

    /// Registers a patient and gives her as she was answered.
    pub(crate) async fn registered(&self, body: &Value) -> Value {
        self.post("/patient", body).await.expect(StatusCode::CREATED).body
    }

    /// Asks an instance to erase a patient.
    pub(crate) fn erase(&self, instance: usize, path: &str) -> Request {
        let body = json!({"reason": "consentWithdrawn"});
        self.request_to(instance, Method::POST, &format!("{path}/erase")).json(&body)
    }

    /// Registers any patient and gives her path.
    pub(crate) async fn any_patient(&self) -> String {
        format!("/patient/{}", text(&self.registered(&crate::samples::patient()).await, "id"))
    }
}

/// A request without its service key, actor or client address.
pub(crate) struct Request(pub(crate) reqwest::RequestBuilder);

impl Request {
    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    /// As another actor.
    pub(crate) fn actor(self, actor: &Value) -> Self {
        let actor = actor.to_string().parse().unwrap();
        let name = runtime::headers::ACTOR_HEADER.parse().unwrap();
        Self(self.0.headers(HeaderMap::from_iter([(name, actor)])))
    }

    /// A body as existing clients send it: with no word of JSON.
    pub(crate) fn json(self, body: &Value) -> Self {
        Self(self.0.header("content-type", "text/plain; charset=utf-8").body(body.to_string()))
    }

    pub(crate) fn bytes(self, body: impl Into<reqwest::Body>) -> Self {
        Self(self.0.body(body))
    }

    pub(crate) async fn send(self) -> Answer {
        let response = self.0.timeout(PATIENCE).send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status, headers, text, body }
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) body: Value,
}

impl Answer {
    #[track_caller]
    pub(crate) fn expect(self, status: StatusCode) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        if status.is_client_error() || status.is_server_error() {
            assert_eq!(self.header("content-type"), "application/problem+json");
            assert_eq!(self.body["statusCode"], status.as_u16());
            assert_eq!(self.body["status"], status.as_u16());
            assert!(self.body["trace"].is_string());
        }
        self
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn receipt(&self) -> &str {
        self.header("audit-receipt")
    }
}

pub(crate) fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap()
}

pub(crate) fn id(value: &Value) -> PatientId {
    text(value, "id").parse().unwrap()
}

async fn start_audit(address: &str, ledger: &MemoryLedger, directory: &TempDir) -> Process {
    let listener = TcpListener::bind(address).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let key = new_signing_key(&ORIGIN.parse().unwrap(), [1; 32]);
    let parts = Parts {
        store: Arc::new(ledger.clone()),
        signer: CheckpointSigner::from_secret(&Secret::new(key.as_bytes())).unwrap(),
        seal_keys: SealKeys::new([2; 32]),
        checkpoint_file: CheckpointFile::new(directory.path().join("checkpoint")),
        clock: system_clock(),
        outside: Outside::default(),
    };
    let callers = Callers::from_keys([("patient-service", Secret::new(AUDIT_KEY))]).unwrap();
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let task = tokio::spawn(async move {
        let parts = async { Ok(parts) };
        audit_service::run(listener, callers, Readiness::default(), stop, parts).await.unwrap();
    });
    ready(&runtime::client::internal_client(), &url).await;
    Process { url, shutdown, task: Some(task) }
}

/// Waits until a service says that it is ready.
async fn ready(http: &reqwest::Client, url: &str) {
    let wait = async {
        loop {
            let answer = http.get(format!("{url}/readyz")).send().await;
            if answer.is_ok_and(|answer| answer.status() == StatusCode::OK) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the service is ready in time");
}
