//! The one task that appends: takes what waits, forms a block, stores it, answers, repeats.
//!
//! Design §4. Correctness rests on the store's fence alone, so any number of processes may
//! run an appender on one ledger.

mod round;

use std::{sync::Arc, time::Duration};

use audit_verify::key_history::KeyHistory;
use domain::{
    hash::Hash,
    merkle::Frontier,
    record::{Record, RecordType},
    time::Timestamp,
    wire::Stored,
};
use runtime::health::Component;
use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    checkpoint::CheckpointSigner,
    clock::ClockGuard,
    ledger::Ledger,
    metrics::LedgerMetrics,
    prover::Prover,
    queue::{Item, Items, refuse, take_round, unavailable},
    recent::Recent,
    stop::{Final, Stop},
    store::{LedgerStore, StoreError},
    tail::TailGuard,
};

/// How often an idle appender looks for blocks of other processes. Bounds how long a reader
/// of this process waits for them.
const LOOK_AROUND: Duration = Duration::from_millis(200);

/// Blocks read at once while catching up.
const CATCH_UP_BLOCKS: usize = 64;

/// How often a block that is missing before a visible one is asked for again, and for how
/// long in all; then it is not late but gone.
const GAP_PAUSE: Duration = Duration::from_millis(50);
const GAP_TRIES: u32 = 100;

/// The end of the ledger, as published to readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Records in the ledger.
    pub size: u64,
    /// Merkle root over them.
    pub root: Hash,
    /// `recordedAt` of the last record.
    pub at: Timestamp,
    /// Changes when a waiting reader should look: not for a `LedgerRead`, or two readers would
    /// wake each other for ever.
    pub wakes: u64,
}

/// The appender's state. Made by [`crate::start`], run as one task.
pub struct Appender {
    /// Where blocks are kept.
    pub store: Arc<dyn LedgerStore>,
    /// The ledger as far as it is verified.
    pub ledger: Ledger,
    /// Recent stream versions and commands.
    pub recent: Recent,
    /// The signing keys that this process holds.
    pub signer: Arc<CheckpointSigner>,
    /// Where the ledger's key history is published, ahead of the heads that it covers.
    pub keys: watch::Sender<KeyHistory>,
    /// Where the tree is published that proofs are made of, ahead of its head.
    pub tree: watch::Sender<Frontier>,
    /// Gives out receipts with proofs.
    pub prover: Prover,
    /// Where the head is published.
    pub head: watch::Sender<Head>,
    /// Whether the last block is still there.
    pub tail: TailGuard,
    /// The time, and whether it may be trusted.
    pub clock: ClockGuard,
    /// Readiness of the ledger.
    pub component: Component,
    /// Gives up waiting for a store that does not answer.
    pub abandon: CancellationToken,
    /// What is counted.
    pub metrics: Arc<LedgerMetrics>,
}

impl Appender {
    /// Runs until every handle of the queue is gone.
    pub async fn run(mut self, mut items: Items) {
        let mut look_around = tokio::time::interval(LOOK_AROUND);
        look_around.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut held = None;
        loop {
            let first = if held.is_some() {
                held.take()
            } else {
                tokio::select! {
                    biased;
                    item = items.recv() => match item {
                        Some(item) => Some(item),
                        None => return,
                    },
                    _ = look_around.tick() => None,
                }
            };
            let stopped = match first {
                Some(first) => {
                    let (round, overflow) = take_round(first, &mut items);
                    held = overflow;
                    self.round(round).await
                }
                None => self.look_around().await,
            };
            if let Err(reason) = stopped {
                return self.halt(&reason, held, items).await;
            }
        }
    }

    async fn look_around(&mut self) -> Result<(), Final> {
        let looked = match self.confirm_tail().await {
            Ok(()) => self.catch_up().await,
            Err(stop) => Err(stop),
        };
        match looked {
            Ok(_) => {
                if self.now().await.is_some() {
                    self.component.ready();
                }
                Ok(())
            }
            Err(Stop::Store(error)) => {
                self.unavailable(&error);
                Ok(())
            }
            Err(Stop::Final(reason)) => Err(reason),
        }
    }

    async fn confirm_tail(&mut self) -> Result<(), Stop> {
        Ok(self.tail.check(&*self.store).await??)
    }

    /// The time for a record after the head, if the clock may be trusted.
    async fn now(&self) -> Option<Timestamp> {
        let now = self.clock.time(&*self.store, self.ledger.link().at).await;
        now.inspect_err(|error| self.component.not_ready(error.reason())).ok()
    }

    fn unavailable(&self, error: &StoreError) {
        tracing::warn!(error = error as &dyn std::error::Error, "the ledger store failed");
        self.component.not_ready("the ledger store is not available");
    }

    /// Folds the blocks that other processes stored. Returns whether there were any.
    async fn catch_up(&mut self) -> Result<bool, Stop> {
        let mut moved = false;
        let mut tries = 0;
        loop {
            let blocks = self.store.blocks_from(self.ledger.size(), CATCH_UP_BLOCKS).await?;
            let Some(first) = blocks.first() else { return Ok(moved) };
            if first.first > self.ledger.size() && tries < GAP_TRIES {
                tries += 1;
                tokio::time::sleep(GAP_PAUSE).await;
                continue;
            }
            tries = 0;
            for block in &blocks {
                if block.first > self.ledger.size() && block.first != first.first {
                    break;
                }
                let records = self.ledger.fold(block)?;
                self.can_sign()?;
                let hashes = block.lines.iter().map(|line| Hash::of_line(line));
                let records: Vec<(Record, Hash)> = records.into_iter().zip(hashes).collect();
                self.tail.moved_to(block);
                self.publish(&records);
                moved = true;
            }
        }
    }

    /// A head that covers a rotation to a key that this process does not hold is not published:
    /// no checkpoint of it could be signed here.
    fn can_sign(&self) -> Result<(), Stop> {
        let newest = self.ledger.keys().newest();
        if self.signer.holds(newest) {
            Ok(())
        } else {
            Err(Stop::Final(Final::KeyMissing(newest.to_string())))
        }
    }

    fn publish(&mut self, records: &[(Record, Hash)]) {
        for (record, hash) in records {
            self.recent.learn(record, *hash);
            if record.seq == 0 || record.key.is_some() {
                self.metrics.signs_since(record.recorded_at);
            }
        }
        let wake = records.iter().any(|(record, _)| record.record_type != RecordType::LedgerRead);
        self.keys.send_if_modified(|keys| {
            let rotated = keys != self.ledger.keys();
            if rotated {
                keys.clone_from(self.ledger.keys());
            }
            rotated
        });
        self.tree.send_replace(self.ledger.frontier().clone());
        let (size, root, at) = (self.ledger.size(), self.ledger.root(), self.ledger.link().at);
        self.head.send_modify(|head| {
            *head = Head { size, root, at, wakes: head.wakes + u64::from(wake) };
        });
    }

    /// Appending has ended for good; whoever still asks is told so.
    async fn halt(self, reason: &Final, held: Option<Item>, mut items: Items) {
        reason.report(&self.component);
        self.metrics.halted(reason);
        refuse(held.into_iter().collect(), Stored::NothingStored);
        while let Some(item) = items.recv().await {
            item.answer(unavailable(Stored::NothingStored));
        }
    }
}
