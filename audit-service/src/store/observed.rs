//! A ledger store whose every call is a span and a measurement.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use domain::{
    ids::{Mac, Stream},
    time::Timestamp,
};
use runtime::store_calls::{CallError, Database};

use super::{AppendError, LedgerStore, StoreError, StoredTile, Stray};
use crate::{
    block::Block,
    tiles::{Tile, TileId},
};

/// The collections, as calls name them. The clock is the server's.
const BLOCKS: &str = "blocks";
const TILES: &str = "tiles";
const SERVER: &str = "server";

/// A store, and what its calls are named.
pub struct Observed {
    store: Arc<dyn LedgerStore>,
    database: Database,
}

impl Observed {
    /// A store of this system: `mongodb`, `sqlite` or `memory`.
    pub fn new(system: &'static str, store: impl LedgerStore) -> Self {
        Self { store: Arc::new(store), database: Database { system, namespace: "ledger" } }
    }
}

impl CallError for StoreError {
    fn error_type(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unavailable(_) => "unavailable",
            Self::Malformed { .. } => "malformed",
        })
    }
}

impl CallError for AppendError {
    fn error_type(&self) -> Option<&'static str> {
        match self {
            Self::Occupied { .. } => None,
            Self::Ambiguous(_) => Some("ambiguous"),
            Self::Refused(_) => Some("refused"),
        }
    }
}

#[async_trait]
impl LedgerStore for Observed {
    async fn head(&self) -> Result<Option<Block>, StoreError> {
        self.database.call("head", BLOCKS, self.store.head()).await
    }

    async fn append(&self, block: &Block) -> Result<(), AppendError> {
        self.database.call("append", BLOCKS, self.store.append(block)).await
    }

    async fn block_at(&self, first: u64) -> Result<Option<Block>, StoreError> {
        self.database.call("block_at", BLOCKS, self.store.block_at(first)).await
    }

    async fn blocks_from(&self, seq: u64, max: usize) -> Result<Vec<Block>, StoreError> {
        self.database.call("blocks_from", BLOCKS, self.store.blocks_from(seq, max)).await
    }

    async fn stream_versions(
        &self,
        streams: &[Stream],
    ) -> Result<HashMap<Stream, u64>, StoreError> {
        self.database.call("stream_versions", BLOCKS, self.store.stream_versions(streams)).await
    }

    async fn find_commands(&self, ids: &[Mac]) -> Result<HashMap<Mac, u64>, StoreError> {
        self.database.call("find_commands", BLOCKS, self.store.find_commands(ids)).await
    }

    async fn stream_lines(
        &self,
        stream: Stream,
        from_version: u64,
        max: usize,
    ) -> Result<Vec<String>, StoreError> {
        let lines = self.store.stream_lines(stream, from_version, max);
        self.database.call("stream_lines", BLOCKS, lines).await
    }

    async fn stray(&self) -> Result<Option<Stray>, StoreError> {
        self.database.call("stray", BLOCKS, self.store.stray()).await
    }

    async fn clock(&self) -> Result<Timestamp, StoreError> {
        self.database.call("clock", SERVER, self.store.clock()).await
    }

    async fn put_tiles(&self, tiles: &[Tile]) -> Result<(), StoreError> {
        self.database.call("put", TILES, self.store.put_tiles(tiles)).await
    }

    async fn tiles(&self, ids: &[TileId]) -> Result<HashMap<TileId, StoredTile>, StoreError> {
        self.database.call("find", TILES, self.store.tiles(ids)).await
    }

    async fn repair_tile(&self, good: &Tile, bad: &StoredTile) -> Result<(), StoreError> {
        self.database.call("repair", TILES, self.store.repair_tile(good, bad)).await
    }
}
