//! A gateway, the upstreams behind it, and the logs of both.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use domain::hash::Hash;
use domain::time::Timestamp;
use domain::wire::{AppendRequest, AppendResponse, AppendResult, Proposal, Receipt};
use gateway::config::{Rate, ServiceKey, Settings, UpstreamSettings};
use gateway::subscriptions::{Entry, Scope, hash_key, write_file};
use gateway::{GatewayError, Listeners};
use http::{HeaderMap, Method, StatusCode};
use runtime::client::{internal_client, probe_client};
use runtime::metrics::Meters;
use runtime::secrets::Secret;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longer than anything here takes; reached only when a promise is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Every key has this word in it, and nothing else has: where it shows, a key shows.
pub(crate) const CANARY: &str = "canary";

pub(crate) const CLINIC: &str = "canary-clinic";
pub(crate) const CLINIC_SECONDARY: &str = "canary-clinic-secondary";
pub(crate) const READER: &str = "canary-reader";
pub(crate) const WRITER: &str = "canary-writer";
pub(crate) const COMPLIANCE: &str = "canary-compliance";
pub(crate) const PRIVACY: &str = "canary-privacy";
pub(crate) const BARE: &str = "canary-bare";

pub(crate) const PATIENTS_SERVICE_KEY: &str = "canary-service-key-of-patients";
pub(crate) const AUDIT_SERVICE_KEY: &str = "canary-service-key-of-audit";

pub(crate) const KEY_HEADER: &str = "Ocp-Apim-Subscription-Key";

/// All clients of a test have one address, and many of its requests are to be refused.
pub(crate) const NO_LIMIT: Rate = Rate::new(1_000_000, 1_000_000);

pub(crate) fn pepper() -> Secret {
    Secret::new("canary-pepper-of-tests")
}

pub(crate) fn entry(name: &str, scopes: &[Scope], keys: &[&str]) -> Entry {
    let keys = keys.iter().map(|key| hash_key(&pepper(), key)).collect();
    Entry::new(name.parse().unwrap(), scopes.to_vec(), keys)
}

pub(crate) fn subscriptions() -> Vec<Entry> {
    use Scope::{AuditRead, PatientErase, PatientRead, PatientWrite};
    vec![
        entry("clinic", &[PatientRead, PatientWrite], &[CLINIC, CLINIC_SECONDARY]),
        entry("reader", &[PatientRead], &[READER]),
        entry("writer", &[PatientWrite], &[WRITER]),
        entry("compliance", &[AuditRead], &[COMPLIANCE]),
        entry("privacy", &[PatientErase], &[PRIVACY]),
        entry("bare", &[], &[BARE]),
    ]
}

/// A request as it reached an upstream.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

type Answer = Arc<dyn Fn(&Seen) -> Response + Send + Sync>;

/// A service that keeps what it was sent.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    recorded: Arc<Mutex<Vec<Proposal>>>,
    _stop: DropGuard,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        Self::answering(|_| StatusCode::OK.into_response()).await
    }

    pub(crate) async fn answering(
        answer: impl Fn(&Seen) -> Response + Send + Sync + 'static,
    ) -> Self {
        let answer: Answer = Arc::new(answer);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        let handler = async move |request: Request| {
            let (parts, body) = request.into_parts();
            let body = to_bytes(body, 4 << 20).await.unwrap();
            let uri = parts.uri.to_string();
            let one = Seen { method: parts.method, uri, headers: parts.headers, body };
            let response = answer(&one);
            kept.lock().unwrap().push(one);
            response
        };
        Self::serving(Router::new().fallback(handler), seen).await
    }

    pub(crate) async fn serving(app: Router, seen: Arc<Mutex<Vec<Seen>>>) -> Self {
        let recorded = Arc::<Mutex<Vec<Proposal>>>::default();
        let ledger = Arc::clone(&recorded);
        let append = async move |Json(request): Json<AppendRequest>| {
            let results = request.items.iter().map(appended).collect();
            ledger.lock().unwrap().extend(request.items);
            Json(AppendResponse { results })
        };
        let app = app.route("/readyz", get(async || "ready"));
        let with_ledger = post(append).fallback_service(app.clone());
        let app = Router::new().route("/records/batch", with_ledger).fallback_service(app);
        let mut upstream = Self::replacing(app).await;
        upstream.seen = seen;
        upstream.recorded = recorded;
        upstream
    }

    /// Serves nothing but this.
    pub(crate) async fn replacing(app: Router) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), app)
    }

    /// Serves nothing but this, here.
    pub(crate) fn on(listener: TcpListener, app: Router) -> Self {
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(runtime::serve::serve(listener, app, stop.clone()));
        let (seen, recorded) = Default::default();
        Self { address, seen, recorded, _stop: stop.drop_guard() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was asked to append, as an audit service.
    pub(crate) fn recorded(&self) -> Vec<Proposal> {
        self.recorded.lock().unwrap().clone()
    }

    /// Every request that came, but for those to append.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests came.
    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// The last request that came.
    #[track_caller]
    pub(crate) fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().expect("a request").clone()
    }
}

