//! The same command id never has two effects.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use audit_service::{
    block::Block,
    store::{AppendError, LedgerStore, StoreError, StoredTile, memory::MemoryLedger},
    tiles::{Tile, TileId},
};
use domain::{
    ids::{Mac, Stream},
    time::Timestamp,
    wire::{AppendResult, Receipt},
};

use crate::{
    chain::Chain,
    fixture::{
        Machine, PATIENCE, Running, admitted, by_command, event, eventually, fresh, patient, read,
        receipt,
    },
    model::start_forgetful,
};

fn replayed(receipt: &Receipt) -> AppendResult {
    AppendResult::Appended(Receipt { replayed: true, ..receipt.clone() })
}

async fn check_known(running: &Running, original: &Receipt) {
    let again = by_command(1, 1, event(1, 1));
    assert_eq!(running.append(again.clone()).await, replayed(original));
    // What the stream has become since does not matter: a retry conflicts with itself else.
    let elsewhere = by_command(1, 1, event(2, 7));
    assert_eq!(running.append(elsewhere).await, replayed(original));
    let other_body = by_command(1, 2, event(1, 2));
    assert_eq!(running.append(other_body).await, AppendResult::CommandReused);
}

#[tokio::test]
async fn a_known_command_gets_its_original_receipt_and_with_another_body_none() {
    let store = MemoryLedger::new();
    let machine = Machine::new();
    let running = machine.open(&store).await;
    let original = receipt(running.append(by_command(1, 1, event(1, 1))).await);
    check_known(&running, &original).await;
    running.stop().await;

    let restarted = machine.open(&store).await;
    check_known(&restarted, &original).await;
    let elsewhere = Machine::new().open(&store).await;
    check_known(&elsewhere, &original).await;
    assert_eq!(Chain::check(&store.blocks()).records.len(), 1);
}

#[tokio::test]
async fn a_command_that_was_refused_is_not_known() {
    let store = MemoryLedger::new();
    let running = Machine::new().open(&store).await;
    let conflict = running.append(by_command(1, 1, event(1, 2))).await;
    assert_eq!(conflict, AppendResult::Conflict { stream: patient(1), expected: 1, actual: 0 });
    assert!(!receipt(running.append(by_command(1, 2, event(1, 1))).await).replayed);
}

#[tokio::test]
async fn two_of_the_same_in_one_block_have_one_effect() {
    let store = MemoryLedger::new();
    let running = Machine::new().open(&store).await;
    let one = by_command(1, 1, event(1, 1));
    let results = running.append_all([one.clone(), one, by_command(1, 2, event(1, 2))]).await;
    let [first, second, third] = results.try_into().unwrap();
    let original = receipt(first);
    assert!(!original.replayed);
    assert_eq!(second, replayed(&original));
    assert_eq!(third, AppendResult::CommandReused);
    assert_eq!(Chain::check(&store.blocks()).records.len(), 1);
}

#[tokio::test]
async fn commands_and_streams_that_memory_lost_are_looked_up() {
    let store = MemoryLedger::new();
    let queue = start_forgetful(&store, 1);
    let append = async |proposal| queue.submit(admitted([proposal]), PATIENCE).await.pop().unwrap();
    let mut receipts = Vec::new();
    for number in 1..=5 {
        receipts.push(receipt(append(by_command(number, 0, event(number, 1))).await));
    }
    for (number, original) in (1..).zip(&receipts) {
        let again = by_command(number, 0, event(number, 1));
        assert_eq!(append(again).await, replayed(original));
        assert_eq!(
            append(by_command(number, 1, event(number, 2))).await,
            AppendResult::CommandReused
        );
        let actual = AppendResult::Conflict { stream: patient(number), expected: 4, actual: 1 };
        assert_eq!(append(event(number, 5)).await, actual);
    }
    assert_eq!(Chain::check(&store.blocks()).records.len(), 5);
}

#[tokio::test]
async fn a_command_that_memory_loses_while_its_block_is_fenced_is_looked_up_again() {
    let store = MemoryLedger::new();
    let queue = start_forgetful(&store, 2);
    let original = queue.submit(admitted([by_command(1, 1, event(1, 1))]), PATIENCE).await;
    let original = receipt(original.into_iter().next().unwrap());
    let other = Machine::new().open(&store).await;
    for number in 2..=6 {
        receipt(other.append(by_command(number, 1, event(number, 1))).await);
    }
    // The first is in memory when it is looked for, and the second makes a block that is fenced.
    let retry = [by_command(1, 1, event(1, 2)), event(7, 1)];
    let results = queue.submit(admitted(retry), PATIENCE).await;
    assert_eq!(results[0], replayed(&original));
    assert_eq!(receipt(results[1].clone()).seq, 6);
    Chain::check(&store.blocks());
}

