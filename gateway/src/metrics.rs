//! What the gateway counts.
//!
//! Labels are words of this program: templates of routes, reasons, names of services. No id, name,
//! key or address of anybody can become one.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use http::StatusCode;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Meter};

use crate::bulkheads::Compartment;
use crate::error::Refusal;
use crate::exchange::Failure;
use crate::proxy::Gateway;

/// Every instrument of a gateway.
pub(crate) struct Metrics {
    meter: Meter,
    requests: Counter<u64>,
    refusals: Counter<u64>,
    upstream_failures: Counter<u64>,
    retries: Counter<u64>,
    refusal_records: Counter<u64>,
    /// Counted by the listener.
    pub(crate) connections_refused: Arc<AtomicU64>,
    /// Refusals that wait to be recorded.
    pub(crate) refusals_waiting: Arc<AtomicI64>,
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

impl RefusalRecord {
    const ALL: [Self; 4] = [Self::Recorded, Self::OverRate, Self::QueueFull, Self::Rejected];

    const fn label(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::OverRate => "dropped_over_rate",
            Self::QueueFull => "dropped_queue_full",
            Self::Rejected => "dropped_rejected",
        }
    }
}

impl Metrics {
    pub(crate) fn new(meter: Meter) -> Self {
        let counter = |name, help| meter.u64_counter(name).with_description(help).build();
        let refusal_records = counter(
            "vitalog.gateway.refusal_records",
            "Refusals of known callers, by what became of their record",
        );
        // An alert on one that was never counted would see nothing.
        for result in RefusalRecord::ALL {
            refusal_records.add(0, &[KeyValue::new("result", result.label())]);
        }
        let (connections_refused, refusals_waiting) =
            (Arc::new(AtomicU64::new(0)), Arc::new(AtomicI64::new(0)));
        let refused = Arc::clone(&connections_refused);
        meter
            .u64_observable_counter("vitalog.gateway.refused_connections")
            .with_description(
                "Connections closed at once because their address had all that it may have",
            )
            .with_callback(move |count| count.observe(refused.load(Ordering::Relaxed), &[]))
            .build();
        let waiting = Arc::clone(&refusals_waiting);
        meter
            .i64_observable_gauge("vitalog.gateway.refusals_waiting")
            .with_description("Refusals that wait to be recorded in the ledger")
            .with_callback(move |count| count.observe(waiting.load(Ordering::Relaxed), &[]))
            .build();
        Self {
            requests: counter(
                "vitalog.gateway.requests",
                "Requests answered, by method, route and class of status",
            ),
            refusals: counter(
                "vitalog.gateway.refusals",
                "Requests that the gateway refused itself, by reason",
            ),
            upstream_failures: counter(
                "vitalog.gateway.upstream_failures",
                "Requests that an upstream did not answer, by reason",
            ),
            retries: counter(
                "vitalog.gateway.retries",
                "Requests sent to an upstream a second time",
            ),
            refusal_records,
            connections_refused,
            refusals_waiting,
            meter,
        }
    }

    /// The gateway answered something else than what an upstream said.
    pub(crate) fn refused(&self, refusal: Refusal) {
        self.refusals.add(1, &[KeyValue::new("reason", refusal.reason())]);
    }

    /// An upstream did not answer a request, or not as it should.
    pub(crate) fn upstream_failed(&self, upstream: &'static str, reason: &'static str) {
        let labels = [KeyValue::new("upstream", upstream), KeyValue::new("reason", reason)];
        self.upstream_failures.add(1, &labels);
    }

    /// A request is sent to an upstream a second time.
    pub(crate) fn retried(&self, upstream: &'static str) {
        self.retries.add(1, &[KeyValue::new("upstream", upstream)]);
    }

    /// Something became of the record of a refusal.
    pub(crate) fn refusal_record(&self, result: RefusalRecord) {
        self.refusal_records.add(1, &[KeyValue::new("result", result.label())]);
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
        let labels = [
            KeyValue::new("method", method),
            KeyValue::new("route", route),
            KeyValue::new("status", class),
        ];
        self.requests.add(1, &labels);
    }

    /// Shows what is not counted but is so, while the gateway lives.
    pub(crate) fn watch(&self, gateway: &Arc<Gateway>) {
        let looked_at = Arc::downgrade(gateway);
        self.meter
            .u64_observable_gauge("vitalog.gateway.in_flight")
            .with_description("Requests under way, by compartment")
            .with_callback(move |count| {
                let Some(gateway) = looked_at.upgrade() else { return };
                for compartment in Compartment::ALL {
                    let taken = gateway.bulkheads.taken(compartment) as u64;
                    count.observe(taken, &[KeyValue::new("places", compartment.as_str())]);
                }
            })
            .build();
        let looked_at: Weak<Gateway> = Arc::downgrade(gateway);
        self.meter
            .u64_observable_gauge("vitalog.gateway.breaker_open")
            .with_description("1 where an upstream is not reached and nothing is sent to it")
            .with_callback(move |open| {
                let Some(gateway) = looked_at.upgrade() else { return };
                for upstream in [&gateway.patients, &gateway.audit] {
                    let is_open = upstream.breaker().is_open().into();
                    open.observe(is_open, &[KeyValue::new("upstream", upstream.name())]);
                }
            })
            .build();
        for upstream in [&gateway.patients, &gateway.audit] {
            self.retries.add(0, &[KeyValue::new("upstream", upstream.name())]);
            for failure in Failure::ALL {
                let labels = [
                    KeyValue::new("upstream", upstream.name()),
                    KeyValue::new("reason", failure.label()),
                ];
                self.upstream_failures.add(0, &labels);
            }
        }
    }
}
