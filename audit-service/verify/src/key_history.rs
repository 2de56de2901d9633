//! Which key signs checkpoints of which sizes: rotations are records of the ledger itself, each
//! vouched for by the key before.

use domain::record::{KeyRotation, Record};

use crate::checkpoint::{CheckpointError, LedgerKey, TreeHead};

/// The keys of a ledger as far as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyHistory {
    /// Each key with the size of the smallest tree that it signs; ascending, never empty.
    keys: Vec<(u64, LedgerKey)>,
}

/// A rotation that the key before did not vouch for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("record {seq} names a new signing key that the key before did not vouch for")]
pub struct NotVouchedFor {
    /// The rotation's position.
    pub seq: u64,
}

impl KeyHistory {
    /// A history that begins with this key.
    pub fn new(first: LedgerKey) -> Self {
        Self { keys: vec![(0, first)] }
    }

    /// Takes a record that follows those before; all but rotations change nothing.
    pub fn follow(&mut self, record: &Record) -> Result<(), NotVouchedFor> {
        let Some(rotation) = &record.key else { return Ok(()) };
        let refused = NotVouchedFor { seq: record.seq };
        let KeyRotation { next, previous, voucher } = *rotation;
        let current = self.newest();
        let version = record.version.unwrap_or_default();
        let statement = KeyRotation::statement(&record.ledger, version, previous, next);
        if previous.0 != *current.public()
            || record.ledger != *current.origin()
            || !current.verifies(statement.as_bytes(), &voucher.0)
        {
            return Err(refused);
        }
        let key = LedgerKey::new(record.ledger.clone(), next.0).map_err(|_| refused)?;
        self.keys.push((record.seq + 1, key));
        Ok(())
    }

    /// The key that signs the newest checkpoints.
    pub fn newest(&self) -> &LedgerKey {
        &self.keys[self.keys.len() - 1].1
    }

    /// The key that signs checkpoints of this size: the old key those before the rotation, the
    /// new one those that cover it.
    pub fn at(&self, size: u64) -> &LedgerKey {
        let after = self.keys.partition_point(|(from, _)| *from <= size);
        &self.keys[after.saturating_sub(1)].1
    }

    /// The keys, oldest first, each with the smallest size that it signs.
    pub fn keys(&self) -> &[(u64, LedgerKey)] {
        &self.keys
    }

    /// Verifies a checkpoint by the key that signs checkpoints of its size.
    pub fn open(&self, note: &str) -> Result<TreeHead, CheckpointError> {
        let (_, head) = crate::checkpoint::read_unverified(note)?;
        self.at(head.size).open(note)
    }
}
