//! Which spans are kept: those of sampled traces, and those of operations that failed.
//!
//! Whether a trace is sampled is known when it begins, whether it fails only when it ends. So the
//! spans of traces that are not sampled are recorded, too, and wait here until what this process
//! does for the trace has ended: then they are sent if one of them is an error, else dropped. Every
//! process decides so for itself; one whose own part went well drops it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    SamplingDecision, SamplingResult, ShouldSample, Span, SpanData, SpanProcessor,
};

use super::exporting::Queue;
use crate::trace_context::is_sampled;

/// Traces whose spans may wait, in each of [`SHARDS`]; of those beyond, errors alone are kept.
const MAX_TRACES: usize = 1_024;

/// Spans of one trace that may wait; those beyond are kept if they are errors.
const MAX_SPANS: usize = 128;

/// Parts that are locked one by one.
const SHARDS: usize = 16;

/// Samples what the caller samples, and a share of what begins here; records the rest.
#[derive(Clone, Debug)]
pub(super) struct Sampler;

impl ShouldSample for Sampler {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        _: &str,
        _: &SpanKind,
        _: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        let parent = parent.map(|parent| parent.span().span_context().clone());
        let sampled = match parent.as_ref().filter(|parent| parent.is_valid()) {
            Some(parent) => parent.is_sampled(),
            None => is_sampled(&trace.to_bytes()),
        };
        SamplingResult {
            decision: if sampled {
                SamplingDecision::RecordAndSample
            } else {
                SamplingDecision::RecordOnly
            },
            attributes: Vec::new(),
            trace_state: parent.map(|parent| parent.trace_state().clone()).unwrap_or_default(),
        }
    }
}

/// Hands spans on that are kept.
#[derive(Debug)]
pub(super) struct Keeper {
    queues: Vec<Queue>,
    waiting: [Mutex<HashMap<TraceId, Waiting>>; SHARDS],
}

/// What this process has done so far for a trace that is not sampled.
#[derive(Debug, Default)]
struct Waiting {
    /// Spans without a parent in this process that have not ended.
    open: usize,
    failed: bool,
    spans: Vec<SpanData>,
}

impl Keeper {
    pub(super) fn new(queues: Vec<Queue>) -> Self {
        Self { queues, waiting: Default::default() }
    }

    fn shard(&self, trace: TraceId) -> MutexGuard<'_, HashMap<TraceId, Waiting>> {
        let shard = usize::from(trace.to_bytes()[15]) % SHARDS;
        self.waiting[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, mut span: SpanData) {
        let context = &span.span_context;
        if !context.is_sampled() {
            span.span_context = SpanContext::new(
                context.trace_id(),
                context.span_id(),
                context.trace_flags() | TraceFlags::SAMPLED,
                false,
                context.trace_state().clone(),
            );
        }
        if let Some((last, others)) = self.queues.split_last() {
            for queue in others {
                queue.put(span.clone());
            }
            last.put(span);
        }
    }

    /// The spans that are to be sent now.
    fn ended(&self, span: SpanData) -> Vec<SpanData> {
        let failed = matches!(span.status, Status::Error { .. });
        let is_top = span.parent_span_is_remote || span.parent_span_id == SpanId::INVALID;
        let trace = span.span_context.trace_id();
        let mut shard = self.shard(trace);
        let Some(waiting) = shard.get_mut(&trace) else {
            return Vec::from_iter(failed.then_some(span));
        };
        waiting.failed |= failed;
        waiting.open -= usize::from(is_top && waiting.open > 0);
        let mut now = Vec::new();
        if waiting.spans.len() < MAX_SPANS {
            waiting.spans.push(span);
        } else if failed {
            now.push(span);
        }
        if waiting.open == 0
            && let Some(done) = shard.remove(&trace)
            && done.failed
        {
            now.extend(done.spans);
        }
        now
    }
}

impl SpanProcessor for Keeper {
    fn on_start(&self, span: &mut Span, parent: &Context) {
        use opentelemetry::trace::Span as _;
        let context = span.span_context();
        let parent = parent.span();
        let parent = parent.span_context();
        if context.is_sampled() || (parent.is_valid() && !parent.is_remote()) {
            return;
        }
        let mut shard = self.shard(context.trace_id());
        if shard.len() < MAX_TRACES || shard.contains_key(&context.trace_id()) {
            shard.entry(context.trace_id()).or_default().open += 1;
        }
    }

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            return self.send(span);
        }
        for span in self.ended(span) {
            self.send(span);
        }
    }

    /// Queues are flushed by whoever has them.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