/// What a ledger answers that takes everything.
pub(crate) fn appended(proposal: &Proposal) -> AppendResult {
    AppendResult::Appended(Receipt {
        seq: 0,
        hash: Hash::ZERO,
        stream: proposal.stream,
        version: None,
        recorded_at: Timestamp::EPOCH,
        current_version: None,
        replayed: false,
        proof: None,
        span: None,
    })
}

/// A running gateway.
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) patients: Upstream,
    pub(crate) audit: Upstream,
    pub(crate) directory: TempDir,
    pub(crate) shutdown: CancellationToken,
    /// Where it answers `/metrics`.
    metrics: SocketAddr,
    running: Mutex<Option<JoinHandle<Result<(), GatewayError>>>>,
    url: String,
    client: reqwest::Client,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Door {
    pub(crate) async fn open() -> Self {
        Self::before(Upstream::start().await, |_| {}).await
    }

    /// A gateway before this patient service, with settings as `change` makes them.
    pub(crate) async fn before(patients: Upstream, change: impl FnOnce(&mut Settings)) -> Self {
        Self::serving(patients, &subscriptions(), change).await
    }

    /// As [`Door::before`], with these subscriptions.
    pub(crate) async fn serving(
        patients: Upstream,
        entries: &[Entry],
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        Self::listening("127.0.0.1:0", patients, entries, change).await
    }

    /// As [`Door::serving`], on this address.
    pub(crate) async fn listening(
        address: &str,
        patients: Upstream,
        entries: &[Entry],
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        write_file(&directory.path().join("subscriptions.toml"), entries).unwrap();
        Self::start(address, patients, directory, change).await
    }

    async fn start(
        address: &str,
        patients: Upstream,
        directory: TempDir,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        capture_logs();
        let audit = Upstream::start().await;
        let path = directory.path().join("subscriptions.toml");
        let upstream = |upstream: &Upstream, key: &str| UpstreamSettings {
            url: upstream.url(),
            key: ServiceKey::Fixed(Secret::new(key)),
        };
        let mut settings = Settings::new(
            upstream(&patients, PATIENTS_SERVICE_KEY),
            upstream(&audit, AUDIT_SERVICE_KEY),
            path,
            pepper(),
        );
        settings.reload_interval = Duration::from_millis(20);
        settings.edge.unauthenticated = NO_LIMIT;
        change(&mut settings);
        let tls = settings.edge.tls.is_some();
        let listener = TcpListener::bind(address).await.unwrap();
        let mut address = listener.local_addr().unwrap();
        if address.ip().is_unspecified() {
            address.set_ip([127, 0, 0, 1].into());
        }
        let shutdown = CancellationToken::new();
        let scraped = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let metrics = scraped.local_addr().unwrap();
        let listeners = Listeners {
            public: listener,
            metrics: Some(scraped.into()),
            meters: Meters::default(),
        };
        let running = tokio::spawn(gateway::run(listeners, settings, shutdown.clone()));
        let running = Mutex::new(Some(running));
        let (scheme, client) =
            if tls { ("https", probe_client()) } else { ("http", internal_client()) };
        let url = format!("{scheme}://{address}");
        let door =
            Self { address, patients, audit, directory, shutdown, metrics, running, url, client };
        // What it answers then, it answers with its settings read.
        door.until_part("routes", "ready").await;
        door
    }

    /// What it says of itself.
    pub(crate) async fn readyz(&self) -> Got {
        got(self.request(Method::GET, "/readyz")).await
    }

    /// Waits until it says this of a part of itself.
    pub(crate) async fn until_part(&self, part: &str, expected: &str) {
        let changed = async {
            while self.readyz().await.json()["components"][part] != expected {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let changed = timeout(PATIENCE, changed).await;
        assert!(changed.is_ok(), "{part} is not {expected}: {:?}", self.readyz().await);
    }

    /// Stops it, and waits until it has.
    pub(crate) async fn stop(&mut self) {
        self.shutdown.cancel();
        let running = self.running.lock().unwrap().take().expect("it runs");
        running.await.unwrap().unwrap();
    }

    /// Another gateway on the files of this one.
    pub(crate) async fn again(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap());
        Self::start("127.0.0.1:0", Upstream::start().await, directory, change).await
    }

    /// The status that a key gets where every known key is enough.
    pub(crate) async fn status(&self, key: &str) -> u16 {
        got(self.request(Method::GET, "/echo/resource").header(KEY_HEADER, key)).await.status
    }

    /// Waits until a key gets this status.
    pub(crate) async fn until(&self, key: &str, expected: u16) {
        let changed = async {
            while self.status(key).await != expected {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), changed).await.unwrap();
    }

    pub(crate) fn subscriptions_path(&self) -> PathBuf {
        self.directory.path().join("subscriptions.toml")
    }

    /// Stops it and waits until it has ended.
    pub(crate) async fn close(&self) {
        self.shutdown.cancel();
        let running = self.running.lock().unwrap().take().expect("it runs");
        timeout(PATIENCE, running).await.expect("it ends").unwrap().unwrap();
    }

    /// Where it says what it counts.
    pub(crate) fn metrics_address(&self) -> SocketAddr {
        self.metrics
    }

    /// What it counts.
    pub(crate) async fn metrics(&self) -> Got {
        got(self.client.get(format!("http://{}/metrics", self.metrics))).await
    }

    /// One number that it counts, by what follows `vitalog_gateway_`; 0 where there is none yet.
    pub(crate) async fn metric_now(&self, name: &str) -> u64 {
        let text = self.metrics().await.text;
        let name = format!("vitalog_gateway_{name} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Waits until a number that it counts is this.
    pub(crate) async fn metric(&self, name: &str, expected: u64) {
        let reached = async {
            while self.metric_now(name).await != expected {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let reached = timeout(PATIENCE, reached).await.is_ok();
        assert!(reached, "{name} is not {expected}: {}", self.metrics().await.text);
    }

    /// A request without a key.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// A request of a clinic.
    pub(crate) fn clinic(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.request(method, path).header(KEY_HEADER, CLINIC)
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect(&self.text)
    }

    /// The whole seconds after which it says to try again.
    #[track_caller]
    pub(crate) fn retry_after(&self) -> u64 {
        self.header("retry-after").expect("it says when to try again").parse().unwrap()
    }

    /// The answer is problem details of this status; returns its message.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let body = self.json();
        assert_eq!(body["status"], status);
        assert_eq!(body["statusCode"], status);
        assert!(body["trace"].is_string(), "{body}");
        body["message"].as_str().unwrap().to_owned()
    }
}

/// Sends a request and reads the whole answer.
pub(crate) async fn got(request: reqwest::RequestBuilder) -> Got {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    Got { status, headers, text: response.text().await.unwrap() }
}

/// What a service answers on errors.
pub(crate) fn problem(status: StatusCode) -> Response {
    runtime::problem::Problem::new(status, "from upstream").into_response()
}

/// A body that never ends.
pub(crate) fn endless_body(first: &'static str) -> Body {
    use futures::StreamExt;
    let first = futures::stream::iter([Ok::<_, std::io::Error>(first)]);
    Body::from_stream(first.chain(futures::stream::pending()))
}

static LOGS: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Everything that any test of this process made anyone log, at every level.
pub(crate) fn logs() -> String {
    String::from_utf8(LOGS.lock().unwrap().clone()).unwrap()
}

struct Logs;

impl Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGS.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn capture_logs() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(|| Logs)
            .init();
    });
}
