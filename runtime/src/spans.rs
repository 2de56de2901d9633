//! Spans of requests, of calls to other services, and of what is done for them, with the names of
//! `OpenTelemetry`'s semantic conventions.
//!
//! A span belongs to a trace where its target is [`TARGET`]. Attributes are words of this program
//! and numbers, never content, keys or ids of patients.
//!
//! Whether a trace is sampled is known when a request begins. Of one that is not, no span is made,
//! because that costs; what fails in it becomes a span afterwards ([`Failed`]). So it is while spans
//! of before wait for a back end that is away or slow.

mod call;
mod failed;
mod serving;

use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::{Dispatch, Level, Span, dispatcher};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Registry;
use tracing_subscriber::registry::{ExtensionsMut, LookupSpan};

use crate::telemetry;
use crate::trace_context::TraceContext;

pub use call::Call;
pub use failed::{Failed, SpanKind};
pub(crate) use serving::Serving;

/// The target of spans that belong to traces.
pub const TARGET: &str = "trace";

/// The target of spans that only know their place in a trace whose spans are not made.
pub(crate) const UNSAMPLED: &str = "unsampled";

/// The name of the span of a request that is served.
pub(crate) const REQUEST: &str = "request";

/// Whether anybody wants spans.
static RECORDING: AtomicBool = AtomicBool::new(false);

pub(crate) fn record(recording: bool) {
    RECORDING.store(recording, Ordering::Relaxed);
}

/// Whether spans go anywhere; making them is for nothing otherwise.
pub fn recording() -> bool {
    RECORDING.load(Ordering::Relaxed)
}

/// Whether what is done now belongs to a trace that is sampled, so that spans below the current one
/// are wanted.
pub fn traced() -> bool {
    let is_traced = |dispatch: &Dispatch| {
        dispatch.current_span().metadata().is_some_and(|it| it.target() == TARGET)
    };
    recording() && dispatcher::get_default(is_traced)
}

/// The current span where it belongs to a trace at all, sampled or not, and anybody records.
pub fn current() -> Span {
    if recording() { Span::current() } else { Span::none() }
}

/// Whether a span is one of a trace that is sampled.
pub fn is_traced(span: &Span) -> bool {
    span.metadata().is_some_and(|it| it.target() == TARGET)
}

/// Whether a span is to be made for what begins in this process at a place of a trace: the trace
/// is sampled, and there is room for its spans.
pub fn is_wanted(place: TraceContext) -> bool {
    recording() && place.is_sampled() && telemetry::has_room()
}

/// The place of a span in its trace; `None` where nobody records.
pub fn context(span: &Span) -> Option<TraceContext> {
    if !recording() {
        return None;
    }
    if !is_traced(span) {
        return with_extensions(span, |mut known| known.get_mut::<TraceContext>().copied())?;
    }
    let context = span.context();
    let context = context.span().span_context().clone();
    let (trace, span) = (context.trace_id().to_bytes(), context.span_id().to_bytes());
    TraceContext::new(trace, span, context.is_sampled())
}

/// A span for what is done at a place in a trace that is not sampled. It is never sent; what fails
/// within is.
pub fn unsampled(place: TraceContext) -> Span {
    let span = tracing::span!(target: UNSAMPLED, parent: None, Level::ERROR, REQUEST);
    remember(&span, place);
    span
}

/// Lets a span know its place, for the lines that are logged within.
fn remember(span: &Span, place: TraceContext) {
    let _ = with_extensions(span, |mut known| known.replace(place));
}

fn with_extensions<T>(span: &Span, look: impl FnOnce(ExtensionsMut<'_>) -> T) -> Option<T> {
    let found = span.with_subscriber(|(id, subscriber)| {
        let span = subscriber.downcast_ref::<Registry>()?.span(id)?;
        Some(look(span.extensions_mut()))
    });
    found.flatten()
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
