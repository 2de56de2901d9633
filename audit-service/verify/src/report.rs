//! What a verification found.

use std::{cmp::Reverse, fmt};

use domain::{chain::ChainError, ids::Name, time::Timestamp};

use crate::{
    checkpoint::{CheckpointError, LedgerKey, TreeHead},
    key_history::NotVouchedFor,
};

/// What was checked, and what was found.
#[derive(Debug)]
pub struct Report {
    /// The ledger.
    pub origin: Name,
    /// The first record read.
    pub from: u64,
    /// `recordedAt` of the first record read, where there is one.
    pub from_time: Option<Timestamp>,
    /// `recordedAt` of the last record that follows from those before it.
    pub to_time: Option<Timestamp>,
    /// The tree of all records up to the last that follows from those before it.
    pub head: TreeHead,
    /// Records that follow from those before them.
    pub records: u64,
    /// Bytes of their lines, newlines not counted.
    pub bytes: u64,
    /// Stored blocks, where the source has blocks.
    pub blocks: u64,
    /// Whether the blocks' seals were checked.
    pub seals: bool,
    /// The ledger's keys, oldest first, each with the smallest size that it signs.
    pub keys: Vec<(u64, LedgerKey)>,
    /// Keys that were given and did not come up in the records read: whoever gave them believes in
    /// another history, or in one that goes further.
    pub absent: Vec<LedgerKey>,
    /// The signed tree heads that agree with the records.
    pub agreed: Vec<Agreed>,
    /// What is wrong, the most telling first. Empty where the ledger is intact.
    pub findings: Vec<Finding>,
}

/// A signed tree head that is the one of the records read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// Which, in words.
    pub name: String,
    /// Its size.
    pub size: u64,
    /// The key that signed it; `None` where the signature was checked beforehand.
    pub key: Option<LedgerKey>,
}

/// Something that is not as it must be.
#[derive(Debug)]
pub struct Finding {
    /// The first record that may be bad: all before it are as they were signed or follow.
    pub first: u64,
    /// The last record that may be the first bad one. The same as `first` where it is known.
    pub last: u64,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A line that is no record, or stands at another place, or runs back in time.
    #[error("{}", Whole(.0))]
    Chain(#[from] ChainError),
    /// The next record names another hash.
    #[error("record {seq} was changed: its hash is not the one that record {} names", seq + 1)]
    Changed {
        /// The record.
        seq: u64,
    },
    /// Its own link was changed.
    #[error("record {seq} was changed or put in: it does not name the record before it")]
    Relinked {
        /// The record.
        seq: u64,
    },
    /// One of two, and nothing tells which.
    #[error("record {} or record {seq} was changed: the one does not follow from the other", seq - 1)]
    Unlinked {
        /// The second of them.
        seq: u64,
    },
    /// Fewer records than were signed.
    #[error(
        "the ledger was cut off: {name} was signed over {signed} records, and {found} are there"
    )]
    CutOff {
        /// The signed tree head.
        name: String,
        /// Its size.
        signed: u64,
        /// Records that are there.
        found: u64,
    },
    /// Records that no signature covers.
    #[error(
        "records from {covered} on are not covered by the checkpoint: it is older than they are"
    )]
    Uncovered {
        /// The checkpoint's size.
        covered: u64,
    },
    /// Other records than were signed, all of which follow from each other.
    #[error(
        "the records up to {} are not those that {name} was signed over. Each follows from the one \
         before, so either the last of them alone was changed, or all from the first changed one on \
         were rewritten",
        size - 1
    )]
    Root {
        /// The signed tree head.
        name: String,
        /// Its size.
        size: u64,
    },
    /// A checkpoint that is not believed.
    #[error("{name}: {error}")]
    Checkpoint {
        /// Which.
        name: String,
        /// Why.
        error: CheckpointError,
    },
    /// The key that was given is not one of the ledger's.
    #[error("the verifier key given is not one of the keys that the ledger names")]
    ForeignKey,
    /// A new key that the one before did not vouch for.
    #[error(transparent)]
    Rotation(#[from] NotVouchedFor),
    /// A version of a stream is missing, or there twice.
    #[error("record {seq} does not take the next version of its stream")]
    Version {
        /// The record.
        seq: u64,
    },
    /// What stands beside the lines of a stored block.
    #[error("the stored block of records {first} to {}: {what}", end - 1)]
    Block {
        /// Its first record.
        first: u64,
        /// The first record after it.
        end: u64,
        /// What is wrong with it.
        what: BlockProblem,
    },
    /// What the store holds beside its blocks, or instead of one.
    #[error("the store holds something at record {first} that is not as it must be: {reason}")]
    Store {
        /// The place, as far as it can be told.
        first: u64,
        /// What is wrong; never content.
        reason: String,
    },
}

/// What is wrong with what stands beside the lines of a stored block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockProblem {
    /// The root or the frontier.
    #[error("its Merkle root is not that of its records")]
    Root,
    /// The seal.
    #[error("its seal is not genuine")]
    Seal,
    /// The lookup entries.
    #[error("its lookup entries are not those of its records")]
    Entries,
    /// It does not begin where the block before ended.
    #[error("it does not begin where the block before it ended")]
    Position,
}

/// A chain error with its cause.
struct Whole<'a>(&'a ChainError);

impl fmt::Display for Whole<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)?;
        let mut source = std::error::Error::source(self.0);
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl Finding {
    /// A finding about one record.
    pub fn at(seq: u64, problem: impl Into<Problem>) -> Self {
        Self { first: seq, last: seq, problem: problem.into() }
    }

    /// The least for the most telling finding: no record after its `last` is the first bad one. A
    /// wrong version says nothing about that: it may stand after what was rewritten.
    pub(crate) fn rank(&self) -> (bool, u64, Reverse<u64>, bool) {
        let is_version = matches!(self.problem, Problem::Version { .. });
        // What is wrong with a record says more than that its block's root does not fit.
        let is_of_a_block = matches!(self.problem, Problem::Block { .. });
        (is_version, self.last, Reverse(self.first), is_of_a_block)
    }

    /// Whether it is known which record is the first bad one.
    pub fn is_exact(&self) -> bool {
        self.first == self.last
    }
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_intact(&self) -> bool {
        self.findings.is_empty()
    }
}
