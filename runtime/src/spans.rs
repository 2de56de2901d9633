//! Spans of requests, of calls to other services, and of what is done for them, with the names of
//! `OpenTelemetry`'s semantic conventions.
//!
//! A span belongs to a trace where its target is [`TARGET`]. Attributes are words of this program
//! and numbers, never content, keys or ids of patients.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use http::{HeaderValue, StatusCode};
use opentelemetry::metrics::Histogram;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::metrics;
use crate::telemetry;
use crate::trace_context::TraceContext;

/// The target of spans that belong to traces.
pub const TARGET: &str = "trace";

/// The name of the span of a request that is served.
pub(crate) const REQUEST: &str = "request";

/// What machines ask every few seconds: counted, and in no trace.
const PROBES: [&str; 3] = ["/healthz", "/readyz", "/version"];

/// Whether anybody wants spans.
static RECORDING: AtomicBool = AtomicBool::new(false);

static SERVED: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    metrics::seconds("http.server.request.duration", "How long requests took to answer")
});

static CALLED: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    metrics::seconds("http.client.request.duration", "How long other services took to answer")
});

pub(crate) fn record(recording: bool) {
    RECORDING.store(recording, Ordering::Relaxed);
}

/// Whether spans go anywhere; making them is for nothing otherwise.
pub fn recording() -> bool {
    RECORDING.load(Ordering::Relaxed)
}

/// The place of a span in its trace; `None` where it is not recorded.
pub fn context(span: &Span) -> Option<TraceContext> {
    if !recording() {
        return None;
    }
    let context = span.context();
    let context = context.span().span_context().clone();
    let (trace, span) = (context.trace_id().to_bytes(), context.span_id().to_bytes());
    TraceContext::new(trace, span, context.is_sampled())
}

/// Makes a span the child of one elsewhere. Before anything asks for its [`context`].
pub fn set_parent(span: &Span, parent: TraceContext) {
    if recording() {
        let parent = Context::new().with_remote_span_context(span_context(parent));
        // Only spans that are not recorded, or that somebody has asked about, refuse it.
        let _ = span.set_parent(parent);
    }
}

/// Links a span to another, of whichever trace.
pub fn link(span: &Span, to: TraceContext) {
    if recording() {
        span.add_link(span_context(to));
    }
}

/// Says that what a span stands for failed: in a word of this program. The span must have the fields
/// `otel.status_code` and `error.type`.
pub fn fail(span: &Span, error: &'static str) {
    span.record("otel.status_code", "error");
    span.record("error.type", error);
}

fn span_context(context: TraceContext) -> SpanContext {
    let flags = if context.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
    SpanContext::new(
        TraceId::from_bytes(context.trace_id()),
        SpanId::from_bytes(context.span_id()),
        flags,
        true,
        TraceState::default(),
    )
}

/// A request that is being served.
pub(crate) struct Serving<'a> {
    service: &'static str,
    method: &'static str,
    route: &'a str,
    span: Span,
    context: TraceContext,
    started: Instant,
}

impl<'a> Serving<'a> {
    pub(crate) fn start(
        service: &'static str,
        method: &'static str,
        route: &'a str,
        parent: Option<TraceContext>,
    ) -> Self {
        let started = Instant::now();
        let span = if PROBES.contains(&route) {
            Span::none()
        } else {
            // Errors are logged with their trace at every level of `RUST_LOG`.
            tracing::error_span!(
                target: TARGET,
                parent: None,
                REQUEST,
                otel.name = %format_args!("{method} {route}"),
                otel.kind = "server",
                service,
                http.request.method = method,
                http.route = route,
                http.response.status_code = Empty,
                otel.status_code = Empty,
                error.type = Empty,
            )
        };
        if let Some(parent) = parent {
            set_parent(&span, parent);
        }
        let context = context(&span)
            .or_else(|| parent.map(|parent| parent.child()))
            .unwrap_or_else(TraceContext::generate);
        telemetry::remember(&span, context);
        Self { service, method, route, span, context, started }
    }

    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    pub(crate) fn context(&self) -> TraceContext {
        self.context
    }

    pub(crate) fn answered(self, status: StatusCode, subscription: Option<&str>) {
        let Self { service, method, route, span, started, .. } = self;
        let taken = started.elapsed().as_secs_f64();
        let code = i64::from(status.as_u16());
        span.record("http.response.status_code", code);
        if status.is_server_error() {
            span.record("otel.status_code", "error");
            span.record("error.type", code.to_string().as_str());
        }
        SERVED.record(
            taken,
            &[
                KeyValue::new("service", service),
                KeyValue::new("http.request.method", method),
                KeyValue::new("http.route", route.to_owned()),
                KeyValue::new("http.response.status_code", code),
            ],
        );
        let _entered = span.enter();
        let duration_ms = taken * 1e3;
        // A probe asks whether the service fails; readiness logs why.
        if status.is_server_error() && !PROBES.contains(&route) {
            tracing::warn!(
                target: "request",
                method, route, status = code, duration_ms, subscription, "request failed"
            );
        } else {
            tracing::debug!(
                target: "request",
                method, route, status = code, duration_ms, subscription, "request answered"
            );
        }
    }
}

/// A request to another service, from its start to the head of its answer.
///
/// Dropped before that, it counts as cancelled.
#[derive(Debug)]
pub struct Call {
    service: &'static str,
    method: &'static str,
    route: &'static str,
    span: Span,
    started: Instant,
    done: bool,
}

impl Call {
    /// Begins a call of a route, which is a template, as a child of the current span. Where there
    /// is none, as in work that nobody asked for, it is counted and belongs to no trace.
    pub fn start(service: &'static str, method: &'static str, route: &'static str) -> Self {
        let span = if recording() && !Span::current().is_none() {
            tracing::info_span!(
                target: TARGET,
                "call",
                otel.name = %format_args!("{method} {route}"),
                otel.kind = "client",
                service,
                http.request.method = method,
                url.template = route,
                http.response.status_code = Empty,
                otel.status_code = Empty,
                error.type = Empty,
            )
        } else {
            Span::none()
        };
        Self { service, method, route, span, started: Instant::now(), done: false }
    }

    /// The span, to run what is awaited in, or to link.
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// What the service is told about its place; `None` where the call is in no trace.
    pub fn traceparent(&self) -> Option<HeaderValue> {
        context(&self.span).map(|context| context.header_value())
    }

    /// The head of the answer is there. What the service could not do is an error here, too; what
    /// it would not do is an answer.
    pub fn answered(mut self, status: StatusCode) {
        let code = i64::from(status.as_u16());
        self.span.record("http.response.status_code", code);
        if status.is_server_error() {
            self.span.record("otel.status_code", "error");
            self.span.record("error.type", code.to_string().as_str());
        }
        self.count(KeyValue::new("http.response.status_code", code));
    }

    /// There was no answer: why, in a word of this program.
    pub fn failed(mut self, error: &'static str) {
        self.end(error);
    }

    fn end(&mut self, error: &'static str) {
        fail(&self.span, error);
        self.count(KeyValue::new("error.type", error));
    }

    fn count(&mut self, outcome: KeyValue) {
        self.done = true;
        CALLED.record(
            self.started.elapsed().as_secs_f64(),
            &[
                KeyValue::new("service", self.service),
                KeyValue::new("http.request.method", self.method),
                KeyValue::new("http.route", self.route),
                outcome,
            ],
        );
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.done {
            self.end("cancelled");
        }
    }
}
