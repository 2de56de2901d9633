//! Requests to the audit service, and the spans of appends.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use domain::wire::Proposal;
use reqwest::{Method, RequestBuilder, Response};
use runtime::{
    reloaded::Reloaded,
    secrets::Secret,
    service_keys::SERVICE_KEY_HEADER,
    spans::{self, Call, Failed, SpanKind, TARGET},
    trace_context::{TRACEPARENT, TraceContext},
};
use tracing::{Span, field::Empty};

use crate::error::AppendError;

/// The name of the service that is called.
pub(crate) const SERVICE: &str = "audit-service";

/// The service as this process reaches it.
pub(crate) struct Service {
    pub(crate) http: reqwest::Client,
    pub(crate) url: String,
    pub(crate) key: Arc<Reloaded<Secret>>,
    pub(crate) append_deadline: Duration,
}

impl Service {
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.url))
            .header(SERVICE_KEY_HEADER, self.key.now().bytes())
    }
}

/// Sends a request as a call that has begun, which it tells the service of.
pub(crate) async fn send(
    mut request: RequestBuilder,
    call: Call,
) -> Result<Response, reqwest::Error> {
    if let Some(place) = call.traceparent() {
        request = request.header(TRACEPARENT, place);
    }
    let result = request.send().await;
    match &result {
        Ok(response) => call.answered(response.status()),
        Err(error) if error.is_timeout() => call.failed("timeout"),
        Err(_) => call.failed("unreachable"),
    }
    result
}

/// The span of one append, from its queue to its answer. Where its trace is not sampled it is made
/// only if the append fails; none where nobody records.
#[derive(Clone)]
pub(crate) struct Appending {
    /// Its own, or that of who asks where none is made.
    span: Span,
    place: Option<TraceContext>,
    started: Instant,
}

impl Appending {
    /// Begins it as a child of the current span, and tells the audit service by the proposal.
    pub(crate) fn start(proposal: &mut Proposal) -> Self {
        let mut span = spans::current();
        if spans::is_traced(&span) {
            span = tracing::info_span!(
                target: TARGET,
                "append",
                otel.kind = "producer",
                otel.status_code = Empty,
                error.type = Empty,
            );
        }
        let place = spans::context(&span);
        // The record names its trace; a place in another one would lead nowhere.
        let named =
            place.filter(|place| proposal.trace.map(|it| it.bytes()) == Some(place.trace_id()));
        proposal.span = named.and_then(|place| place.span());
        Self { span, place, started: Instant::now() }
    }

    /// Marks it where the append failed. A conflict is an answer, and so is a command that is known.
    pub(crate) fn end(self, error: Option<&AppendError>) {
        let error = match error {
            Some(AppendError::Unavailable(_)) => Some("unavailable"),
            Some(AppendError::Refused(_)) => Some("refused"),
            Some(AppendError::Conflict { .. } | AppendError::CommandReused) | None => None,
        };
        if let Some(error) = error {
            let (name, kind, started) = ("append".into(), SpanKind::Producer, self.started);
            let (error, attributes) = (Some(error.into()), Vec::new());
            Failed { name, kind, started, error, attributes }.within(&self.span);
        }
        if spans::is_traced(&self.span) {
            if let Some(error) = error {
                spans::fail(&self.span, error);
            }
            // A span ends when it was last left, and it may be kept by its batch for longer.
            let _left_now = self.span.enter();
        }
    }

    /// Begins the call that appends travel in: a child of the first that has a span, and linked to
    /// all that have one.
    pub(crate) fn call<'a>(
        mut batch: impl Iterator<Item = &'a Self> + Clone,
        method: &'static str,
        route: &'static str,
    ) -> Call {
        let traced = batch.clone().filter(|it| spans::is_traced(&it.span));
        let parent = traced.clone().next().or_else(|| batch.next());
        let start = || Call::start(SERVICE, method, route);
        let call = parent.map_or_else(start, |parent| parent.span.in_scope(start));
        for place in traced.filter_map(|it| it.place) {
            spans::link(call.span(), place);
        }
        call
    }
}
