//! The span of bringing an acknowledged event about.

use runtime::{
    spans::{self, TARGET},
    trace_context::TraceContext,
};
use tracing::{Span, field::Empty};

/// Begins it as a child of the current span, linked to where the event was appended; none where
/// nobody records spans.
pub(crate) fn span(appended: Option<TraceContext>) -> Span {
    if !spans::recording() || Span::current().is_none() {
        return Span::none();
    }
    let span = tracing::info_span!(
        target: TARGET,
        "apply",
        otel.status_code = Empty,
        error.type = Empty,
    );
    if let Some(appended) = appended {
        spans::link(&span, appended);
    }
    span
}
