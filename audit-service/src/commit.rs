//! Storing one block until its fate is known.
//!
//! After an ambiguous result only a block *found* at its position says anything. Not found
//! means nothing: a delayed insert lands seconds after a linearizable read saw none. So the
//! identical bytes are sent again, and nothing else is appended meanwhile.

use std::time::Duration;

use runtime::health::Component;
use tokio_util::sync::CancellationToken;

use crate::{
    block::Block,
    metrics::LedgerMetrics,
    store::{AppendError, LedgerStore, StoreError},
};

/// First pause before a block is sent again; doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// Longest pause before a block is sent again.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What became of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// It is durable at its position.
    Stored,
    /// Another block is durable at its position.
    Fenced,
    /// The store refused it and it was never sent otherwise: certainly not stored.
    Refused,
    /// The process is going down and nothing is known.
    Abandoned,
}

impl Committed {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Fenced => "fenced",
            Self::Refused => "refused",
            Self::Abandoned => "abandoned",
        }
    }
}

/// Stores a block. Returns only when its fate is known or the process goes down. An error says
/// that what stands at its position is no block.
pub async fn commit(
    store: &dyn LedgerStore,
    block: &Block,
    component: &Component,
    shutdown: &CancellationToken,
    metrics: &LedgerMetrics,
) -> Result<Committed, StoreError> {
    let _under_way = metrics.begin();
    let mut may_land = false;
    let settled = settle(store, block, component, shutdown, &mut may_land).await;
    if let Ok(committed) = settled {
        metrics.settled(committed, may_land);
    }
    settled
}

/// Notes in `may_land` when the store gives no clear answer.
async fn settle(
    store: &dyn LedgerStore,
    block: &Block,
    component: &Component,
    shutdown: &CancellationToken,
    may_land: &mut bool,
) -> Result<Committed, StoreError> {
    let mut pause = FIRST_PAUSE;
    loop {
        match store.append(block).await {
            Ok(()) => return Ok(Committed::Stored),
            Err(error @ AppendError::Refused(_)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a block was refused");
                component.not_ready("the ledger store refuses blocks");
                if !*may_land {
                    return Ok(Committed::Refused);
                }
            }
            Err(error @ AppendError::Ambiguous(_)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    first = block.first,
                    "sending the identical block again until one is found"
                );
                component.not_ready("the outcome of storing a block is unknown");
                *may_land = true;
            }
            Err(AppendError::Occupied { .. }) => {}
        }
        // An occupied position whose block is not visible yet is waited for, never skipped.
        match store.block_at(block.first).await {
            // Where ours cannot have landed, equal bytes are another process's: two accesses
            // that differ in nothing are two records.
            Ok(Some(found)) if *may_land && found == *block => return Ok(Committed::Stored),
            Ok(Some(_)) => return Ok(Committed::Fenced),
            Ok(None) => {}
            Err(error @ StoreError::Malformed { .. }) => return Err(error),
            Err(error @ StoreError::Unavailable(_)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a block was not read");
                component.not_ready("the ledger store is not available");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            () = shutdown.cancelled() => return Ok(Committed::Abandoned),
        }
    }
}
