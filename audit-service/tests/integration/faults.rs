//! Stores that fail in every way: one effect, one receipt, no second copy.

use std::{sync::Arc, time::Duration};

use audit_service::{
    commit::{Committed, commit},
    metrics::LedgerMetrics,
    store::memory::{AppendFault, MemoryLedger},
};
use domain::wire::{AppendResult, Proposal};
use runtime::{health::Readiness, metrics::Meters};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    chain::Chain,
    fixture::{
        Machine, Running, by_command, event, eventually, nothing_stored, outcome_unknown, read,
        receipt,
    },
};

/// How long an impatient caller waits.
const SHORTLY: Duration = Duration::from_millis(150);

fn spawn_append(running: &Arc<Running>, proposal: Proposal) -> JoinHandle<AppendResult> {
    let running = running.clone();
    tokio::spawn(async move { running.append(proposal).await })
}

async fn open(store: &MemoryLedger) -> Arc<Running> {
    Arc::new(Machine::new().open(store).await)
}

/// One append through these faults gives one record and one receipt that is not a replay.
async fn check_one_effect(faults: &[AppendFault]) {
    let store = MemoryLedger::new();
    let running = open(&store).await;
    for fault in faults {
        store.fail_append(*fault);
    }
    let receipt = receipt(running.append(by_command(1, 1, event(1, 1))).await);
    assert_eq!((receipt.seq, receipt.replayed), (0, false), "{faults:?}");
    assert!(running.readiness.is_ready(), "{faults:?}");
    store.land();
    running.append(read(1)).await;
    let chain = Chain::check(&store.blocks());
    assert_eq!(chain.records.len(), 2, "{faults:?}");
    assert_eq!(chain.hashes[0], receipt.hash.to_string(), "{faults:?}");
}

#[tokio::test]
async fn an_ambiguous_result_has_one_effect_and_one_receipt() {
    use AppendFault::{FailAndDoNotPersist, FailAndPersist, LandLate, Refuse};
    check_one_effect(&[FailAndPersist]).await;
    check_one_effect(&[FailAndDoNotPersist]).await;
    check_one_effect(&[FailAndDoNotPersist, FailAndPersist]).await;
    check_one_effect(&[LandLate]).await;
    check_one_effect(&[LandLate, LandLate, LandLate, FailAndPersist]).await;
    // A refusal says nothing of the bytes that were sent before.
    check_one_effect(&[LandLate, Refuse]).await;
}

#[tokio::test]
async fn a_block_that_lands_while_it_is_sent_again_is_the_one_copy() {
    let store = MemoryLedger::new();
    let running = open(&store).await;
    store.fail_append(AppendFault::LandLate);
    store.fail_append(AppendFault::Hang);
    let append = spawn_append(&running, event(1, 1));
    eventually(|| store.appends() == 2).await;
    assert_eq!(running.size(), 0, "the head moved over a block that nobody has seen");
    store.land();
    store.release();
    assert_eq!(receipt(append.await.unwrap()).seq, 0);
    receipt(running.append(event(1, 2)).await);
    assert_eq!(Chain::check(&store.blocks()).records.len(), 2);
}

#[tokio::test]
async fn a_block_that_lost_its_place_is_formed_again_behind_the_one_that_took_it() {
    let store = MemoryLedger::new();
    let (one, other) = (open(&store).await, open(&store).await);
    store.fail_append(AppendFault::LandLate);
    store.fail_append(AppendFault::Hang);
    let append = spawn_append(&one, event(1, 1));
    eventually(|| store.appends() == 2).await;
    assert_eq!(receipt(other.append(event(2, 1)).await).seq, 0);
    store.release();
    assert_eq!(receipt(append.await.unwrap()).seq, 1);
    store.land();
    assert_eq!(Chain::check(&store.blocks()).records.len(), 2);
}

#[tokio::test]
async fn a_block_that_lands_after_its_process_died_is_kept_or_lost_whole() {
    for lands_first in [true, false] {
        let store = MemoryLedger::new();
        let dying = open(&store).await;
        store.fail_append(AppendFault::LandLate);
        store.fail_append(AppendFault::Hang);
        let lost = spawn_append(&dying, by_command(1, 1, event(1, 1)));
        eventually(|| store.appends() == 2).await;
        lost.abort();

        let next = open(&store).await;
        if lands_first {
            store.land();
        }
        let retried = receipt(next.append(by_command(1, 1, event(1, 1))).await);
        assert_eq!((retried.seq, retried.replayed), (0, lands_first));
        store.land();
        receipt(next.append(event(1, 2)).await);
        assert_eq!(Chain::check(&store.blocks()).records.len(), 2);
    }
}

#[tokio::test]
async fn a_block_without_a_majority_is_waited_for_and_never_skipped() {
    for reveal in [true, false] {
        let store = MemoryLedger::new();
        let (one, other) = (open(&store).await, open(&store).await);
        store.fail_append(AppendFault::Hide);
        let first = spawn_append(&one, event(1, 1));
        eventually(|| store.appends() >= 2).await;
        let second = spawn_append(&other, event(2, 1));
        eventually(|| store.appends() >= 12).await;
        assert_eq!((one.size(), other.size()), (0, 0), "folded before it was committed");
        assert!(!one.readiness.is_ready(), "nothing can be appended");
        assert!(store.blocks().is_empty(), "something was stored behind it");
        if reveal {
            store.reveal();
        } else {
            store.roll_back();
        }
        let mut seqs = [receipt(first.await.unwrap()).seq, receipt(second.await.unwrap()).seq];
        if reveal {
            assert_eq!(seqs, [0, 1]);
        }
        seqs.sort_unstable();
        assert_eq!(seqs, [0, 1]);
        assert_eq!(Chain::check(&store.blocks()).records.len(), 2);
        eventually(|| one.size() == 2 && other.size() == 2).await;
    }
}

