//! The task that stores tiles as the ledger grows, beside the appender and never in its way.
//!
//! Tiles are derived: losing one loses nothing, and nobody believes one ([`crate::tree`]). So
//! this task checks nothing, and when something fails it begins again where the stored tiles
//! end. Several processes may do the same work at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{mpsc, watch};

use crate::{
    appender::Head,
    leaves::{Leaves, LeavesError},
    store::{LedgerStore, StoreError, StoredTile},
    tiles::{Edge, LEVELS, Tile, TileId, WIDTH},
};

/// Between two looks at a growing ledger: one write a second costs the appender little.
const INTERVAL: Duration = Duration::from_secs(1);

/// Between two writes of a ledger whose tiles are far behind.
const BREATHER: Duration = Duration::from_millis(100);

/// After a failure.
const PAUSE: Duration = Duration::from_secs(5);

/// Tiles of leaves in one write at most: half a megabyte, or 16,384 records.
const TILES_PER_WRITE: u64 = 64;

/// Stores tiles until the appender is gone.
pub struct Tiler {
    /// Where blocks are read and tiles are stored.
    pub store: Arc<dyn LedgerStore>,
    /// The end of the verified ledger.
    pub head: watch::Receiver<Head>,
    /// How many records all tiles are stored of.
    pub tiled: Arc<AtomicU64>,
    /// Asks for all tiles to be made again.
    pub rebuild: mpsc::Receiver<()>,
    /// Tiles under the first so many records are made again, over whatever stands there.
    pub again: u64,
}

impl Tiler {
    /// Runs until the appender is gone.
    pub async fn run(mut self) {
        let mut edge = None;
        loop {
            let size = self.head.borrow_and_update().size;
            let pause = match self.store_next(&mut edge, size).await {
                Ok(true) => BREATHER,
                Ok(false) => INTERVAL,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "tiles could not be stored; they are made later"
                    );
                    edge = None;
                    PAUSE
                }
            };
            if !self.wait(&mut edge, pause).await {
                return;
            }
        }
    }

    /// Waits for the pause, and then for the ledger to grow; `false` when the appender is gone.
    async fn wait(&mut self, edge: &mut Option<Edge>, pause: Duration) -> bool {
        let mut stopping = self.head.clone();
        // Ends when the appender does, so that a stop does not wait for the pause.
        if let Ok(Err(_)) = tokio::time::timeout(pause, stopping.wait_for(|_| false)).await {
            return false;
        }
        if pause != INTERVAL {
            return true;
        }
        tokio::select! {
            changed = self.head.changed() => changed.is_ok(),
            Some(()) = self.rebuild.recv() => {
                self.again = self.tiled.swap(0, Ordering::Relaxed);
                *edge = Some(Edge::default());
                true
            }
        }
    }

    /// Stores some of the tiles that a ledger of this size completes; says whether there are more.
    async fn store_next(&self, edge: &mut Option<Edge>, size: u64) -> Result<bool, LeavesError> {
        let complete = size - size % WIDTH as u64;
        if complete == 0 {
            return Ok(false);
        }
        let edge = match edge {
            Some(edge) => edge,
            None => edge.insert(stored_edge(&*self.store, size).await?),
        };
        let begin = edge.position();
        let end = complete.min(begin + TILES_PER_WRITE * WIDTH as u64);
        let mut leaves = Leaves::new(&*self.store);
        let mut next = begin;
        while next < end {
            // A tile's records at a time, so that nobody waits for the hashing of all.
            let until = end.min(next + WIDTH as u64);
            for leaf in leaves.hashes(next, until).await? {
                edge.push(leaf);
            }
            next = until;
        }
        let tiles = edge.take_changed();
        if begin < self.again {
            self.replace(&tiles).await?;
        }
        if !tiles.is_empty() {
            self.store.put_tiles(&tiles).await?;
        }
        self.tiled.store(end.max(begin), Ordering::Relaxed);
        Ok(end < complete)
    }

    /// Replaces what stands in the place of tiles and is not a part of them.
    async fn replace(&self, tiles: &[Tile]) -> Result<(), StoreError> {
        let ids: Vec<TileId> = tiles.iter().map(|tile| tile.id).collect();
        let mut found = self.store.tiles(&ids).await?;
        for tile in tiles {
            match found.remove(&tile.id) {
                Some(StoredTile::Hashes(hashes))
                    if hashes.starts_with(&tile.hashes) || tile.hashes.starts_with(&hashes) => {}
                Some(bad) => self.store.repair_tile(tile, &bad).await?,
                None => {}
            }
        }
        Ok(())
    }
}

/// Where the stored tiles end: from the top down, because a tile is stored after those below it.
async fn stored_edge(store: &dyn LedgerStore, size: u64) -> Result<Edge, StoreError> {
    let mut edge = Edge::default();
    for level in (1..LEVELS).rev() {
        loop {
            let id = TileId { level, index: edge.position() >> (8 * (level + 1)) };
            let width = id.width_in(size);
            if width == 0 {
                break;
            }
            let found = store.tiles(&[id]).await?.remove(&id);
            let Some(StoredTile::Hashes(mut hashes)) = found else { break };
            hashes.truncate(width);
            if edge.resume(level, &hashes).is_none() || hashes.len() < WIDTH {
                break;
            }
        }
    }
    Ok(edge)
}
