//! W3C trace context (<https://www.w3.org/TR/trace-context/>) and the span of a request.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use domain::ids::{SpanRef, TraceId};
use futures::FutureExt;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Method};
use tracing::Instrument;

use crate::problem::{Problem, panic_response};
use crate::spans;

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

    /// A place that is known by its parts: 16 and 8 bytes that are not all zero.
    pub fn new(trace_id: [u8; 16], span_id: [u8; 8], sampled: bool) -> Option<Self> {
        let valid = trace_id != [0; 16] && span_id != [0; 8];
        valid.then_some(Self { trace_id, span_id, flags: sampled.into() })
    }

    /// The start of a new trace, sampled as [`sample`] says.
    pub fn generate() -> Self {
        let trace_id = non_zero();
        Self { trace_id, span_id: non_zero(), flags: is_sampled(&trace_id).into() }
    }

    /// The same trace with a new span id, for one hop.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span_id: non_zero(), ..*self }
    }

    /// The place of a span in a trace.
    pub fn of(trace: TraceId, span: SpanRef) -> Self {
        let flags = span.is_sampled().into();
        Self { trace_id: trace.bytes(), span_id: span.id(), flags }
    }

    /// The span, as services name it to each other.
    pub fn span(&self) -> Option<SpanRef> {
        SpanRef::new(self.span_id, self.is_sampled())
    }

    /// The trace id.
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// The id of the span.
    pub fn span_id(&self) -> [u8; 8] {
        self.span_id
    }

    /// Whether the trace is kept.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// The trace id as 32 lower-case hex digits.
    pub fn trace_id_hex(&self) -> String {
        hex::encode(self.trace_id)
    }

    /// The `traceparent` value, version 00.
    pub fn header_value(&self) -> HeaderValue {
        let mut text = *b"00-................................-................-00";
        // The places have the sizes of what is put there.
        let _ = hex::encode_to_slice(self.trace_id, &mut text[3..35]);
        let _ = hex::encode_to_slice(self.span_id, &mut text[36..52]);
        text[54] += self.flags & 1;
        HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

/// A share of traces, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio(f64);

impl std::str::FromStr for Ratio {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
        share.map(Self).ok_or("write a number from 0 to 1")
    }
}

/// Of 2⁶⁴ traces, those that are sampled; all of them until [`sample`] says otherwise.
static SAMPLED: AtomicU64 = AtomicU64::new(u64::MAX);

/// Says what share of the traces that begin in this process is sampled.
pub fn sample(ratio: Ratio) {
    // Saturates at the top; a share needs no more digits than a float has.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let traces = (ratio.0 * u64::MAX as f64) as u64;
    SAMPLED.store(traces, Ordering::Relaxed);
}

/// Whether a trace of this id is sampled: the same in every process that has the same share.
pub(crate) fn is_sampled(trace_id: &[u8; 16]) -> bool {
    // The last eight bytes: the first of some clients' ids are a time.
    let last = trace_id.iter().skip(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
    let traces = SAMPLED.load(Ordering::Relaxed);
    traces == u64::MAX || last < traces
}

/// 32 random hex digits.
pub(crate) fn random_hex() -> String {
    hex::encode(non_zero::<16>())
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
pub async fn trace_middleware(
    State(service): State<&'static str>,
    request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    traced(service, route, request, |request| next.run(request)).await
}

/// Whom a request came from, as the request log says it; an extension of answers.
#[derive(Clone, Debug)]
pub struct Subscription(pub String);

/// Gives a request its place in a trace.
///
/// It continues the caller's trace or starts one, puts the [`TraceContext`] of this hop (and a
/// [`TraceState`], if any) into the request extensions, runs the handler in a span, sets
/// `traceparent` on the answer, adds the trace id to problem bodies, and counts the request in
/// `http.server.request.duration`. A handler that panics answers 500.
///
/// When the answer is ready it logs one line under the target `request`: at level debug, as
/// thousands of requests a second would drown everything else at info, and as a warning where the
/// service failed. Paths and queries are never logged, as they hold ids and search criteria.
pub async fn traced<F>(
    service: &'static str,
    route: &str,
    mut request: Request,
    handler: impl FnOnce(Request) -> F,
) -> Response
where
    F: Future<Output = Response>,
{
    let incoming = incoming(request.headers());
    if let Some(state) = incoming.and_then(|_| tracestate(request.headers())) {
        request.extensions_mut().insert(TraceState(state));
    }
    let serving = spans::Serving::start(service, method_name(request.method()), route, incoming);
    let context = serving.context();
    request.extensions_mut().insert(context);

    let handling = AssertUnwindSafe(handler(request)).catch_unwind();
    let handling = handling.instrument(serving.span().clone());
    let mut response = handling.await.unwrap_or_else(panic_response);

    response.headers_mut().insert(TRACEPARENT, context.header_value());
    add_trace(&mut response, &context);
    let subscription = response.extensions_mut().remove::<Subscription>();
    serving.answered(response.status(), subscription.as_ref().map(|it| it.0.as_str()));
    response
}

/// Renders a problem's body again with the trace id in it.
fn add_trace(response: &mut Response, context: &TraceContext) {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else {
        return;
    };
    *response.body_mut() = Body::from(problem.trace(context.trace_id_hex()).json());
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
