//! The one task that appends: takes what waits, forms a block, stores it, answers, repeats.
//!
//! Design §4. Correctness rests on the store's fence alone, so any number of processes may
//! run an appender on one ledger.

use std::{sync::Arc, time::Duration};

use audit_verify::key_history::KeyHistory;
use domain::{
    hash::Hash,
    merkle::Frontier,
    record::{Record, RecordType},
    time::Timestamp,
    wire::{AppendResult, Stored},
};
use runtime::health::Component;
use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    checkpoint::{CheckpointSigner, TreeHead},
    clock::ClockGuard,
    commit::{Committed, commit},
    known::{Known, look_up},
    ledger::Ledger,
    plan::{Formed, Plan},
    prover::{Grown, Prover},
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

    /// Appends what it is given as one block and answers every item.
    async fn round(&mut self, items: Vec<Item>) -> Result<(), Final> {
        match self.append(&items).await {
            Ok((results, grown)) => {
                self.prover.answer(items, results, grown);
                Ok(())
            }
            Err(Stop::Store(error)) => {
                self.unavailable(&error);
                refuse(items, Stored::NothingStored);
                Ok(())
            }
            Err(Stop::Final(reason)) => {
                refuse(items, reason.stored());
                Err(reason)
            }
        }
    }

    /// The results, and how the tree grew if somebody wants a proof of that.
    async fn append(&mut self, items: &[Item]) -> Result<(Vec<AppendResult>, Option<Grown>), Stop> {
        match self.confirm_tail().await {
            // No answer is no evidence, and the append itself will say how the store is.
            Ok(()) | Err(Stop::Store(_)) => {}
            Err(stop) => return Err(stop),
        }
        let mut confirmed = false;
        loop {
            let known = self.look_up(items).await?;
            let Some(now) = self.now().await else {
                return Ok((vec![unavailable(Stored::NothingStored); items.len()], None));
            };
            let mut plan = Plan::new(&self.ledger, known, now);
            let results: Vec<AppendResult> =
                items.iter().map(|item| offer(&mut plan, &self.signer, item)).collect();
            let Some(formed) = plan.finish() else {
                // No block confirms that our head is the ledger's: a conflict with an old head
                // would be a lie.
                let conflict = |result| matches!(result, &AppendResult::Conflict { .. });
                if !confirmed && results.iter().any(conflict) {
                    confirmed = true;
                    if self.catch_up().await? {
                        continue;
                    }
                }
                return Ok((results, None));
            };
            match commit(&*self.store, &formed.block, &self.component, &self.abandon).await? {
                Committed::Stored => {
                    let proven = items.iter().any(|item| item.proof);
                    let grown = proven.then(|| self.grown(&formed));
                    self.adopt(formed);
                    return Ok((results, grown));
                }
                Committed::Fenced => {
                    self.catch_up().await?;
                }
                Committed::Refused => {
                    return Ok((vec![unavailable(Stored::NothingStored); items.len()], None));
                }
                Committed::Abandoned => return Err(Stop::Final(Final::Abandoned)),
            }
        }
    }

    async fn look_up(&mut self, items: &[Item]) -> Result<Known, Stop> {
        loop {
            let size = self.ledger.size();
            if let Some(known) = look_up(&*self.store, &mut self.recent, size, items).await? {
                return Ok(known);
            }
            // The store knows more than we do; each turn gets us further.
            if !self.catch_up().await? {
                let error = "a command was found in a block that is not visible";
                return Err(Stop::Store(StoreError::Unavailable(error.into())));
            }
        }
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

    fn grown(&self, formed: &Formed) -> Grown {
        Grown {
            before: self.ledger.frontier().clone(),
            leaves: formed.records.iter().map(|(_, hash)| *hash).collect(),
            head: TreeHead { size: formed.ledger.size(), root: formed.ledger.root() },
        }
    }

    fn adopt(&mut self, formed: Formed) {
        self.ledger = formed.ledger;
        self.tail.moved_to(&formed.block);
        self.publish(&formed.records);
        self.component.ready();
    }

    fn publish(&mut self, records: &[(Record, Hash)]) {
        for (record, hash) in records {
            self.recent.learn(record, *hash);
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
        refuse(held.into_iter().collect(), Stored::NothingStored);
        while let Some(item) = items.recv().await {
            item.answer(unavailable(Stored::NothingStored));
        }
    }
}

/// A proposal whose caller has gone while other processes' blocks came first is not appended:
/// it was certainly not stored, and its command may have been sent again elsewhere since.
fn offer(plan: &mut Plan, signer: &CheckpointSigner, item: &Item) -> AppendResult {
    if item.is_waited_for() {
        // It would be the last record that this process appends.
        if let Some(rotation) = &item.record.key
            && !signer.holds_public(&rotation.next.0)
        {
            let reason = "this replica does not hold the next signing key: give it to every \
                          replica before the rotation";
            return AppendResult::Refused { reason: reason.to_owned() };
        }
        plan.offer(&item.record, item.fresh)
    } else {
        unavailable(Stored::NothingStored)
    }
}
