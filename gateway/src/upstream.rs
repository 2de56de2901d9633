//! A service behind the gateway: where it is, its key, and whether it answers.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use audit_client::AuditClient;
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use reqwest::Url;
use runtime::client::Connector;
use runtime::health::Component;
use runtime::reloaded::Reloaded;
use runtime::secrets::Secret;
use tokio::sync::Notify;
use tokio::time::timeout;
use tower::retry::budget::{Budget, TpsBudget};

use crate::GatewayError;
use crate::breaker::{Breaker, Change};
use crate::config::{ServiceKey, UpstreamSettings};
use crate::connections::Connections;
use crate::metrics::Metrics;
use crate::occasional::Occasional;

/// Between two looks at whether an upstream is still ready.
const READINESS_INTERVAL: Duration = Duration::from_secs(2);

/// Between two looks at whether one that is not ready has become so: processes that start together
/// should not wait for each other for long.
const UNREADY_INTERVAL: Duration = Duration::from_millis(250);

/// How long an upstream may take to say whether it is ready.
const READINESS_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest answer to that, in bytes.
const READINESS_BYTES: usize = 64 * 1024;

/// How long a request counts for the budget of retries.
const RETRY_MEMORY: Duration = Duration::from_secs(10);

/// Retries that are allowed however few requests there are.
const RETRIES_PER_SECOND: u32 = 1;

/// Retries for each request besides.
const RETRY_SHARE: f32 = 0.1;

/// One service.
pub(crate) struct Upstream {
    name: &'static str,
    /// Without a trailing slash.
    base: String,
    /// What the base says behind the host, mostly nothing.
    prefix: String,
    connections: Arc<Connections>,
    source: ServiceKey,
    key: Arc<Reloaded<HeaderValue>>,
    failures: Occasional,
    breaker: Mutex<Breaker>,
    /// Woken when the breaker opens, so that a service that is back is found soon.
    look: Notify,
    retry_budget: TpsBudget,
    metrics: Arc<Metrics>,
}

impl Upstream {
    pub(crate) fn new(
        name: &'static str,
        settings: UpstreamSettings,
        connector: Connector,
        breaker_failures: NonZeroU32,
        metrics: Arc<Metrics>,
    ) -> Result<Self, GatewayError> {
        let base = settings.url.trim_end_matches('/').to_owned();
        let usable = Url::parse(&base).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.query().is_none()
                && url.fragment().is_none()
        });
        let to = base.parse::<Uri>().ok().filter(|_| usable);
        let to = to.ok_or(GatewayError::Address(name))?;
        let prefix = to.path().trim_end_matches('/').to_owned();
        let connections = Connections::new(connector, to).ok_or(GatewayError::Address(name))?;
        let what = format!("the service key for {name}");
        let key = Reloaded::new(what, load(name, &settings.key)?);
        Ok(Self {
            name,
            base,
            prefix,
            connections,
            source: settings.key,
            key,
            failures: Occasional::default(),
            breaker: Mutex::new(Breaker::new(breaker_failures.get())),
            look: Notify::new(),
            retry_budget: TpsBudget::new(RETRY_MEMORY, RETRIES_PER_SECOND, RETRY_SHARE),
            metrics,
        })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// How many requests may be sent a second time, so that an outage is not made twice as large.
    pub(crate) fn retry_budget(&self) -> &impl Budget {
        &self.retry_budget
    }

    pub(crate) fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that the breaker moved.
    pub(crate) fn note(&self, change: Option<Change>) {
        match change {
            Some(Change::Opened) => {
                tracing::error!(upstream = self.name, "upstream is not reached, breaker opened");
                self.look.notify_one();
            }
            Some(Change::Closed) => {
                tracing::info!(upstream = self.name, "upstream answers, breaker closed");
            }
            None => {}
        }
    }

    /// The gateway's key at this service.
    pub(crate) fn key(&self) -> HeaderValue {
        HeaderValue::clone(&self.key.now())
    }

    pub(crate) fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// A path, which begins with a slash, and a query as it is asked for there.
    pub(crate) fn target(&self, path: &str, query: &str) -> Option<Uri> {
        let mut text = String::with_capacity(self.prefix.len() + path.len() + 1 + query.len());
        text.push_str(&self.prefix);
        text.push_str(path);
        if !query.is_empty() {
            text.push('?');
            text.push_str(query);
        }
        text.try_into().ok()
    }

    /// Notes that the service did not answer as it should.
    pub(crate) fn failed(&self, reason: &'static str) {
        if let Some(count) = self.failures.count() {
            tracing::error!(upstream = self.name, reason, count, "upstream failed, answered 503");
        }
    }

    /// Over one of the connections that requests use: one of its own would be idle for most of the
    /// time, and a service that stops waits for those.
    async fn readiness(&self) -> Option<StatusCode> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = self.target("/readyz", "")?;
        let answer = self.connections.send(request).await.ok()?;
        let status = answer.status();
        Limited::new(answer.into_body(), READINESS_BYTES).collect().await.ok()?;
        Some(status)
    }

    /// Keeps `component` as the service's own `/readyz` says.
    pub(crate) async fn watch_readiness(self: Arc<Self>, component: Component) {
        loop {
            let asked = timeout(READINESS_TIMEOUT, self.readiness()).await;
            let status = asked.ok().flatten();
            let change = self.breaker().looked(status.is_some());
            self.note(change);
            match status {
                Some(StatusCode::OK) => component.ready(),
                Some(_) => component.not_ready("not ready itself"),
                None => component.not_ready("unreachable"),
            }
            let interval = if component.is_ready() { READINESS_INTERVAL } else { UNREADY_INTERVAL };
            let _ = timeout(interval, self.look.notified()).await;
        }
    }

    /// Reads the service key again and again, so that rotating it needs no restart.
    pub(crate) async fn watch_key(self: Arc<Self>, interval: Duration) {
        if let ServiceKey::Named(_) = self.source {
            self.key.keep_loading(interval, || load(self.name, &self.source)).await;
        }
    }

    /// A client of the ledger, if this is its service, with the key as it will ever be.
    pub(crate) fn audit_client(&self, http: reqwest::Client) -> AuditClient {
        let key = Secret::new(self.key.now().as_bytes());
        let options = audit_client::Options::new(&self.base, key);
        let client = AuditClient::start(audit_client::Options { http, ..options });
        if let ServiceKey::Named(reference) = &self.source {
            client.keep_reading_key(reference.clone());
        }
        client
    }
}

fn load(upstream: &'static str, key: &ServiceKey) -> Result<HeaderValue, GatewayError> {
    let key = key.load().map_err(|source| GatewayError::ServiceKey { upstream, source })?;
    header_value(&key).ok_or(GatewayError::UnusableKey(upstream))
}

/// Sensitive, so that no debug form of a request shows it.
fn header_value(key: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_bytes(key.bytes()).ok()?;
    value.set_sensitive(true);
    Some(value)
}
