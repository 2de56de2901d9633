//! What the gateway counts, for Prometheus.
//!
//! Labels are words of this program: templates of routes, reasons, names of services. No id, name,
//! key or address of anybody can become one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};

use crate::bulkheads::Compartment;
use crate::error::Refusal;
use crate::proxy::Gateway;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels<const N: usize> = [(&'static str, &'static str); N];
type Counters<const N: usize> = Family<Labels<N>, Counter>;

/// Every counter of a gateway.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Counters<3>,
    refusals: Counters<1>,
    in_flight: Family<Labels<1>, Gauge>,
    breaker_open: Family<Labels<1>, Gauge>,
    upstream_failures: Counters<2>,
    retries: Counters<1>,
    refusal_records: Counters<1>,
    refused_connections: Counter,
    /// Counted by the listener; shown as the one before.
    pub(crate) connections_refused: Arc<AtomicU64>,
    /// Refusals that wait to be recorded.
    pub(crate) refusals_waiting: Gauge,
}

/// What became of the record of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusalRecord {
    /// The ledger has it.
    Recorded,
    /// Its caller was refused too often within a second.
    OverRate,
    /// The queue was full.
    QueueFull,
    /// The ledger will not take it: a defect.
    Rejected,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("vitalog_gateway");
        let mut registering = Registering(&mut registry);
        Self {
            requests: registering
                .add("requests", "Requests answered, by method, route and class of status"),
            refusals: registering
                .add("refusals", "Requests that the gateway refused itself, by reason"),
            in_flight: registering.add("in_flight", "Requests under way, by compartment"),
            breaker_open: registering.add(
                "breaker_open",
                "1 where an upstream is not reached and nothing is sent to it",
            ),
            upstream_failures: registering
                .add("upstream_failures", "Requests that an upstream did not answer, by reason"),
            retries: registering.add("retries", "Requests sent to an upstream a second time"),
            refusal_records: registering.add(
                "refusal_records",
                "Refusals of known callers, by what became of their record",
            ),
            refused_connections: registering.add(
                "refused_connections",
                "Connections closed at once because their address had all that it may have",
            ),
            connections_refused: Arc::default(),
            refusals_waiting: registering
                .add("refusals_waiting", "Refusals that wait to be recorded in the ledger"),
            registry,
        }
    }

    /// The gateway answered something else than what an upstream said.
    pub(crate) fn refused(&self, refusal: Refusal) {
        self.refusals.get_or_create(&[("reason", refusal.reason())]).inc();
    }

    /// An upstream did not answer a request, or not as it should.
    pub(crate) fn upstream_failed(&self, upstream: &'static str, reason: &'static str) {
        let labels = [("upstream", upstream), ("reason", reason)];
        self.upstream_failures.get_or_create(&labels).inc();
    }

    /// A request is sent to an upstream a second time.
    pub(crate) fn retried(&self, upstream: &'static str) {
        self.retries.get_or_create(&[("upstream", upstream)]).inc();
    }

    /// Takes a look at what is not counted but is so.
    fn look(&self, gateway: &Gateway) {
        let refused = self.connections_refused.load(Ordering::Relaxed);
        self.refused_connections.inner().fetch_max(refused, Ordering::Relaxed);
        for compartment in Compartment::ALL {
            let taken = gateway.bulkheads.taken(compartment);
            let gauge = self.in_flight.get_or_create(&[("places", compartment.as_str())]);
            gauge.set(i64::try_from(taken).unwrap_or(i64::MAX));
        }
        for upstream in [&gateway.patients, &gateway.audit] {
            let gauge = self.breaker_open.get_or_create(&[("upstream", upstream.name())]);
            gauge.set(upstream.breaker().is_open().into());
        }
    }

    /// Something became of the record of a refusal.
    pub(crate) fn refusal_record(&self, result: RefusalRecord) {
        let result = match result {
            RefusalRecord::Recorded => "recorded",
            RefusalRecord::OverRate => "dropped_over_rate",
            RefusalRecord::QueueFull => "dropped_queue_full",
            RefusalRecord::Rejected => "dropped_rejected",
        };
        self.refusal_records.get_or_create(&[("result", result)]).inc();
    }

    /// A request for a route was answered.
    pub(crate) fn answered(&self, method: &'static str, route: &'static str, status: StatusCode) {
        let class = match status.as_u16() / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        let labels = [("method", method), ("route", route), ("status", class)];
        self.requests.get_or_create(&labels).inc();
    }

    /// All of it as `OpenMetrics` text.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// `GET /metrics`. Holds numbers alone and needs no key.
pub(crate) fn routes(gateway: Arc<Gateway>) -> Router {
    Router::new().route("/metrics", get(show)).with_state(gateway)
}

async fn show(State(gateway): State<Arc<Gateway>>) -> impl IntoResponse {
    gateway.metrics.look(&gateway);
    match gateway.metrics.text() {
        Ok(text) => Ok(([(CONTENT_TYPE, OPEN_METRICS)], text)),
        Err(_) => Err(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

struct Registering<'a>(&'a mut Registry);

impl Registering<'_> {
    fn add<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }
}
