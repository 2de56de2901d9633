//! From a request to an upstream's answer.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Query as QueryOf, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode, Uri, Version};
use http_body_util::Full;
use runtime::headers::{ACTOR_HEADER, CLIENT_HEADER, encode_client};
use runtime::networks::counted_as;
use runtime::problem::{Outcome, PROBLEM_JSON, Problem};
use runtime::service_keys::SERVICE_KEY_HEADER;
use runtime::trace_context::{Subscription, TRACEPARENT, TRACESTATE, TraceContext, TraceState};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::admission::{Denied, Identities, check_head};
use crate::body::{self, Answer, Patience};
use crate::bulkheads::Bulkheads;
use crate::connections::Answered;
use crate::denials::Denials;
use crate::error::Refusal;
use crate::exchange::Retry;
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::prefer;
use crate::query::{KEY_PARAMETER, Query};
use crate::rates::Rates;
use crate::routes::{Route, Target};
use crate::upstream::Upstream;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What a client's request may tell an upstream. Everything else stays here, so that no name that
/// only services may use can come through.
static PASSED_ON: [HeaderName; 7] = [
    header::CONTENT_TYPE,
    header::ACCEPT,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    IDEMPOTENCY_KEY,
    HeaderName::from_static("prefer"),
    HeaderName::from_static("purpose-of-use"),
];

/// What an upstream's answer may tell a client.
static PASSED_BACK: [HeaderName; 12] = [
    header::CONTENT_TYPE,
    header::ETAG,
    header::LOCATION,
    header::LINK,
    header::RETRY_AFTER,
    header::ALLOW,
    header::CACHE_CONTROL,
    HeaderName::from_static("audit-receipt"),
    HeaderName::from_static("audit-proof"),
    HeaderName::from_static("preference-applied"),
    HeaderName::from_static("vitalog-as-of"),
    HeaderName::from_static("x-projection"),
];

/// What all requests share.
pub(crate) struct Gateway {
    pub(crate) identities: Identities,
    pub(crate) patients: Arc<Upstream>,
    pub(crate) audit: Arc<Upstream>,
    pub(crate) bulkheads: Bulkheads,
    pub(crate) upstream_timeout: Duration,
    pub(crate) answer_timeout: Duration,
    pub(crate) shutdown: CancellationToken,
    pub(crate) denials: Denials,
    pub(crate) metrics: Arc<Metrics>,
    /// Of addresses, for requests that show nobody.
    pub(crate) unknown: Rates<IpAddr>,
}

/// Why a request has no answer of an upstream.
enum Unanswered {
    Refused(Refusal),
    Problem(Problem),
}

