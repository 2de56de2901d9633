//! A block carries several requests, and is known by all of them.

use futures::future::join_all;
use tests::{
    otlp::{Collector, Protocol, Span},
    samples::{a_place, plain_patient},
};

use super::{names, one_replica, trace_of};

/// Requests at once. While one block is on its way, the others gather for the next.
const AT_ONCE: usize = 16;

/// Tries until two meet in a block, which the first one nearly always sees.
const TRIES: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_share_a_commit_are_linked_to_it_and_stay_trees_of_their_own() {
    let _place = a_place().await;
    let collector = Collector::start().await;
    let system = one_replica(&collector.settings(Protocol::Http)).await;
    let clinic = system.clinic();
    for _ in 0..TRIES {
        let posts = (0..AT_ONCE).map(|_| {
            let clinic = clinic.clone();
            async move { clinic.post("/patient", &plain_patient()).await.expect(201) }
        });
        let traces: Vec<String> = join_all(posts).await.iter().map(trace_of).collect();
        let what = "whole traces with their commits";
        let linked = collector.wait_for(what, |spans| linked(spans, &traces)).await;
        for trace in &traces {
            let trace = collector.trace(trace);
            assert_eq!(trace.root(None).service, "gateway");
            assert_eq!(trace.services(), names::SERVICES.into(), "{trace}");
        }
        for (append, commit) in &linked {
            assert!(commit.is_linked_to(append), "{append:#?} {commit:#?}");
        }
        let shared = linked.iter().find(|(_, commit)| {
            linked.iter().filter(|(_, other)| other.id == commit.id).count() > 1
        });
        if let Some((_, commit)) = shared {
            let appends = linked.iter().filter(|(_, other)| other.id == commit.id);
            let of: Vec<&Span> = appends.map(|(append, _)| append).collect();
            // It can be part of one trace alone, and the links lead to the others.
            assert!(of.iter().any(|append| commit.parent.as_ref() == Some(&append.id)));
            assert!(of.iter().any(|append| append.trace != commit.trace), "{of:#?}");
            system.finish().await;
            return;
        }
    }
    panic!("{TRIES} times {AT_ONCE} requests at once, and no two in one block");
}

/// The `append` span of each trace with the commit that it is linked to, once all are there and
/// whole.
fn linked(spans: &[Span], traces: &[String]) -> Option<Vec<(Span, Span)>> {
    let one = |trace: &String| {
        let mine = || spans.iter().filter(|span| span.trace == *trace);
        let has = |name: &names::Name| mine().any(|span| name.is(span));
        // What ends last in each service; a batch is called for in the trace of its first proposal.
        let is_whole = [names::DOOR, names::PATIENTS, names::APPLY].iter().all(has)
            && has(&names::TO_AUDIT) == has(&names::AUDIT);
        let append = mine().find(|span| names::APPEND.is(span)).filter(|_| is_whole)?;
        let mut commits = spans.iter().filter(|span| names::COMMIT.is(span));
        let commit = commits.find(|commit| append.is_linked_to(commit))?;
        Some((append.clone(), commit.clone()))
    };
    traces.iter().map(one).collect()
}
