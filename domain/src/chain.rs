//! Whether one record follows another.

use crate::{
    hash::Hash,
    ids::Name,
    record::{ParseError, Record},
    time::Timestamp,
};

/// The end of a chain: what the next record must continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// `seq` of the next record.
    pub next_seq: u64,
    /// Hash of the last record; [`Hash::ZERO`] before the first.
    pub hash: Hash,
    /// `recordedAt` of the last record.
    pub at: Timestamp,
}

/// Why a line does not continue a chain.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The line is no record.
    #[error("record {seq} cannot be read")]
    Parse {
        /// The position looked at.
        seq: u64,
        /// Why.
        source: ParseError,
    },
    /// The record stands at another position than it says.
    #[error("record {expected} is missing: found {found} in its place")]
    Seq {
        /// The position looked at.
        expected: u64,
        /// What the record says.
        found: u64,
    },
    /// `prev` is not the hash of the record before.
    #[error("record {seq} does not follow from the record before it")]
    Prev {
        /// The position looked at.
        seq: u64,
    },
    /// Time runs backwards.
    #[error("record {seq} is earlier than the record before it")]
    Time {
        /// The position looked at.
        seq: u64,
    },
    /// A record of another ledger.
    #[error("record {seq} is of another ledger")]
    Ledger {
        /// The position looked at.
        seq: u64,
    },
}

impl ChainError {
    /// The first bad position.
    pub fn seq(&self) -> u64 {
        match self {
            Self::Parse { seq, .. }
            | Self::Seq { expected: seq, .. }
            | Self::Prev { seq }
            | Self::Time { seq }
            | Self::Ledger { seq } => *seq,
        }
    }
}

impl Link {
    /// The end of the empty chain.
    pub fn genesis() -> Self {
        Self { next_seq: 0, hash: Hash::ZERO, at: Timestamp::from_millis(i64::MIN) }
    }

    /// Reads a line as the next record of `ledger`; moves on only if it is.
    pub fn follow(&mut self, ledger: &Name, line: &str) -> Result<Record, ChainError> {
        let seq = self.next_seq;
        let record = Record::parse(line).map_err(|source| ChainError::Parse { seq, source })?;
        if record.seq != seq {
            return Err(ChainError::Seq { expected: seq, found: record.seq });
        }
        if record.prev != self.hash {
            return Err(ChainError::Prev { seq });
        }
        if record.recorded_at < self.at {
            return Err(ChainError::Time { seq });
        }
        if record.ledger != *ledger {
            return Err(ChainError::Ledger { seq });
        }
        self.advance(&record, Hash::of_line(line));
        Ok(record)
    }

    /// Moves past a record that was just made for this place.
    pub fn advance(&mut self, record: &Record, hash: Hash) {
        self.next_seq = record.seq + 1;
        self.hash = hash;
        self.at = record.recorded_at;
    }
}
