//! Which key signs checkpoints of which sizes: rotations are records of the ledger itself, each
//! vouched for by the key before.

use std::{fmt, sync::Arc};

use domain::record::{HexBytes, KeyRotation, Record};

use crate::{
    checkpoint::{CheckpointError, LedgerKey, LedgerSecret, TreeHead, read_unverified},
    keys::KeyError,
};

/// The keys of a ledger as far as it was read. Clones share what they have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyHistory {
    /// Each key with the size of the smallest tree that it signs; ascending, never empty.
    keys: Arc<Vec<(u64, LedgerKey)>>,
    /// The key on which belief rests, where that need not be the first one.
    pinned: Option<LedgerKey>,
    /// Rotations before the first key; not known where reading began within the ledger.
    before: Option<u64>,
}

/// A rotation that the key before did not vouch for, in this place of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("record {seq} names a new signing key that the key before did not vouch for")]
pub struct NotVouchedFor {
    /// The rotation's position.
    pub seq: u64,
}

impl KeyHistory {
    /// A history that begins with this key.
    pub fn new(first: LedgerKey) -> Self {
        Self { keys: Arc::new(vec![(0, first)]), pinned: None, before: Some(0) }
    }

    /// A history that goes on from this key, for readers who begin within the ledger and believe
    /// what came before.
    pub fn within(current: LedgerKey) -> Self {
        Self { before: None, ..Self::new(current) }
    }

    /// A history in which this key comes up, first or later, for readers who begin at record 0
    /// and were given whatever key was the ledger's then. Checkpoints are believed that this key
    /// signs or one after it: what came before they cover, too.
    pub fn with(pinned: LedgerKey) -> Self {
        Self { pinned: Some(pinned.clone()), ..Self::new(pinned) }
    }

    /// Takes a record that follows those before; all but rotations change nothing. One that is
    /// refused changes nothing either.
    pub fn follow(&mut self, record: &Record) -> Result<(), NotVouchedFor> {
        let Some(rotation) = &record.key else { return Ok(()) };
        let refused = NotVouchedFor { seq: record.seq };
        let KeyRotation { next, previous, voucher } = *rotation;
        let key_of = |public| LedgerKey::new(record.ledger.clone(), public).map_err(|_| refused);
        let (next_key, before) = (key_of(next.0)?, key_of(previous.0)?);
        // The first rotation is version 1 of its stream.
        let known = self.keys.len() as u64;
        let stated = record.version.ok_or(refused)?;
        let rotations_before = self.before.or(stated.checked_sub(known)).ok_or(refused)?;
        let version = rotations_before + known;
        let (last, _) = self.keys[self.keys.len() - 1];
        let begins_before_the_pinned_key = self.pinned.is_some() && known == 1;
        let fits = before == *self.newest() || begins_before_the_pinned_key;
        let statement = KeyRotation::statement(&record.ledger, version, previous, next);
        if record.seq < last
            || stated != version
            || record.ledger != *self.newest().origin()
            || !fits
            || !before.verifies(statement.as_bytes(), &voucher.0)
        {
            return Err(refused);
        }
        let keys = Arc::make_mut(&mut self.keys);
        if known == 1 {
            *keys = vec![(0, before)];
        }
        keys.push((record.seq + 1, next_key));
        self.before = Some(rotations_before);
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

    /// The history as it was when the ledger had this size.
    #[must_use]
    pub fn until(&self, size: u64) -> Self {
        let keys = self.keys.iter().filter(|(from, _)| *from <= size).cloned().collect();
        Self { keys: Arc::new(keys), ..self.clone() }
    }

    /// Verifies a checkpoint by the key that signs checkpoints of its size.
    pub fn open(&self, note: &str) -> Result<TreeHead, CheckpointError> {
        let (_, head) = read_unverified(note)?;
        if let Some(pinned) = &self.pinned
            && !self.keys.iter().any(|(from, key)| key == pinned && *from <= head.size)
        {
            return Err(CheckpointError::Signature);
        }
        self.at(head.size).open(note)
    }
}

/// The rotation from the key that signs now to the next, vouched for: what its record says at this
/// version of `ledger/keys`, which is 1 for the first.
pub fn rotation(current: &LedgerSecret, next: &LedgerKey, version: u64) -> KeyRotation {
    let (previous, next) = (HexBytes(*current.public().public()), HexBytes(*next.public()));
    let statement = KeyRotation::statement(current.origin(), version, previous, next);
    let voucher = HexBytes(current.sign_message(statement.as_bytes()));
    KeyRotation { next, previous, voucher }
}

/// One key a line, oldest first: the smallest size that it signs, a space, its text form.
impl fmt::Display for KeyHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.keys.iter().try_for_each(|(from, key)| writeln!(f, "{from} {key}"))
    }
}

/// Reads the lines that a history shows. They are what somebody says: nothing in them is
/// vouched for.
pub fn read_listing(text: &str) -> Result<Vec<(u64, LedgerKey)>, KeyError> {
    let line = |line: &str| {
        let (from, key) = line.split_once(' ').ok_or(KeyError::Public)?;
        Ok((from.parse().map_err(|_| KeyError::Public)?, key.parse()?))
    };
    text.lines().map(line).collect()
}
