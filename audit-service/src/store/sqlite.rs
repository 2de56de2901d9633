//! The ledger store on SQLite, the embedded default.
//!
//! One connection writes and a few read. They work on threads for blocking calls, so an append
//! that its caller gave up on still ends, one way or the other. Every statement of a reader is a
//! snapshot of its own: blocks are stored whole and never change, so a block that one statement
//! saw is complete in the next, and no long read keeps the write-ahead log from being emptied.

use std::{collections::HashMap, path::Path};

use async_trait::async_trait;
use domain::{
    ids::{Mac, Stream},
    time::Timestamp,
};
use rusqlite::Connection;

use super::{AppendError, LedgerStore, StoreError, StoredTile, Stray};
use crate::{
    block::Block,
    tiles::{Tile, TileId},
};

mod append;
mod open;
mod pool;
mod read;
mod stray;
mod tiles;

pub use open::OpenError;
use pool::{Lost, Pool};

/// Connections that read at once: enough that a follower and an export do not wait for each
/// other, few enough for a small machine.
const READERS: usize = 3;

/// A ledger in a SQLite file.
#[derive(Debug)]
pub struct SqliteLedger {
    writer: Pool,
    readers: Pool,
}

impl SqliteLedger {
    /// Opens the ledger in a file, which is made, readable by its owner alone, if it is missing.
    /// Blocks the thread for the time of a few file operations.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let writer = Pool::new(path, 1);
        writer.put_back(open::prepare(path)?);
        Ok(Self { writer, readers: Pool::new(path, READERS) })
    }

    /// Opens a ledger that is there already, to read it. Makes nothing.
    pub fn open_to_read(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let readers = Pool::new(path, READERS);
        readers.put_back(open::existing(path)?);
        Ok(Self { writer: Pool::new(path, 1), readers })
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        match self.readers.run(|connection| query(connection)).await {
            Ok(answer) => answer,
            Err(Lost::Before(error) | Lost::During(error)) => Err(StoreError::Unavailable(error)),
        }
    }
}

impl SqliteLedger {
    async fn write_tiles(
        &self,
        write: impl FnOnce(&mut Connection) -> Result<(), rusqlite::Error> + Send + 'static,
    ) -> Result<(), StoreError> {
        match self.writer.run(write).await {
            Ok(written) => written.map_err(|error| StoreError::Unavailable(Box::new(error))),
            Err(Lost::Before(error) | Lost::During(error)) => Err(StoreError::Unavailable(error)),
        }
    }
}

#[async_trait]
impl LedgerStore for SqliteLedger {
    async fn head(&self) -> Result<Option<Block>, StoreError> {
        self.read(read::head).await
    }

    async fn append(&self, block: &Block) -> Result<(), AppendError> {
        let block = block.clone();
        match self.writer.run(move |connection| append::append(connection, &block)).await {
            Ok(outcome) => outcome,
            Err(Lost::Before(error)) => Err(AppendError::Refused(error)),
            Err(Lost::During(error)) => Err(AppendError::Ambiguous(error)),
        }
    }

    async fn block_at(&self, first: u64) -> Result<Option<Block>, StoreError> {
        self.read(move |connection| read::block_at(connection, first)).await
    }

    async fn blocks_from(&self, seq: u64, max: usize) -> Result<Vec<Block>, StoreError> {
        self.read(move |connection| read::blocks_from(connection, seq, max)).await
    }

    async fn stream_versions(
        &self,
        streams: &[Stream],
    ) -> Result<HashMap<Stream, u64>, StoreError> {
        let streams = streams.to_vec();
        self.read(move |connection| read::stream_versions(connection, &streams)).await
    }

    async fn find_commands(&self, ids: &[Mac]) -> Result<HashMap<Mac, u64>, StoreError> {
        let ids = ids.to_vec();
        self.read(move |connection| read::find_commands(connection, &ids)).await
    }

    async fn stream_lines(
        &self,
        stream: Stream,
        from_version: u64,
        max: usize,
    ) -> Result<Vec<String>, StoreError> {
        self.read(move |connection| read::stream_lines(connection, stream, from_version, max)).await
    }

    async fn stray(&self) -> Result<Option<Stray>, StoreError> {
        self.read(stray::stray).await
    }

    async fn clock(&self) -> Result<Timestamp, StoreError> {
        self.read(read::clock).await
    }

    async fn put_tiles(&self, tiles: &[Tile]) -> Result<(), StoreError> {
        let tiles = tiles.to_vec();
        self.write_tiles(move |connection| tiles::put(connection, &tiles)).await
    }

    async fn tiles(&self, ids: &[TileId]) -> Result<HashMap<TileId, StoredTile>, StoreError> {
        let ids = ids.to_vec();
        self.read(move |connection| tiles::read(connection, &ids)).await
    }

    async fn repair_tile(&self, good: &Tile, bad: &StoredTile) -> Result<(), StoreError> {
        let (good, bad) = (good.clone(), bad.clone());
        self.write_tiles(move |connection| tiles::repair(connection, &good, &bad)).await
    }
}
