//! Many callers, few blocks.

use std::sync::Arc;

use audit_service::store::memory::{AppendFault, MemoryLedger};
use domain::wire::{Proposal, Receipt};
use tokio::task::JoinSet;

use crate::{
    chain::Chain,
    fixture::{Machine, Running, event, event_of_bytes, eventually, read, receipt},
};

/// A ledger whose first block, of one record, is under way until the store is released.
async fn busy(store: &MemoryLedger) -> (Arc<Running>, JoinSet<Vec<Receipt>>) {
    store.fail_append(AppendFault::Hang);
    let running = Arc::new(Machine::new().open(store).await);
    let mut callers = JoinSet::new();
    call(&mut callers, &running, vec![event(0, 1)]);
    eventually(|| store.appends() == 1).await;
    (running, callers)
}

/// Another caller, who appends some records together.
fn call(callers: &mut JoinSet<Vec<Receipt>>, running: &Arc<Running>, proposals: Vec<Proposal>) {
    let running = running.clone();
    callers.spawn(
        async move { running.append_all(proposals).await.into_iter().map(receipt).collect() },
    );
}

/// Lets every caller that was spawned reach the queue.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_waits_while_a_block_is_under_way_becomes_the_next_block() {
    let store = MemoryLedger::new();
    let (running, mut callers) = busy(&store).await;
    for caller in 1..=500 {
        let proposal = if caller % 3 == 0 { read(caller) } else { event(caller, 1) };
        call(&mut callers, &running, vec![proposal]);
    }
    settle().await;
    store.release();
    let mut receipts: Vec<Receipt> = callers.join_all().await.into_iter().flatten().collect();
    let sizes: Vec<usize> = store.blocks().iter().map(|block| block.lines.len()).collect();
    assert_eq!(sizes, [1, 500]);

    let chain = Chain::check(&store.blocks());
    receipts.sort_by_key(|receipt| receipt.seq);
    for (seq, receipt) in receipts.iter().enumerate() {
        assert_eq!(receipt.seq, seq as u64);
        assert_eq!(receipt.hash.to_string(), chain.hashes[seq]);
        assert_eq!(receipt.recorded_at.to_string(), chain.records[seq]["recordedAt"]);
        assert_eq!(receipt.stream.unwrap().to_string(), chain.records[seq]["stream"]);
        assert_eq!(receipt.version, chain.records[seq]["version"].as_u64());
        assert!(!receipt.replayed);
    }
}

#[tokio::test]
async fn records_of_one_caller_keep_their_order_and_see_each_other() {
    let store = MemoryLedger::new();
    let (running, mut callers) = busy(&store).await;
    for caller in 1..=5 {
        let versions = (1..=20).map(|version| event(caller, version));
        call(&mut callers, &running, versions.chain([read(caller)]).collect());
    }
    settle().await;
    store.release();
    for receipts in callers.join_all().await {
        assert!(receipts.is_sorted_by_key(|receipt| receipt.seq));
        if let Some(read) = receipts.get(20) {
            assert_eq!(read.current_version, Some(20));
        }
    }
    assert_eq!(store.blocks().len(), 2);
    Chain::check(&store.blocks());
}

#[tokio::test]
async fn a_block_has_a_thousand_records_at_most() {
    let store = MemoryLedger::new();
    let (running, mut callers) = busy(&store).await;
    for caller in 1..=5 {
        call(&mut callers, &running, (0..500).map(|_| read(caller)).collect());
    }
    settle().await;
    store.release();
    callers.join_all().await;
    let sizes: Vec<usize> = store.blocks().iter().map(|block| block.lines.len()).collect();
    assert_eq!(sizes, [1, 1_000, 1_000, 500]);
    Chain::check(&store.blocks());
}

#[tokio::test]
async fn a_block_has_a_megabyte_and_a_half_at_most() {
    let store = MemoryLedger::new();
    let (running, mut callers) = busy(&store).await;
    for caller in 1..=60 {
        call(&mut callers, &running, vec![event_of_bytes(caller, 1, 47_000)]);
    }
    settle().await;
    store.release();
    callers.join_all().await;
    let bytes = |block: &audit_service::block::Block| block.lines.iter().map(String::len).sum();
    let bytes: Vec<usize> = store.blocks().iter().map(bytes).collect();
    assert_eq!(bytes.len(), 4, "{bytes:?}");
    assert!(bytes[1..3].iter().all(|bytes| (1_430_000..=1_500_000).contains(bytes)), "{bytes:?}");
    Chain::check(&store.blocks());
}
