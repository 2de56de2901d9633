//! One operation is one trace, whoever takes part in it, and whatever becomes of the back end.

mod back_ends;
mod commits;
mod context;
mod export;
mod failures;
mod names;
mod quiet;
mod tree;

use tests::{
    http::Answer,
    otlp::Trace,
    system::{Layout, System},
};

/// One replica of everything, told this besides.
async fn one_replica(settings: &[String]) -> System {
    let layout = Layout { replicas: 1, ..Layout::shared().await };
    System::four_processes(layout.telling_all(settings)).await
}

/// The trace that an answer belongs to.
#[track_caller]
fn trace_of(answer: &Answer) -> String {
    let parent = answer.header("traceparent").unwrap_or_else(|| panic!("no trace: {answer:?}"));
    let parts: Vec<&str> = parent.split('-').collect();
    assert!(matches!(parts[..], ["00", trace, span, _] if trace.len() == 32 && span.len() == 16));
    parts[1].to_owned()
}

/// Whether all services have said something about a trace, and the commit is there.
fn is_complete(trace: &Trace) -> bool {
    let services = trace.services();
    names::SERVICES.iter().all(|service| services.contains(service))
        && trace.roots().len() == 1
        && names::COMMIT.is_in(trace)
        && names::APPLY.is_in(trace)
}
