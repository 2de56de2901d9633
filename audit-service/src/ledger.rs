//! The ledger as a value: what the next block must continue, and whether one does. Pure.

use std::{collections::HashMap, sync::Arc};

use audit_verify::{
    checkpoint::LedgerKey,
    key_history::{KeyHistory, NotVouchedFor},
};
use domain::{
    chain::{ChainError, Link},
    hash::Hash,
    ids::{Mac, Name},
    merkle::Frontier,
    record::Record,
};

pub use crate::block::entries;
use crate::{
    block::{Block, CommandEntry, StreamEntry},
    seal::SealKeys,
};

/// The end of the ledger: its chain and the right edge of its Merkle tree.
#[derive(Clone)]
pub struct Ledger {
    keys: KeyHistory,
    seal_keys: Arc<SealKeys>,
    link: Link,
    frontier: Frontier,
}

/// Why a stored block is not the next block of the ledger.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// The block stands at another position.
    #[error("a block is missing: expected one at {expected}, found one at {found}")]
    Position {
        /// Where the next block must begin.
        expected: u64,
        /// Where this one begins.
        found: u64,
    },
    /// The last block is not where it was: somebody took it away or replaced it.
    #[error("the last block, at {first}, is gone or was replaced")]
    Gone {
        /// `first` of the block.
        first: u64,
    },
    /// An event does not take the next version of its stream.
    #[error("record {seq} does not take the next version of its stream")]
    Version {
        /// Its position.
        seq: u64,
    },
    /// A rotation of the signing key that the key before did not vouch for.
    #[error("the signing key was not rotated by its holder")]
    Rotation(#[from] NotVouchedFor),
    /// The block holds no line.
    #[error("the block at {first} is empty")]
    Empty {
        /// `first` of the block.
        first: u64,
    },
    /// A line does not continue the chain.
    #[error("the chain is broken")]
    Chain(#[from] ChainError),
    /// The stored root or frontier is not that of the lines.
    #[error("the Merkle root of the block at {first} is not that of its records")]
    Root {
        /// `first` of the block.
        first: u64,
    },
    /// The seal is not ours: somebody without the seal key wrote the block.
    #[error("the seal of the block at {first} is not genuine")]
    Seal {
        /// `first` of the block.
        first: u64,
    },
    /// What the store holds is no block at all.
    #[error("there is something that is not a block at {first}: {reason}")]
    Malformed {
        /// `first` of the block as far as it can be told.
        first: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The lookup entries are not those of the lines.
    #[error("the lookup entries of the block at {first} are not those of its records")]
    Entries {
        /// `first` of the block.
        first: u64,
    },
}

impl FoldError {
    /// The first position that is not as it should be.
    pub fn seq(&self) -> u64 {
        match self {
            Self::Position { expected: seq, .. }
            | Self::Gone { first: seq }
            | Self::Version { seq }
            | Self::Empty { first: seq }
            | Self::Root { first: seq }
            | Self::Seal { first: seq }
            | Self::Malformed { first: seq, .. }
            | Self::Rotation(NotVouchedFor { seq })
            | Self::Entries { first: seq } => *seq,
            Self::Chain(error) => error.seq(),
        }
    }
}

impl Ledger {
    /// The empty ledger, whose checkpoints this key signs first.
    pub fn genesis(key: LedgerKey, seal_keys: Arc<SealKeys>) -> Self {
        let keys = KeyHistory::new(key);
        Self { keys, seal_keys, link: Link::genesis(), frontier: Frontier::default() }
    }

    /// A ledger that goes on after `frontier`, where `link` is known to be its last link and
    /// `keys` are those up to there.
    #[must_use]
    pub fn resume(self, link: Link, frontier: Frontier, keys: KeyHistory) -> Self {
        Self { keys, link, frontier, ..self }
    }

    /// The ledger's name.
    pub fn origin(&self) -> &Name {
        self.keys.newest().origin()
    }

    /// Which key signs checkpoints of which sizes.
    pub fn keys(&self) -> &KeyHistory {
        &self.keys
    }

    /// Records in the ledger; `seq` of the next one.
    pub fn size(&self) -> u64 {
        self.link.next_seq
    }

    /// The end of the chain.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The Merkle root over all records.
    pub fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// The right edge of the Merkle tree over all records.
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// Takes a record that was made for the next place; returns its hash. A rotation that is not
    /// vouched for is refused and changes nothing.
    pub fn push(&mut self, record: &Record, line: &str) -> Result<Hash, NotVouchedFor> {
        self.keys.follow(record)?;
        let hash = Hash::of_line(line);
        self.link.advance(record, hash);
        self.frontier.push(hash);
        Ok(hash)
    }

    /// The block of the lines pushed since the ledger ended at `first`.
    pub fn close_block(
        &self,
        first: u64,
        lines: Vec<String>,
        entries: (Vec<StreamEntry>, Vec<CommandEntry>),
    ) -> Block {
        let root = self.root();
        let (streams, commands) = entries;
        Block {
            first,
            lines,
            streams,
            commands,
            frontier: self.frontier.hashes().to_vec(),
            root,
            seal: self.seal(root),
        }
    }

    /// Verifies a stored block in full and moves past it; stays where it was if it is bad.
    pub fn fold(&mut self, block: &Block) -> Result<Vec<Record>, FoldError> {
        let first = block.first;
        if first != self.size() {
            return Err(FoldError::Position { expected: self.size(), found: first });
        }
        if block.lines.is_empty() {
            return Err(FoldError::Empty { first });
        }
        let mut next = self.clone();
        let mut records = Vec::with_capacity(block.lines.len());
        for line in &block.lines {
            let record = next.link.follow(self.origin(), line)?;
            next.keys.follow(&record)?;
            next.frontier.push(next.link.hash);
            records.push(record);
        }
        if block.root != next.root() || block.frontier != next.frontier.hashes() {
            return Err(FoldError::Root { first });
        }
        if !next.seal_keys.verify(next.origin(), next.size(), block.root, &block.seal) {
            return Err(FoldError::Seal { first });
        }
        if entries(&records) != (block.streams.clone(), block.commands.clone()) {
            return Err(FoldError::Entries { first });
        }
        check_versions(&records)?;
        *self = next;
        Ok(records)
    }

    fn seal(&self, root: Hash) -> Mac {
        self.seal_keys.seal(self.origin(), self.size(), root)
    }
}

/// Within one block the versions of a stream follow each other.
fn check_versions(records: &[Record]) -> Result<(), FoldError> {
    let mut versions = HashMap::new();
    for record in records {
        let Some((stream, version)) = record.stream_version() else { continue };
        if versions.insert(stream, version).is_some_and(|before| version != before + 1) {
            return Err(FoldError::Version { seq: record.seq });
        }
    }
    Ok(())
}
