//! Spans of appends and of the commits that carry them.
//!
//! An append belongs to the trace of its proposal, a commit to many: it is a child of the append
//! that came first, and linked with all of them. Of a trace that is not sampled only what fails
//! becomes a span, and where nobody records spans there are none.

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::time::Instant;

use domain::{ids::SpanRef, record::Record, wire::AppendResult};
use opentelemetry::KeyValue;
use runtime::{
    spans::{self, Failed, SpanKind, TARGET},
    trace_context::TraceContext,
};
use tracing::{Id, Span, field::Empty};

use crate::{commit::Committed, metrics::refusal, plan::Formed, queue::Item, store::StoreError};

/// The span of one append, from its admission to its answer.
///
/// It ends where it is dropped, which costs more than an append: at the caller, not at the appender.
#[derive(Default)]
pub struct AppendSpan(Option<Box<Recorded>>);

struct Recorded {
    /// None where its trace is not sampled.
    span: Span,
    /// Its own place, or that of who proposed it where there is no span.
    place: TraceContext,
    record_type: &'static str,
    started: Instant,
    /// The last commit that carried it.
    commit: Option<TraceContext>,
    /// What became of it, in a word.
    result: &'static str,
    failed: bool,
}

impl AppendSpan {
    /// Begins at the place that the proposal names, else below the current span; nowhere without
    /// either.
    pub fn start(record: &Record, at: Option<SpanRef>) -> Self {
        if !spans::recording() {
            return Self::default();
        }
        let parent = record.trace.zip(at).map(|(trace, span)| TraceContext::of(trace, span));
        let record_type = record.record_type.as_str();
        let (span, place) = match parent {
            Some(parent) if !spans::is_wanted(parent) => (Span::none(), Some(parent)),
            None if !spans::traced() => return Self::default(),
            parent => {
                let within = if parent.is_none() { Span::current().id() } else { None };
                let span = span(within, record_type);
                if let Some(parent) = parent {
                    spans::set_parent(&span, parent);
                }
                let place = spans::context(&span);
                (span, place)
            }
        };
        let Some(place) = place else { return Self::default() };
        // Until it is answered.
        let (commit, result, failed, started) = (None, "unavailable", true, Instant::now());
        Self(Some(Box::new(Recorded { span, place, record_type, started, commit, result, failed })))
    }

    /// Notes what became of it, and says in the receipt of a new record where it was appended.
    pub(crate) fn answer(&mut self, result: &mut AppendResult) {
        let Some(recorded) = &mut self.0 else { return };
        recorded.failed = matches!(result, AppendResult::Unavailable { .. });
        recorded.result = refusal(result).unwrap_or("appended");
        if let AppendResult::Appended(receipt) = result {
            if receipt.replayed {
                recorded.result = "replayed";
            } else if !recorded.span.is_none() {
                receipt.span = recorded.place.span();
            }
        }
    }

    /// Whether there is one.
    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }
}

fn span(within: Option<Id>, record_type: &'static str) -> Span {
    tracing::info_span!(
        target: TARGET,
        parent: within,
        "append",
        otel.kind = "internal",
        vitalog.record.type = record_type,
        vitalog.append.result = Empty,
        otel.status_code = Empty,
        error.type = Empty,
    )
}

impl Drop for Recorded {
    fn drop(&mut self) {
        if self.span.is_none() {
            return self.send_afterwards();
        }
        if let Some(commit) = self.commit {
            spans::link(&self.span, commit);
        }
        self.span.record("vitalog.append.result", self.result);
        if self.failed {
            spans::fail(&self.span, self.result);
        }
    }
}

impl Recorded {
    fn send_afterwards(&self) {
        if self.failed {
            let attributes = vec![
                KeyValue::new("vitalog.record.type", self.record_type),
                KeyValue::new("vitalog.append.result", self.result),
            ];
            let (name, error) = ("append".into(), Some(self.result.into()));
            let (kind, started) = (SpanKind::Internal, self.started);
            Failed { name, kind, started, error, attributes }.below(self.place);
        }
    }
}

/// The span of looking up what a round needs to know.
pub(crate) fn decide(items: &[Item]) -> Span {
    match first(items.iter()) {
        Some(Recorded { span, .. }) if !span.is_none() => {
            tracing::info_span!(target: TARGET, parent: span, "decide", otel.kind = "internal")
        }
        _ => Span::none(),
    }
}

/// The span of storing a block.
pub(crate) fn commit(formed: &Formed, items: &[Item], results: &[AppendResult]) -> Span {
    let carried = items.iter().zip(results).filter(|(_, result)| is_new(result));
    let Some(Recorded { span, place, .. }) = first(carried.map(|(item, _)| item)) else {
        return Span::none();
    };
    if span.is_none() {
        return spans::unsampled(*place);
    }
    let lines = &formed.block.lines;
    tracing::info_span!(
        target: TARGET,
        parent: span,
        "commit",
        otel.kind = "internal",
        vitalog.commit.first = number(formed.block.first),
        vitalog.commit.records = number(lines.len()),
        vitalog.commit.bytes = number(lines.iter().map(String::len).sum::<usize>()),
        vitalog.commit.result = Empty,
        otel.status_code = Empty,
        error.type = Empty,
    )
}

/// As attributes have it: what is not signed would be sent as a text.
fn number(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// Notes what became of a commit. Being fenced is how processes take turns.
pub(crate) fn committed(
    commit: &Span,
    started: Instant,
    committed: &Result<Committed, StoreError>,
) {
    let (result, failed) = match committed {
        Ok(committed @ (Committed::Stored | Committed::Fenced)) => (committed.as_str(), false),
        Ok(committed @ (Committed::Refused | Committed::Abandoned)) => (committed.as_str(), true),
        Err(_) => ("malformed", true),
    };
    commit.record("vitalog.commit.result", result);
    if failed {
        spans::fail(commit, result);
        let (name, kind) = ("commit".into(), SpanKind::Internal);
        let (error, attributes) = (Some(result.into()), Vec::new());
        Failed { name, kind, started, error, attributes }.within(commit);
    }
}

/// Links a commit with the appends that it carries.
pub(crate) fn link(commit: &Span, items: &mut [Item], results: &[AppendResult]) {
    let Some(place) = spans::context(commit).filter(TraceContext::is_sampled) else { return };
    for (item, _) in items.iter_mut().zip(results).filter(|(_, result)| is_new(result)) {
        if let Some(recorded) = item.span.0.as_mut().filter(|it| !it.span.is_none()) {
            recorded.commit = Some(place);
            spans::link(commit, recorded.place);
        }
    }
}

/// The first append that has a span, else the first of a trace that is not sampled.
fn first<'a>(items: impl Iterator<Item = &'a Item>) -> Option<&'a Recorded> {
    let mut first = None;
    for recorded in items.filter_map(|item| item.span.0.as_deref()) {
        if !recorded.span.is_none() {
            return Some(recorded);
        }
        first = first.or(Some(recorded));
    }
    first
}

fn is_new(result: &AppendResult) -> bool {
    matches!(result, AppendResult::Appended(receipt) if !receipt.replayed)
}