impl From<Refusal> for Unanswered {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Problem> for Unanswered {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl Gateway {
    /// Answers a request for a route that takes a key.
    pub(crate) async fn answer(&self, route: &Route, peer: IpAddr, request: Request) -> Response {
        let (parts, mut body) = request.into_parts();
        let unanswered = match self.pass(route, peer, &parts, &mut body).await {
            Ok(response) => return response,
            Err(unanswered) => unanswered,
        };
        let (problem, discarded) = match unanswered {
            Unanswered::Problem(problem) => (problem, body::DISCARD_BYTES),
            Unanswered::Refused(refusal) => {
                let refusal = self.of_nobody(refusal, peer).unwrap_or(refusal);
                self.metrics.refused(refusal);
                (refusal.into(), discarded(refusal))
            }
        };
        let at_end = body::discard(&mut body, discarded).await;
        let mut response = problem.into_response();
        if !at_end && parts.version < Version::HTTP_2 {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        response
    }

    /// What an address is told in place of a refusal, if too many requests from it showed nobody.
    ///
    /// Only they are charged, so that noise from behind an address hinders no valid key behind it.
    fn of_nobody(&self, refusal: Refusal, peer: IpAddr) -> Option<Refusal> {
        if !refusal.is_of_nobody() {
            return None;
        }
        let seconds = self.unknown.charge(&counted_as(peer)).err()?;
        Some(Refusal::TooManyUnknown { seconds })
    }

    async fn pass(
        &self,
        route: &Route,
        peer: IpAddr,
        parts: &Parts,
        body: &mut Body,
    ) -> Result<Response, Unanswered> {
        let query = Query::parse(parts.uri.query(), route.long_poll());
        let identity = self
            .identities
            .admit(route, peer, &parts.headers, &query)
            .await
            .map_err(|denied| self.denied(route, peer, parts, &denied))?;
        check_head(route, parts)?;
        let upstream = match route.target {
            Target::Patients => &*self.patients,
            Target::Audit(_) => &*self.audit,
            _ => return Ok(echo(&parts.uri)),
        };
        let places = route.compartment();
        let in_flight = self
            .bulkheads
            .enter(places)
            .ok_or_else(|| Refusal::Busy(places, outcome(route, Outcome::NothingStored)))?;
        let payload = if route.has_body() {
            body::read(body).await?
        } else {
            body::discard(body, body::DISCARD_BYTES).await;
            Bytes::new()
        };

        let path = route.fill(route.onward(), parts.uri.path());
        let target = upstream.target(&path, &query.forwarded).ok_or_else(Problem::internal)?;
        let request = || {
            let mut request = http::Request::new(Full::new(payload.clone()));
            *request.method_mut() = parts.method.clone();
            *request.uri_mut() = target.clone();
            *request.headers_mut() = onward_headers(route, parts, upstream, &identity, peer);
            request
        };
        let answer = self.send(route, upstream, request, retry(route, parts), query.wait).await?;
        let mut response = self.respond(route, &parts.method, answer, in_flight);
        prefer::add_proof(&parts.headers, response.headers_mut());
        if let Some(name) = identity.subscription() {
            response.extensions_mut().insert(Subscription(name.to_string()));
        }
        Ok(response)
    }

    /// What anybody known may not do is recorded; who is not known only shows in the metrics.
    fn denied(&self, route: &Route, peer: IpAddr, parts: &Parts, denied: &Denied) -> Refusal {
        if let Some(identity) = &denied.identity
            && denied.refusal.is_denial()
        {
            self.denials.note(route, parts, peer, identity);
        }
        denied.refusal
    }

    async fn send(
        &self,
        route: &Route,
        upstream: &Upstream,
        request: impl Fn() -> http::Request<Full<Bytes>>,
        retry: Retry,
        wait: Duration,
    ) -> Result<http::Response<Answered>, Refusal> {
        let failed = |reason: &'static str, stored: Outcome| {
            upstream.failed(reason);
            Refusal::Upstream(outcome(route, stored))
        };
        let patience = self.upstream_timeout + wait;
        let answered = tokio::select! {
            answered = upstream.exchange(route.onward(), request, patience, retry) => answered,
            // Draining does not wait for records that may never come.
            () = self.shutdown.cancelled(), if !wait.is_zero() => return Err(Refusal::Stopping),
        };
        let response = answered.map_err(|failure| failed(failure.reason(), failure.outcome()))?;
        let status = response.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            // What a client may do is decided here: this is about the gateway's own key.
            self.metrics.upstream_failed(upstream.name(), "service_key");
            return Err(failed("it refuses the gateway's service key", Outcome::NothingStored));
        }
        if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
            // No service has one: where it leads is not for clients to know.
            self.metrics.upstream_failed(upstream.name(), "redirect");
            return Err(failed("it answers a redirect", Outcome::Unknown));
        }
        let is_error = status.is_client_error() || status.is_server_error();
        if is_error && !is_problem(response.headers()) {
            self.metrics.upstream_failed(upstream.name(), "no_problem");
            return Err(failed("it answers an error that is no problem details", Outcome::Unknown));
        }
        Ok(response)
    }

