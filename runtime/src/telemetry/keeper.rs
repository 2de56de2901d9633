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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::ready;
    use std::sync::Arc;

    use opentelemetry::trace::{TraceState, Tracer, TracerProvider};
    use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, SpanExporter};

    use super::*;

    /// Remembers what it is sent.
    #[derive(Clone, Debug, Default)]
    struct Memory(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Memory {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap().extend(batch);
            Ok(())
        }
    }

    struct Traces {
        tracer: SdkTracer,
        _provider: SdkTracerProvider,
        queue: Queue,
        sent: Memory,
    }

    impl Traces {
        fn start() -> Self {
            let sent = Memory::default();
            let queue = Queue::start("test", ready(sent.clone()));
            let keeper = Keeper::new(vec![queue.clone()]);
            let provider = SdkTracerProvider::builder().with_sampler(Sampler);
            let provider = provider.with_span_processor(keeper).build();
            Self { tracer: provider.tracer("test"), _provider: provider, queue, sent }
        }

        /// What a caller says of a trace.
        fn caller(trace: u128, sampled: bool) -> Context {
            let flags = if sampled { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
            let (trace, span) = (TraceId::from(trace), SpanId::from(7));
            let caller = SpanContext::new(trace, span, flags, true, TraceState::default());
            Context::new().with_remote_span_context(caller)
        }

        fn span(&self, name: &'static str, parent: &Context) -> Context {
            Context::new().with_span(self.tracer.start_with_context(name, parent))
        }

        /// The names of the spans that were sent, in order.
        async fn sent(&self) -> Vec<String> {
            self.queue.flush().await;
            let sent = self.sent.0.lock().unwrap();
            assert!(sent.iter().all(|span| span.span_context.is_sampled()));
            sent.iter().map(|span| span.name.to_string()).collect()
        }
    }

    fn fail(span: &Context) {
        span.span().set_status(Status::error("no answer"));
    }

    #[tokio::test]
    async fn spans_of_a_trace_that_the_caller_keeps_are_sent() {
        let traces = Traces::start();
        let request = traces.span("request", &Traces::caller(1, true));
        traces.span("store", &request).span().end();
        request.span().end();
        assert_eq!(traces.sent().await, ["store", "request"]);
    }

    #[tokio::test]
    async fn of_other_traces_those_with_an_error_are_sent_whole() {
        let traces = Traces::start();
        for (trace, fails) in [(1, false), (2, true), (3, false)] {
            let request = traces.span("request", &Traces::caller(trace, false));
            let store = traces.span("store", &request);
            if fails {
                fail(&store);
            }
            store.span().end();
            request.span().end();
        }
        assert_eq!(traces.sent().await, ["store", "request"]);
        let sent = traces.sent.0.lock().unwrap();
        assert!(sent.iter().all(|span| span.span_context.trace_id() == TraceId::from(2)));
    }

    /// As services do that share a process.
    #[tokio::test]
    async fn a_trace_is_decided_on_when_all_of_it_in_this_process_has_ended() {
        let traces = Traces::start();
        let outer = traces.span("outer", &Traces::caller(1, false));
        let inner = traces.span("inner", &Traces::caller(1, false));
        inner.span().end();
        fail(&outer);
        outer.span().end();
        assert_eq!(traces.sent().await, ["inner", "outer"]);
    }

    #[tokio::test]
    async fn what_waits_is_bounded_and_errors_beyond_the_bound_are_sent_alone() {
        let traces = Traces::start();
        let request = traces.span("request", &Traces::caller(1, false));
        for _ in 0..2 * MAX_SPANS {
            traces.span("store", &request).span().end();
        }
        let late = traces.span("late", &request);
        fail(&late);
        late.span().end();
        request.span().end();
        let sent = traces.sent().await;
        assert_eq!((sent.len(), sent[0].as_str()), (MAX_SPANS + 1, "late"));

        let keeper = Keeper::new(Vec::new());
        for trace in 0..(4 * MAX_TRACES * SHARDS) as u128 {
            let parent = Traces::caller(trace + 1, false);
            let mut span = traces.tracer.start_with_context("request", &parent);
            let trace: &mut Span = &mut span;
            keeper.on_start(trace, &parent);
        }
        let waiting: usize = keeper.waiting.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert_eq!(waiting, MAX_TRACES * SHARDS);
    }
}
