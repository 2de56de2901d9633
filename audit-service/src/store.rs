//! The ledger store port: blocks in, blocks out, two lookups, and the tiles derived from blocks.

use std::collections::HashMap;

use async_trait::async_trait;
use domain::{
    hash::Hash,
    ids::{Mac, Stream},
    time::Timestamp,
};

use crate::{
    block::Block,
    tiles::{Tile, TileId},
};

mod error;
pub mod memory;
pub mod mongo;
pub mod observed;
pub mod sqlite;

pub use error::{AppendError, BoxError, StoreError};

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

    /// Stores tiles, in order of their levels. A wider one replaces a narrower one; where one as
    /// wide or wider stands, nothing changes. Storing the same tiles twice is harmless, also
    /// from several processes at once.
    async fn put_tiles(&self, tiles: &[Tile]) -> Result<(), StoreError>;

    /// The stored tiles at these places; absent ones are absent. Nothing about them can be
    /// trusted: they are derived from blocks and checked by whoever uses them.
    async fn tiles(&self, ids: &[TileId]) -> Result<HashMap<TileId, StoredTile>, StoreError>;

    /// Puts a tile in place of a bad one, unless another process was faster: where anything but
    /// `bad` stands, nothing changes.
    async fn repair_tile(&self, good: &Tile, bad: &StoredTile) -> Result<(), StoreError>;
}

/// What stands at the place of a tile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredTile {
    /// 1 to [`WIDTH`](crate::tiles::WIDTH) hashes.
    Hashes(Vec<Hash>),
    /// Something that is no tile; only somebody's own hands can have put it there.
    Malformed,
}

impl StoredTile {
    /// Reads hashes, 32 bytes each, one after another.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        match bytes.as_chunks::<32>() {
            (hashes, []) if (1..=crate::tiles::WIDTH).contains(&hashes.len()) => {
                Self::Hashes(hashes.iter().copied().map(Hash).collect())
            }
            _ => Self::Malformed,
        }
    }
}

/// The hashes of a tile one after another.
pub fn tile_bytes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// What no block accounts for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// The position that it claims, as far as it claims one.
    pub first: u64,
    /// What it is; never content.
    pub reason: String,
}