    fn respond(
        &self,
        route: &Route,
        method: &Method,
        answer: http::Response<Answered>,
        in_flight: OwnedSemaphorePermit,
    ) -> Response {
        let (parts, body) = answer.into_parts();
        let patience = Patience { silence: self.upstream_timeout, total: self.answer_timeout };
        let body = Answer::new(body, patience, in_flight);
        let mut response = Response::new(Body::new(body));
        *response.status_mut() = parts.status;
        let headers = response.headers_mut();
        // And for what is added further out.
        headers.reserve(2 * PASSED_BACK.len());
        copy(&PASSED_BACK, &parts.headers, headers);
        if *method == Method::HEAD {
            // There is no body from which the server could tell it.
            copy(&[header::CONTENT_LENGTH], &parts.headers, headers);
        }
        if route.target == Target::Patients {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        response
    }
}

/// How much of a refused body is still read, in bytes.
fn discarded(refusal: Refusal) -> usize {
    match refusal {
        Refusal::TooManyUnknown { .. } => 0,
        Refusal::NoTokenKeys(_) => body::DISCARD_OF_STRANGERS_BYTES,
        _ if refusal.is_of_nobody() => body::DISCARD_OF_STRANGERS_BYTES,
        _ => body::DISCARD_BYTES,
    }
}

/// What became of a command; other requests store nothing that a client could repeat.
fn outcome(route: &Route, outcome: Outcome) -> Option<Outcome> {
    route.is_command().then_some(outcome)
}

/// Reading twice does no harm; a command may be sent twice only if nothing of it was sent before,
/// and its client expects it to be.
fn retry(route: &Route, parts: &Parts) -> Retry {
    if matches!(parts.method, Method::GET | Method::HEAD) {
        Retry::IfNotAnswered
    } else if route.is_command() && parts.headers.contains_key(IDEMPOTENCY_KEY) {
        Retry::IfNotSent
    } else {
        Retry::Never
    }
}

fn onward_headers(
    route: &Route,
    parts: &Parts,
    upstream: &Upstream,
    identity: &Identity,
    peer: IpAddr,
) -> HeaderMap {
    const SERVICE_KEY: HeaderName = HeaderName::from_static(SERVICE_KEY_HEADER);
    const ACTOR: HeaderName = HeaderName::from_static(ACTOR_HEADER);
    const CLIENT: HeaderName = HeaderName::from_static(CLIENT_HEADER);
    const PARENT: HeaderName = HeaderName::from_static(TRACEPARENT);
    const STATE: HeaderName = HeaderName::from_static(TRACESTATE);

    let mut headers = HeaderMap::with_capacity(PASSED_ON.len() + 8);
    copy(&PASSED_ON, &parts.headers, &mut headers);
    if !route.has_body() {
        // What was sent is not passed on, so nothing is to be said about it either.
        headers.remove(header::CONTENT_TYPE);
    }
    headers.insert(SERVICE_KEY, upstream.key());
    headers.insert(ACTOR, identity.actor().clone());
    headers.insert(CLIENT, encode_client(peer));
    // Replaced by that of the call, where that is recorded.
    if let Some(context) = parts.extensions.get::<TraceContext>() {
        headers.insert(PARENT, context.header_value());
    }
    if let Some(TraceState(value)) = parts.extensions.get() {
        headers.insert(STATE, value.clone());
    }
    headers
}

fn copy(names: &[HeaderName], from: &HeaderMap, to: &mut HeaderMap) {
    for name in names {
        for value in from.get_all(name) {
            to.append(name.clone(), value.clone());
        }
    }
}

fn is_problem(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(PROBLEM_JSON.as_bytes()))
}

/// The parameters of the query as JSON, but for the key.
fn echo(uri: &Uri) -> Response {
    let parameters = QueryOf::<BTreeMap<String, String>>::try_from_uri(uri);
    let mut parameters = parameters.map(|QueryOf(parameters)| parameters).unwrap_or_default();
    parameters.retain(|name, _| !name.eq_ignore_ascii_case(KEY_PARAMETER));
    Json(parameters).into_response()
}
