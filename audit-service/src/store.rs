//! The ledger store port: blocks in, blocks out, and two lookups.

use std::collections::HashMap;

use async_trait::async_trait;
use domain::{
    ids::{Mac, Stream},
    time::Timestamp,
};

use crate::block::Block;

pub mod memory;
pub mod mongo;
pub mod sqlite;

/// Where blocks are kept.
///
/// Atomicity: a block is stored whole or not at all. Durability: `append` returns `Ok` only
/// when a majority holds the block on disk. Visibility: every read is majority-committed and
/// from the primary; what one read saw, no later read of this store value misses. Uniqueness:
/// of two blocks with the same `first`, from whatever process, at most one is ever stored.
/// Calls may run at once.
#[async_trait]
pub trait LedgerStore: Send + Sync + 'static {
    /// The visible block with the highest `first`.
    async fn head(&self) -> Result<Option<Block>, StoreError>;

    /// Stores a block under its `first`. Never decides that a block with another `first` may
    /// not follow: the caller does.
    async fn append(&self, block: &Block) -> Result<(), AppendError>;

    /// The visible block whose `first` is exactly this.
    async fn block_at(&self, first: u64) -> Result<Option<Block>, StoreError>;

    /// The visible block that holds `seq` and those after it, ascending, at most `max` and at
    /// least one if there is one. Gaps are the caller's to notice.
    async fn blocks_from(&self, seq: u64, max: usize) -> Result<Vec<Block>, StoreError>;

    /// The highest version of each stream; streams without a record are absent. The answer
    /// covers at least every block that this store value returned or stored before.
    async fn stream_versions(&self, streams: &[Stream])
    -> Result<HashMap<Stream, u64>, StoreError>;

    /// The `seq` of the record of each command; unknown commands are absent. Covers as
    /// [`LedgerStore::stream_versions`] does.
    async fn find_commands(&self, ids: &[Mac]) -> Result<HashMap<Mac, u64>, StoreError>;

    /// Lines of one stream from a version on, ascending, at most `max`.
    async fn stream_lines(
        &self,
        stream: Stream,
        from_version: u64,
        max: usize,
    ) -> Result<Vec<String>, StoreError>;

    /// Something that belongs to none of the blocks and that lookups could find all the same.
    /// Looks at everything: for verification alone.
    async fn stray(&self) -> Result<Option<Stray>, StoreError>;

    /// The store's own clock.
    async fn clock(&self) -> Result<Timestamp, StoreError>;
}

/// What no block accounts for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// The position that it claims, as far as it claims one.
    pub first: u64,
    /// What it is; never content.
    pub reason: String,
}

/// A read that gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store did not answer, or not in time; ask again.
    #[error("the ledger store is not available")]
    Unavailable(#[source] BoxError),
    /// The store answered with something that is no block. The first bad block is named.
    #[error("the ledger store holds something that is not a block at {first}")]
    Malformed {
        /// `first` of the block as far as it can be told.
        first: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// An append that did not plainly succeed.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// A block with this `first` exists, or is on its way; it may not be visible yet.
    #[error("a block at {first} exists already")]
    Occupied {
        /// The `first` that is taken.
        first: u64,
    },
    /// Nothing is known: the block may be stored, now or later.
    #[error("the outcome of storing a block is unknown")]
    Ambiguous(#[source] BoxError),
    /// Certainly not stored, now or later.
    #[error("the ledger store refused a block")]
    Refused(#[source] BoxError),
}

/// The adapter's own error, for the log.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
