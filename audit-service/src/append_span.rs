//! Spans of appends and of the commits that carry them.
//!
//! An append belongs to the trace of its proposal, a commit to many: it is a child of the append
//! that came first, and linked with all of them. Where nobody records spans there are none.

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use domain::{ids::SpanRef, record::Record, wire::AppendResult};
use runtime::{
    spans::{self, TARGET},
    trace_context::TraceContext,
};
use tracing::{Span, field::Empty};

use crate::{commit::Committed, metrics::refusal, plan::Formed, queue::Item, store::StoreError};

/// The span of one append, from its admission to its answer.
///
/// It ends where it is dropped, which costs more than an append: at the caller, not at the appender.
#[derive(Default)]
pub struct AppendSpan(Option<Box<Recorded>>);

struct Recorded {
    span: Span,
    place: TraceContext,
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
        let within = if parent.is_none() { Span::current().id() } else { None };
        if parent.is_none() && within.is_none() {
            return Self::default();
        }
        let span = tracing::info_span!(
            target: TARGET,
            parent: within,
            "append",
            otel.kind = "internal",
            vitalog.record.type = record.record_type.as_str(),
            vitalog.append.result = Empty,
            otel.status_code = Empty,
            error.type = Empty,
        );
        if let Some(parent) = parent {
            spans::set_parent(&span, parent);
        }
        let Some(place) = spans::context(&span) else { return Self::default() };
        // Until it is answered.
        let (commit, result, failed) = (None, "unavailable", true);
        Self(Some(Box::new(Recorded { span, place, commit, result, failed })))
    }

    /// Notes what became of it, and says in the receipt of a new record where it was appended.
    pub(crate) fn answer(&mut self, result: &mut AppendResult) {
        let Some(recorded) = &mut self.0 else { return };
        recorded.failed = matches!(result, AppendResult::Unavailable { .. });
        recorded.result = refusal(result).unwrap_or("appended");
        if let AppendResult::Appended(receipt) = result {
            if receipt.replayed {
                recorded.result = "replayed";
            } else {
                receipt.span = recorded.place.span();
            }
        }
    }

    /// Whether there is one.
    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        if let Some(commit) = self.commit {
            spans::link(&self.span, commit);
        }
        self.span.record("vitalog.append.result", self.result);
        if self.failed {
            spans::fail(&self.span, self.result);
        }
    }
}

/// The span of looking up what a round needs to know.
pub(crate) fn decide(items: &[Item]) -> Span {
    let Some(parent) = first(items.iter()) else { return Span::none() };
    tracing::info_span!(target: TARGET, parent: parent, "decide", otel.kind = "internal")
}

/// The span of storing a block.
pub(crate) fn commit(formed: &Formed, items: &[Item], results: &[AppendResult]) -> Span {
    let carried = items.iter().zip(results).filter(|(_, result)| is_new(result));
    let Some(parent) = first(carried.map(|(item, _)| item)) else { return Span::none() };
    let lines = &formed.block.lines;
    tracing::info_span!(
        target: TARGET,
        parent: parent,
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
pub(crate) fn committed(commit: &Span, committed: &Result<Committed, StoreError>) {
    let (result, failed) = match committed {
        Ok(committed @ (Committed::Stored | Committed::Fenced)) => (committed.as_str(), false),
        Ok(committed @ (Committed::Refused | Committed::Abandoned)) => (committed.as_str(), true),
        Err(_) => ("malformed", true),
    };
    commit.record("vitalog.commit.result", result);
    if failed {
        spans::fail(commit, result);
    }
}

/// Links a commit with the appends that it carries.
pub(crate) fn link(commit: &Span, items: &mut [Item], results: &[AppendResult]) {
    let Some(place) = spans::context(commit) else { return };
    for (item, _) in items.iter_mut().zip(results).filter(|(_, result)| is_new(result)) {
        if let Some(recorded) = &mut item.span.0 {
            recorded.commit = Some(place);
            spans::link(commit, recorded.place);
        }
    }
}

/// The span of the first item whose trace is kept, else of the first.
fn first<'a>(items: impl Iterator<Item = &'a Item>) -> Option<&'a Span> {
    if !spans::recording() {
        return None;
    }
    let mut first = None;
    for recorded in items.filter_map(|item| item.span.0.as_deref()) {
        if recorded.place.is_sampled() {
            return Some(&recorded.span);
        }
        first = first.or(Some(&recorded.span));
    }
    first
}

fn is_new(result: &AppendResult) -> bool {
    matches!(result, AppendResult::Appended(receipt) if !receipt.replayed)
}
