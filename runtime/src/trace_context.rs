//! W3C trace context (<https://www.w3.org/TR/trace-context/>) and the span of a request.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use futures::FutureExt;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Method};
use tracing::Instrument;

use crate::problem::{Problem, panic_response};

/// The header that carries the trace context.
pub const TRACEPARENT: &str = "traceparent";

/// The header that carries what tracing vendors add.
pub const TRACESTATE: &str = "tracestate";

/// The longest `tracestate` that is carried on, in bytes: the length that §3.3.1.5 asks for.
pub const MAX_TRACESTATE_BYTES: usize = 512;

/// Where a request belongs in a trace; a request extension behind [`trace_middleware`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
}

/// The `tracestate` of a request, to be sent on as it is; a request extension when there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceState(pub HeaderValue);

impl TraceContext {
    /// Reads a `traceparent` value as §3.2 demands; `None` when a new trace has to start.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() < 55 || bytes[2] != b'-' || bytes[35] != b'-' || bytes[52] != b'-' {
            return None;
        }
        let [version] = lower_hex(&bytes[..2])?;
        // Later versions may only add at the end, behind another dash (§3.2.4).
        match version {
            0xff => return None,
            0 if bytes.len() != 55 => return None,
            _ if bytes.len() > 55 && bytes[55] != b'-' => return None,
            _ => {}
        }
        let trace_id = lower_hex::<16>(&bytes[3..35])?;
        let span_id = lower_hex::<8>(&bytes[36..52])?;
        let [flags] = lower_hex(&bytes[53..55])?;
        if trace_id == [0; 16] || span_id == [0; 8] {
            return None;
        }
        // Only the sampled flag has a meaning in version 00, which is what is sent on.
        Some(Self { trace_id, span_id, flags: flags & 1 })
    }

    /// The start of a new trace, sampled.
    pub fn generate() -> Self {
        Self { trace_id: non_zero(), span_id: non_zero(), flags: 1 }
    }

    /// The same trace with a new span id, for one hop.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span_id: non_zero(), ..*self }
    }

    /// The trace id as 32 lower-case hex digits.
    pub fn trace_id_hex(&self) -> String {
        hex::encode(self.trace_id)
    }

    /// The `traceparent` value, version 00.
    pub fn header_value(&self) -> String {
        let parts =
            [hex::encode(self.trace_id), hex::encode(self.span_id), hex::encode([self.flags])];
        ["00", &parts[0], &parts[1], &parts[2]].join("-")
    }
}

/// Two lower-case hex digits a byte; upper case is an error (§3.2.2).
fn lower_hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if digits.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    hex::decode_to_slice(digits, &mut bytes).ok()?;
    Some(bytes)
}

fn non_zero<const N: usize>() -> [u8; N] {
    loop {
        let mut id = [0; N];
        rand::fill(&mut id);
        if id != [0; N] {
            return id;
        }
    }
}

/// Middleware that runs a handler as [`traced`], with the template of the route that was matched.
///
/// Add it with `Router::layer`, so that the matched route is known.
pub async fn trace_middleware(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    traced(route, request, |request| next.run(request)).await
}

/// Gives a request its place in a trace.
///
/// It continues the caller's trace or starts one, puts the [`TraceContext`] of this hop (and a
/// [`TraceState`], if any) into the request extensions, runs the handler in a span that has the
/// trace id, the method and the route's template, sets `traceparent` on the answer, and adds the
/// trace id to problem bodies. A handler that panics answers 500. When the answer is ready it logs
/// one line at level debug under the target `request`: thousands of requests a second would drown
/// everything else at info. Paths and queries are never logged, as they hold ids and search
/// criteria.
pub async fn traced<F>(
    route: &str,
    mut request: Request,
    handler: impl FnOnce(Request) -> F,
) -> Response
where
    F: Future<Output = Response>,
{
    let started = Instant::now();
    let incoming = incoming(request.headers());
    if let Some(state) = incoming.and_then(|_| tracestate(request.headers())) {
        request.extensions_mut().insert(TraceState(state));
    }
    let context = incoming.map_or_else(TraceContext::generate, |parent| parent.child());
    request.extensions_mut().insert(context);

    let trace = context.trace_id_hex();
    let span = tracing::info_span!(
        "request",
        trace = trace.as_str(),
        method = method_name(request.method()),
        route,
    );
    let answering = AssertUnwindSafe(handler(request)).catch_unwind().instrument(span.clone());
    let mut response = answering.await.unwrap_or_else(panic_response);

    if let Ok(value) = HeaderValue::try_from(context.header_value()) {
        response.headers_mut().insert(TRACEPARENT, value);
    }
    add_trace(&mut response, trace);
    let _entered = span.enter();
    tracing::debug!(
        target: "request",
        status = response.status().as_u16(),
        duration_ms = started.elapsed().as_secs_f64() * 1e3,
        "request answered"
    );
    response
}

/// Renders a problem's body again with the trace id in it.
fn add_trace(response: &mut Response, trace: String) {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else {
        return;
    };
    *response.body_mut() = Body::from(problem.trace(trace).json());
    // It was the length of the body before; the server sets it anew.
    response.headers_mut().remove(CONTENT_LENGTH);
}

fn incoming(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let parent = TraceContext::parse(values.next()?.to_str().ok()?)?;
    // Several of them are as good as none (§3.2).
    values.next().is_none().then_some(parent)
}

/// All `tracestate` headers as one (§3.3.1), unless that is over the limit.
fn tracestate(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(TRACESTATE).iter();
    let first = values.next()?;
    let mut joined = first.as_bytes().to_vec();
    for value in values {
        joined.push(b',');
        joined.extend_from_slice(value.as_bytes());
    }
    if joined.is_empty() || joined.len() > MAX_TRACESTATE_BYTES {
        return None;
    }
    HeaderValue::from_bytes(&joined).ok()
}

/// A method as logs and metrics name it. Extension methods are free text from the client and stay
/// out of both.
pub fn method_name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