#[tokio::test]
async fn a_caller_past_its_deadline_is_told_what_is_known() {
    let store = MemoryLedger::new();
    let running = open(&store).await;
    store.fail_append(AppendFault::Hang);
    let taken = running.append_within(SHORTLY, by_command(1, 1, event(1, 1)));
    let waiting = async {
        eventually(|| store.appends() == 1).await;
        running.append_within(SHORTLY, by_command(2, 2, event(2, 1))).await
    };
    let (taken, waiting) = tokio::join!(taken, waiting);
    assert_eq!(taken, outcome_unknown());
    assert_eq!(waiting, nothing_stored(), "nobody had looked at it");

    store.release();
    let retried = receipt(running.append(by_command(1, 1, event(1, 1))).await);
    assert_eq!((retried.seq, retried.replayed), (0, true));
    let chain = Chain::check(&store.blocks());
    assert_eq!(chain.records.len(), 1, "what was withdrawn was stored");
    assert_eq!(chain.hashes[0], retried.hash.to_string());
}

#[tokio::test]
async fn a_caller_who_has_gone_is_not_appended_for_after_a_fence() {
    let store = MemoryLedger::new();
    let (slow, other) = (open(&store).await, open(&store).await);
    store.fail_append(AppendFault::Hang);
    let append = slow.append_within(SHORTLY, read(1));
    let meanwhile = async {
        eventually(|| store.appends() == 1).await;
        receipt(other.append(read(2)).await);
    };
    assert_eq!(tokio::join!(append, meanwhile).0, outcome_unknown());
    store.release();
    receipt(slow.append(read(3)).await);
    let chain = Chain::check(&store.blocks());
    assert_eq!(chain.records.len(), 2, "it was fenced, nobody waited, and it may be elsewhere");
}

#[tokio::test]
async fn a_refusal_stores_nothing_and_says_so() {
    let store = MemoryLedger::new();
    let running = open(&store).await;
    store.fail_append(AppendFault::Refuse);
    assert_eq!(running.append(event(1, 1)).await, nothing_stored());
    assert!(store.blocks().is_empty());
    assert_eq!(receipt(running.append(event(1, 1)).await).seq, 0);
}

#[tokio::test]
async fn a_store_that_does_not_answer_reads_stores_nothing() {
    let store = MemoryLedger::new();
    let running = open(&store).await;
    // The stream's version cannot be looked up.
    store.fail_reads(1_000_000);
    assert_eq!(running.append(read(1)).await, nothing_stored());
    eventually(|| !running.readiness.is_ready()).await;
    store.fail_reads(0);
    assert_eq!(receipt(running.append(read(1)).await).seq, 0);
    eventually(|| running.readiness.is_ready()).await;
}

#[tokio::test]
async fn reads_that_fail_while_an_outcome_is_unknown_decide_nothing() {
    let store = MemoryLedger::new();
    let running = open(&store).await;
    receipt(running.append(event(1, 1)).await);
    store.fail_append(AppendFault::FailAndPersist);
    store.fail_reads(1_000_000);
    let append = spawn_append(&running, event(1, 2));
    eventually(|| store.appends() >= 4).await;
    assert!(!running.readiness.is_ready());
    assert_eq!(running.size(), 1);
    store.fail_reads(0);
    assert_eq!(receipt(append.await.unwrap()).seq, 1);
    assert_eq!(Chain::check(&store.blocks()).records.len(), 2);
}

#[tokio::test]
async fn equal_bytes_of_another_process_are_not_ours() {
    let store = MemoryLedger::new();
    let running = open(&store).await;
    receipt(running.append(read(1)).await);
    let block = store.blocks().pop().unwrap();
    let component = Readiness::default().component("ledger store");
    let stop = CancellationToken::new();
    let metrics = LedgerMetrics::new(&Meters::default().meter());
    let committed = commit(&store, &block, &component, &stop, &metrics).await;
    assert_eq!(committed.unwrap(), Committed::Fenced);

    let store = MemoryLedger::new();
    store.fail_append(AppendFault::FailAndPersist);
    let committed = commit(&store, &block, &component, &stop, &metrics).await;
    assert_eq!(committed.unwrap(), Committed::Stored);
}

#[tokio::test]
async fn a_process_that_goes_down_with_an_unknown_outcome_forms_no_other_block() {
    let store = MemoryLedger::new();
    let running = open(&store).await;
    store.fail_append(AppendFault::Hide);
    let unknown = spawn_append(&running, event(1, 1));
    eventually(|| store.appends() >= 2).await;
    running.abandon.cancel();
    assert_eq!(unknown.await.unwrap(), outcome_unknown());
    let appends = store.appends();
    assert_eq!(running.append(event(2, 1)).await, nothing_stored());
    assert_eq!(store.appends(), appends);
}
