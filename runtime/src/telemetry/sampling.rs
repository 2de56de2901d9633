//! Which traces are sampled, and where their spans go.

use std::time::Duration;

use opentelemetry::trace::{Link, SpanContext, SpanKind, TraceContextExt, TraceId};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    SamplingDecision, SamplingResult, ShouldSample, Span, SpanData, SpanProcessor,
};

use super::exporting::Queue;

/// Samples what the caller samples. What begins here was drawn before its span was made.
#[derive(Clone, Debug)]
pub(super) struct Sampler;

impl ShouldSample for Sampler {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        _: TraceId,
        _: &str,
        _: &SpanKind,
        _: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        let parent = parent.map(|parent| parent.span().span_context().clone());
        let parent = parent.filter(SpanContext::is_valid);
        let sampled = parent.as_ref().is_none_or(SpanContext::is_sampled);
        SamplingResult {
            decision: if sampled {
                SamplingDecision::RecordAndSample
            } else {
                SamplingDecision::Drop
            },
            attributes: Vec::new(),
            trace_state: parent.map(|parent| parent.trace_state().clone()).unwrap_or_default(),
        }
    }
}

/// Hands each span that has ended to every back end's queue.
#[derive(Clone, Debug)]
pub(super) struct Queues(pub(super) Vec<Queue>);

impl Queues {
    /// Whether any back end is likely to get spans that are made now.
    pub(super) fn have_room(&self) -> bool {
        self.0.iter().any(Queue::has_room)
    }

    /// Counts a span that was not made, because nobody would have got it.
    pub(super) fn left_out(&self) {
        self.0.iter().for_each(Queue::left_out);
    }

    pub(super) fn put(&self, span: SpanData) {
        if let Some((last, others)) = self.0.split_last() {
            for queue in others {
                queue.put(span.clone());
            }
            last.put(span);
        }
    }
}

impl SpanProcessor for Queues {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.put(span);
    }

    /// Queues are flushed by whoever has them.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
