//! A gateway, the upstreams behind it, and the logs of both.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use gateway::config::{ServiceKey, Settings, UpstreamSettings};
use gateway::subscriptions::{Entry, Scope, hash_key, write_file};
use http::{HeaderMap, Method, StatusCode};
use runtime::client::{internal_client, probe_client};
use runtime::secrets::Secret;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Every key has this word in it, and nothing else has: where it shows, a key shows.
pub(crate) const CANARY: &str = "canary";

pub(crate) const CLINIC: &str = "canary-clinic";
pub(crate) const CLINIC_SECONDARY: &str = "canary-clinic-secondary";
pub(crate) const READER: &str = "canary-reader";
pub(crate) const COMPLIANCE: &str = "canary-compliance";
pub(crate) const PRIVACY: &str = "canary-privacy";
pub(crate) const BARE: &str = "canary-bare";

pub(crate) const PATIENTS_SERVICE_KEY: &str = "canary-service-key-of-patients";
pub(crate) const AUDIT_SERVICE_KEY: &str = "canary-service-key-of-audit";

pub(crate) const KEY_HEADER: &str = "Ocp-Apim-Subscription-Key";

pub(crate) fn pepper() -> Secret {
    Secret::new("canary-pepper-of-tests")
}

pub(crate) fn entry(name: &str, scopes: &[Scope], keys: &[&str]) -> Entry {
    let keys = keys.iter().map(|key| hash_key(&pepper(), key)).collect();
    Entry { name: name.parse().unwrap(), scopes: scopes.to_vec(), keys }
}

pub(crate) fn subscriptions() -> Vec<Entry> {
    use Scope::{AuditRead, PatientErase, PatientRead, PatientWrite};
    vec![
        entry("clinic", &[PatientRead, PatientWrite], &[CLINIC, CLINIC_SECONDARY]),
        entry("reader", &[PatientRead], &[READER]),
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
        let app = app.route("/readyz", get(async || "ready"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(runtime::serve::serve(listener, app, stop.clone()));
        Self { address, seen, _stop: stop.drop_guard() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request that came.
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

/// A running gateway.
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) patients: Upstream,
    pub(crate) audit: Upstream,
    pub(crate) directory: TempDir,
    pub(crate) shutdown: CancellationToken,
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
        capture_logs();
        let audit = Upstream::start().await;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("subscriptions.toml");
        write_file(&path, &subscriptions()).unwrap();
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
        change(&mut settings);
        let tls = settings.edge.tls.is_some();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        tokio::spawn(gateway::run(listener, settings, shutdown.clone()));
        let (scheme, client) =
            if tls { ("https", probe_client()) } else { ("http", internal_client()) };
        let url = format!("{scheme}://{address}");
        let door = Self { address, patients, audit, directory, shutdown, url, client };
        // What it answers, it answers with its settings read.
        assert_eq!(got(door.request(Method::GET, "/healthz")).await.status, 200);
        door
    }

    pub(crate) fn subscriptions_path(&self) -> PathBuf {
        self.directory.path().join("subscriptions.toml")
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
