//! Spans that are made afterwards, of what failed in a trace that is not sampled.

use std::borrow::Cow;
use std::time::{Instant, SystemTime};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind as Kind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use tracing::Span;

use super::{recording, with_extensions};
use crate::telemetry;
use crate::trace_context::TraceContext;

/// What a piece of work is to those beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Done within this process.
    Internal,
    /// Answered to somebody.
    Server,
    /// Asked of somebody.
    Client,
    /// Handed to somebody who does it later.
    Producer,
}

/// Something that failed.
#[derive(Debug)]
pub struct Failed {
    /// The name of its span.
    pub name: Cow<'static, str>,
    /// What kind of work it was.
    pub kind: SpanKind,
    /// When it began.
    pub started: Instant,
    /// Why it failed, in a word of this program; `None` where only something within failed.
    pub error: Option<Cow<'static, str>>,
    /// What else its span would have said.
    pub attributes: Vec<KeyValue>,
}

/// Stands at a request in which something failed.
struct HasFailed;

impl Failed {
    /// Sends it as a part of a request, or other work, whose trace is not sampled; elsewhere it is
    /// nothing, because it has a span of its own or belongs to no trace.
    pub fn within(self, work: &Span) {
        if !recording() || super::is_traced(work) {
            return;
        }
        let place = with_extensions(work, |mut known| {
            known.replace(HasFailed);
            known.get_mut::<TraceContext>().copied()
        });
        if let Some(place) = place.flatten() {
            self.below(place);
        }
    }

    /// Sends it as a child of what stands at this place.
    pub fn below(self, parent: TraceContext) {
        self.send(parent.child(), Some(parent), false);
    }

    /// Sends it as the request of this place, which has a parent elsewhere or none.
    pub(super) fn at(self, place: TraceContext, parent: Option<TraceContext>) {
        self.send(place, parent, true);
    }

    fn send(self, place: TraceContext, parent: Option<TraceContext>, remote: bool) {
        let Self { name, kind, started, error, mut attributes } = self;
        let end_time = SystemTime::now();
        let status = match error {
            Some(error) => {
                attributes.push(KeyValue::new("error.type", error));
                Status::error("")
            }
            None => Status::Unset,
        };
        telemetry::send(SpanData {
            span_context: SpanContext::new(
                TraceId::from_bytes(place.trace_id()),
                SpanId::from_bytes(place.span_id()),
                TraceFlags::SAMPLED,
                false,
                TraceState::default(),
            ),
            parent_span_id: parent
                .map_or(SpanId::INVALID, |parent| SpanId::from_bytes(parent.span_id())),
            parent_span_is_remote: remote && parent.is_some(),
            span_kind: kind.into(),
            name,
            start_time: end_time.checked_sub(started.elapsed()).unwrap_or(end_time),
            end_time,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: InstrumentationScope::builder("vitalog").build(),
        });
    }
}

/// Whether something within failed.
pub(super) fn has_failed(work: &Span) -> bool {
    let failed = with_extensions(work, |mut known| known.get_mut::<HasFailed>().is_some());
    failed.unwrap_or_default()
}

impl From<SpanKind> for Kind {
    fn from(kind: SpanKind) -> Self {
        match kind {
            SpanKind::Internal => Self::Internal,
            SpanKind::Server => Self::Server,
            SpanKind::Client => Self::Client,
            SpanKind::Producer => Self::Producer,
        }
    }
}
