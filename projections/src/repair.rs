//! Closing a gap in one stream of the read models from the ledger.

use std::{sync::Arc, time::Duration};

use audit_client::AuditClient;
use domain::ids::PatientId;

use crate::{
    decode::load_change,
    documents::Generation,
    erasure,
    error::RepairError,
    key_ring::KeyRing,
    store::{Applied, ProjectionStore},
    tally::TALLY,
};

/// Loads for one gap at most. Others write the same stream meanwhile, but only forward, so one
/// is enough unless documents are deleted by hand.
const MAX_REPAIRS: u32 = 3;

/// Pause before the next load where the ledger served less than was seen of it: a replica of the
/// audit service that has just started may be behind the others.
const BEHIND_PAUSE: Duration = Duration::from_millis(500);

/// Loads what a stream misses and applies it.
pub(crate) struct Repairer {
    store: Arc<dyn ProjectionStore>,
    audit: AuditClient,
    ring: KeyRing,
}

impl Repairer {
    pub(crate) fn new(store: Arc<dyn ProjectionStore>, audit: AuditClient, ring: KeyRing) -> Self {
        Self { store, audit, ring }
    }

    /// Applies everything that the ledger holds of the stream after version `at`, which is known
    /// to reach `to`. [`RepairError::NothingToLoad`] where there is nothing after `at`.
    pub(crate) async fn repair(
        &self,
        generation: Generation,
        patient: PatientId,
        mut at: u64,
        to: u64,
    ) -> Result<(), RepairError> {
        for _ in 0..MAX_REPAIRS {
            let change = match load_change(&self.audit, &self.ring, patient, at).await {
                Err(RepairError::NothingToLoad { .. }) if at < to => {
                    tokio::time::sleep(BEHIND_PAUSE).await;
                    continue;
                }
                change => change?,
            };
            if change.erased.is_some() {
                // It fits any cursor, and nothing follows it.
                erasure::complete(self.store.as_ref(), &self.ring, &change).await?;
                repaired(at, change.to);
                return Ok(());
            }
            let results = self.store.apply(generation, std::slice::from_ref(&change)).await?;
            if let Some(Applied::Gap { at: now }) = results.first() {
                at = *now;
                continue;
            }
            repaired(at, change.to);
            if change.to >= to {
                return Ok(());
            }
            at = change.to;
            tokio::time::sleep(BEHIND_PAUSE).await;
        }
        Err(RepairError::StillBehind { at })
    }
}

fn repaired(from: u64, to: u64) {
    TALLY.repaired();
    tracing::info!(from, to, "a stream was repaired");
}