#[tokio::test]
async fn many_retries_at_once_get_each_its_own_receipt() {
    let store = MemoryLedger::new();
    let before = Machine::new().open(&store).await;
    let mut originals = Vec::new();
    for batch in 0..4_u64 {
        let all = (0..25).map(|n| by_command(batch * 25 + n, n, event(batch * 25 + n, 1)));
        originals.extend(before.append_all(all).await.into_iter().map(receipt));
    }
    let restarted = Machine::new().open(&store).await;
    let again = (0..100).rev().map(|n| by_command(n, n % 25, event(n, 1)));
    let results = restarted.append_all(again).await;
    let expected: Vec<_> = originals.iter().rev().map(replayed).collect();
    assert_eq!(results, expected);
}

/// Counts what an appender asks the store for.
#[derive(Clone, Default)]
struct Counting {
    inner: MemoryLedger,
    commands: Arc<AtomicUsize>,
    streams: Arc<AtomicUsize>,
}

impl Counting {
    fn counts(&self) -> (usize, usize) {
        (self.commands.load(Ordering::SeqCst), self.streams.load(Ordering::SeqCst))
    }
}

#[async_trait]
impl LedgerStore for Counting {
    async fn head(&self) -> Result<Option<Block>, StoreError> {
        self.inner.head().await
    }

    async fn append(&self, block: &Block) -> Result<(), AppendError> {
        self.inner.append(block).await
    }

    async fn block_at(&self, first: u64) -> Result<Option<Block>, StoreError> {
        self.inner.block_at(first).await
    }

    async fn blocks_from(&self, seq: u64, max: usize) -> Result<Vec<Block>, StoreError> {
        self.inner.blocks_from(seq, max).await
    }

    async fn stream_versions(
        &self,
        streams: &[Stream],
    ) -> Result<HashMap<Stream, u64>, StoreError> {
        self.streams.fetch_add(streams.len(), Ordering::SeqCst);
        self.inner.stream_versions(streams).await
    }

    async fn find_commands(&self, ids: &[Mac]) -> Result<HashMap<Mac, u64>, StoreError> {
        self.commands.fetch_add(ids.len(), Ordering::SeqCst);
        self.inner.find_commands(ids).await
    }

    async fn stream_lines(
        &self,
        stream: Stream,
        from_version: u64,
        max: usize,
    ) -> Result<Vec<String>, StoreError> {
        self.inner.stream_lines(stream, from_version, max).await
    }

    async fn stray(&self) -> Result<Option<audit_service::store::Stray>, StoreError> {
        self.inner.stray().await
    }

    async fn clock(&self) -> Result<Timestamp, StoreError> {
        self.inner.clock().await
    }

    async fn put_tiles(&self, tiles: &[Tile]) -> Result<(), StoreError> {
        self.inner.put_tiles(tiles).await
    }

    async fn tiles(&self, ids: &[TileId]) -> Result<HashMap<TileId, StoredTile>, StoreError> {
        self.inner.tiles(ids).await
    }

    async fn repair_tile(&self, good: &Tile, bad: &StoredTile) -> Result<(), StoreError> {
        self.inner.repair_tile(good, bad).await
    }
}

#[tokio::test]
async fn what_was_made_for_this_request_is_not_looked_up() {
    let store = Counting::default();
    let running = Running::open(Machine::new().parts(store.clone())).await.unwrap();
    let new_patient = fresh(by_command(1, 1, event(1, 1)));
    receipt(running.append(new_patient.clone()).await);
    assert_eq!(store.counts(), (0, 0));
    // Its stream is known from then on.
    receipt(running.append(fresh(by_command(2, 1, event(1, 2)))).await);
    receipt(running.append(read(1)).await);
    assert_eq!(store.counts(), (0, 0));
    // A client's own id may have been used before; that of a stream too.
    receipt(running.append(by_command(3, 1, event(3, 1))).await);
    assert_eq!(store.counts(), (1, 1));
    // A retry is answered from memory, and after a restart from the store.
    let retry = by_command(1, 1, event(1, 1));
    assert!(receipt(running.append(retry.clone()).await).replayed);
    assert_eq!(store.counts(), (1, 1));
    let restarted = Running::open(Machine::new().parts(store.clone())).await.unwrap();
    eventually(|| restarted.size() == 4).await;
    assert!(receipt(restarted.append(retry).await).replayed);
    assert_eq!(store.counts(), (2, 2));
}
