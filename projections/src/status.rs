//! How far the read models are.

use audit_client::{AuditClient, ReadError};
use audit_verify::{checkpoint::LedgerKey, key_history::KeyHistory};
use domain::{ids::Stream, record::Record, time::Timestamp};
use serde::Serialize;

use crate::{error::FollowError, error::RebuildError, store::ProjectionStore};

/// The generation that serves, against the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The generation that serves.
    pub generation: u32,
    /// `seq` of the next record to follow.
    pub next_seq: u64,
    /// Records in the ledger, by its signed checkpoint.
    pub ledger_size: u64,
    /// Records to follow.
    pub lag_records: u64,
    /// Age of the last record followed where there are more; else 0.
    pub lag_seconds: u64,
    /// All generations, ascending.
    pub generations: Vec<u32>,
}

/// Compares the store with the ledger. A pinned key, or one that it was rotated to, verifies the
/// ledger's checkpoint; without one, the key that the audit service shows.
pub async fn status(
    store: &dyn ProjectionStore,
    audit: &AuditClient,
    key: Option<LedgerKey>,
    now: Timestamp,
) -> Result<Status, RebuildError> {
    let serving = store.serving().await.map_err(FollowError::from)?;
    let generations = store.list().await.map_err(FollowError::from)?;
    let position = store.position(serving).await.map_err(FollowError::from)?;
    // Before the rotations are read: they then cover it, or trying again will.
    let checkpoint = audit.checkpoint().await.map_err(FollowError::from)?;
    let keys = if let Some(pinned) = key {
        rotations(audit, pinned).await?
    } else {
        let shown = audit.verifier_key().await.map_err(FollowError::from)?;
        KeyHistory::with(shown.parse().map_err(FollowError::LedgerKey)?)
    };
    let head = keys.open(&checkpoint)?;
    let next_seq = position.map_or(0, |position| position.next_seq);
    let lag_records = head.size.saturating_sub(next_seq);
    let lag_seconds = match position {
        Some(position) if lag_records > 0 => age_seconds(now, position.at),
        _ => 0,
    };
    Ok(Status {
        generation: serving.0,
        next_seq,
        ledger_size: head.size,
        lag_records,
        lag_seconds,
        generations: generations.into_iter().map(|generation| generation.0).collect(),
    })
}

/// The keys from a pinned one on, by the rotations in the ledger, each of which is vouched for.
async fn rotations(audit: &AuditClient, pinned: LedgerKey) -> Result<KeyHistory, RebuildError> {
    let mut keys = KeyHistory::with(pinned);
    for line in audit.stream(Stream::LedgerKeys, 1).await.map_err(FollowError::from)? {
        let record = Record::parse(&line).map_err(|_| FollowError::from(ReadError::Malformed))?;
        keys.follow(&record)?;
    }
    Ok(keys)
}

/// Whole seconds from `then` to `now`; 0 where clocks disagree.
pub(crate) fn age_seconds(now: Timestamp, then: Timestamp) -> u64 {
    u64::try_from(now.millis().saturating_sub(then.millis())).unwrap_or(0) / 1_000
}
