//! The verification of a whole ledger, or of what is new in one, in bounded memory.
//!
//! Lines come in chunks. What can be said of a chunk by itself ([`check`]) is found on any number
//! of threads; a [`Verifier`] takes the results in order and joins them. Hashing, parsing and
//! the chunk's part of the Merkle tree are thus done beside each other, and each record is read
//! once.

use domain::{chain::Link, ids::Name, merkle::Frontier};

use crate::{
    checkpoint::{LedgerKey, TreeHead},
    seal::SealKeys,
};

mod chunk;
mod join;
mod lines;
mod parallel;

pub use chunk::{Checked, Chunk, check};
pub use join::Verifier;
pub use lines::TextChunks;
pub use parallel::{Progress, Read, VerifyError, verify};

/// What to verify against.
pub struct Options {
    /// The ledger's origin.
    pub origin: Name,
    /// Keys of the ledger that are believed; those that they vouch for are followed. Without one
    /// no signature is checked. Where reading begins within the ledger, the one key that signed
    /// what is believed of it.
    pub keys: Vec<LedgerKey>,
    /// Where reading begins.
    pub start: Start,
    /// Signed tree heads that must be those of the records.
    pub expected: Vec<Expected>,
    /// The size beyond which no record may be: an export has what its checkpoint says. `None` for
    /// a store, which goes on growing.
    pub covers: Option<u64>,
    /// The key of the blocks' seals, where it is at hand.
    pub seal_keys: Option<SealKeys>,
}

/// Where reading begins.
#[derive(Debug, Clone, Default)]
pub enum Start {
    /// At the first record.
    #[default]
    Genesis,
    /// After a tree head that is believed.
    After {
        /// The last record's link.
        link: Link,
        /// The tree.
        frontier: Frontier,
    },
}

/// A signed tree head to compare with.
#[derive(Debug, Clone)]
pub struct Expected {
    /// What it is, in words: `the checkpoint`, `the trusted checkpoint`, `the anchored …`.
    pub name: String,
    /// What it says.
    pub head: TreeHead,
    /// The signed note, where its signature is still to be checked.
    pub note: Option<String>,
}
