//! The span of a request that is served, and its measurement.

use std::sync::LazyLock;
use std::time::Instant;

use http::StatusCode;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Histogram;
use tracing::Span;
use tracing::field::Empty;

use super::failed::has_failed;
use super::{
    Failed, REQUEST, SpanKind, TARGET, is_traced, is_wanted, recording, remember, set_parent,
    unsampled,
};
use crate::metrics;
use crate::trace_context::TraceContext;

/// What machines ask every few seconds: counted, and in no trace.
const PROBES: [&str; 3] = ["/healthz", "/readyz", "/version"];

static SERVED: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    metrics::seconds("http.server.request.duration", "How long requests took to answer")
});

/// A request that is being served.
pub(crate) struct Serving<'a> {
    service: &'static str,
    method: &'static str,
    route: &'a str,
    span: Span,
    parent: Option<TraceContext>,
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
        let mut context = parent.map_or_else(TraceContext::generate, |parent| parent.child());
        let span = if PROBES.contains(&route) {
            Span::none()
        } else if is_wanted(context) {
            // Errors are logged with their trace at every level of `RUST_LOG`.
            let span = tracing::error_span!(
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
            );
            if let Some(parent) = parent {
                set_parent(&span, parent);
            }
            context = super::context(&span).unwrap_or(context);
            remember(&span, context);
            span
        } else {
            unsampled(context)
        };
        Self { service, method, route, span, parent, context, started }
    }

    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    pub(crate) fn context(&self) -> TraceContext {
        self.context
    }

    pub(crate) fn answered(self, status: StatusCode, subscription: Option<&str>) {
        let Self { service, method, route, ref span, started, .. } = self;
        let taken = started.elapsed().as_secs_f64();
        let code = i64::from(status.as_u16());
        if is_traced(span) {
            span.record("http.response.status_code", code);
            if status.is_server_error() {
                span.record("otel.status_code", "error");
                span.record("error.type", code.to_string().as_str());
            }
        } else if recording() && (status.is_server_error() || has_failed(span)) {
            self.send_afterwards(code, status.is_server_error());
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

    /// The span of a request whose trace is not sampled.
    fn send_afterwards(&self, code: i64, failed: bool) {
        let Self { service, method, route, ref span, parent, context, started } = *self;
        // A probe is in no trace.
        if span.is_none() {
            return;
        }
        let attributes = vec![
            KeyValue::new("service", service),
            KeyValue::new("http.request.method", method),
            KeyValue::new("http.route", route.to_owned()),
            KeyValue::new("http.response.status_code", code),
        ];
        let error = failed.then(|| code.to_string().into());
        let name = format!("{method} {route}").into();
        Failed { name, kind: SpanKind::Server, started, error, attributes }.at(context, parent);
    }
}
