//! The span of a call of another service, and its measurement.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::Instant;

use http::{HeaderValue, StatusCode};
use opentelemetry::KeyValue;
use opentelemetry::metrics::Histogram;
use tracing::Span;
use tracing::field::Empty;

use super::{Failed, SpanKind, TARGET, context, fail, is_traced};
use crate::metrics;

static CALLED: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    metrics::seconds("http.client.request.duration", "How long other services took to answer")
});

/// A request to another service, from its start to the head of its answer.
///
/// Dropped before that, it counts as cancelled.
#[derive(Debug)]
pub struct Call {
    service: &'static str,
    method: &'static str,
    route: &'static str,
    span: Span,
    /// Who asks, where no span is made.
    within: Span,
    started: Instant,
    done: bool,
}

impl Call {
    /// Begins a call of a route, which is a template, as a child of the current span. Where there
    /// is none, as in work that nobody asked for, it is counted and belongs to no trace.
    pub fn start(service: &'static str, method: &'static str, route: &'static str) -> Self {
        let (mut span, mut within) = (Span::none(), super::current());
        if is_traced(&within) {
            within = Span::none();
            span = tracing::info_span!(
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
            );
        }
        Self { service, method, route, span, within, started: Instant::now(), done: false }
    }

    /// The span, to run what is awaited in, or to link.
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// What the service is told about its place; `None` where the call is in no trace. Where no
    /// span is made it is the place of who asks.
    pub fn traceparent(&self) -> Option<HeaderValue> {
        let span = if self.span.is_none() { &self.within } else { &self.span };
        context(span).map(|context| context.header_value())
    }

    /// The head of the answer is there. What the service could not do is an error here, too; what
    /// it would not do is an answer.
    pub fn answered(mut self, status: StatusCode) {
        let code = i64::from(status.as_u16());
        let status_code = KeyValue::new("http.response.status_code", code);
        self.span.record("http.response.status_code", code);
        if status.is_server_error() {
            let error = code.to_string();
            self.span.record("otel.status_code", "error");
            self.span.record("error.type", error.as_str());
            self.send_afterwards(error.into(), Some(status_code.clone()));
        }
        self.count(status_code);
    }

    /// There was no answer: why, in a word of this program.
    pub fn failed(mut self, error: &'static str) {
        self.end(error);
    }

    fn end(&mut self, error: &'static str) {
        fail(&self.span, error);
        self.send_afterwards(error.into(), None);
        self.count(KeyValue::new("error.type", error));
    }

    /// The span of a call of a trace that is not sampled.
    fn send_afterwards(&self, error: Cow<'static, str>, status: Option<KeyValue>) {
        let Self { service, method, route, started, .. } = *self;
        if self.within.is_none() {
            return;
        }
        let mut attributes = vec![
            KeyValue::new("service", service),
            KeyValue::new("http.request.method", method),
            KeyValue::new("url.template", route),
        ];
        attributes.extend(status);
        let name = format!("{method} {route}").into();
        let call = Failed { name, kind: SpanKind::Client, started, error: Some(error), attributes };
        call.within(&self.within);
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
