//! Ledgers of made-up lines with their tiles, as large as wanted: proofs look at nothing else.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use audit_service::{
    appender::Head,
    block::Block,
    proofs::Proofs,
    store::{AppendError, LedgerStore, StoreError, StoredTile, memory::MemoryLedger},
    tiler::Tiler,
    tiles::{Tile, TileId},
};
use domain::{
    hash::Hash,
    ids::{Mac, Stream},
    merkle::Frontier,
    time::Timestamp,
};
use tokio::sync::{mpsc, watch};

use crate::fixture::{eventually, mac};

pub(crate) fn line(seq: u64) -> String {
    format!("{{\"seq\":{seq}}}")
}

pub(crate) fn leaf(seq: u64) -> Hash {
    Hash::of_line(&line(seq))
}

/// A ledger and what makes and checks its proofs.
pub(crate) struct Grown {
    pub(crate) store: Spy,
    pub(crate) tree: Frontier,
    pub(crate) proofs: Proofs,
    head: watch::Sender<Head>,
    trees: watch::Sender<Frontier>,
    tiled: Arc<AtomicU64>,
    asked: Option<mpsc::Receiver<()>>,
}

impl Grown {
    /// An empty ledger, none of whose tiles are stored until [`Grown::tile`].
    pub(crate) fn new() -> Self {
        let store = Spy::default();
        let head = Head { size: 0, root: Hash::ZERO, at: Timestamp::EPOCH, wakes: 0 };
        let (trees, tree) = watch::channel(Frontier::default());
        let (rebuild, asked) = mpsc::channel(1);
        let tiled = Arc::new(AtomicU64::new(0));
        let proofs = Proofs::new(Arc::new(store.clone()), tree, tiled.clone(), rebuild);
        let (head, asked) = (watch::Sender::new(head), Some(asked));
        Self { store, tree: Frontier::default(), proofs, head, trees, tiled, asked }
    }

    /// A ledger of so many records, in blocks of `lengths` again and again.
    pub(crate) fn of(records: u64, lengths: &[u64]) -> Self {
        let mut grown = Self::new();
        let mut lengths = lengths.iter().cycle();
        while grown.size() < records {
            let length = *lengths.next().unwrap();
            grown.grow(length.min(records - grown.size()));
        }
        grown
    }

    pub(crate) fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Adds a block of so many records.
    pub(crate) fn grow(&mut self, records: u64) {
        let first = self.size();
        let lines: Vec<String> = (first..first + records).map(line).collect();
        for line in &lines {
            self.tree.push(Hash::of_line(line));
        }
        let (streams, commands) = (Vec::new(), Vec::new());
        let (frontier, root) = (Vec::new(), Hash::ZERO);
        let block = Block { first, lines, streams, commands, frontier, root, seal: mac(0) };
        self.store.inner.replace_block(block);
        self.trees.send_replace(self.tree.clone());
        self.head.send_modify(|head| head.size = self.tree.size());
    }

    /// Starts another process's tiler, which knows nothing of this one's.
    pub(crate) fn start_tiler(&mut self) -> Arc<AtomicU64> {
        let (tiled, rebuild) = match self.asked.take() {
            Some(asked) => (self.tiled.clone(), asked),
            None => (Arc::default(), mpsc::channel(1).1),
        };
        let (store, head) = (Arc::new(self.store.clone()), self.head.subscribe());
        tokio::spawn(Tiler { store, head, tiled: tiled.clone(), rebuild, again: 0 }.run());
        tiled
    }

    /// Waits until all tiles are stored.
    pub(crate) async fn tile(&mut self) {
        let tiled = self.start_tiler();
        self.until(&tiled).await;
    }

    pub(crate) async fn until(&self, tiled: &AtomicU64) {
        let complete = self.size() / 256 * 256;
        eventually(|| tiled.load(Ordering::Relaxed) == complete).await;
    }

    pub(crate) fn stored(&self, id: TileId) -> Option<StoredTile> {
        let mut found = None;
        self.store.inner.change_tiles(|tiles| found = tiles.get(&id).cloned());
        found
    }

    pub(crate) fn tiles(&self) -> HashMap<TileId, StoredTile> {
        let mut tiles = HashMap::new();
        self.store.inner.change_tiles(|stored| tiles.extend(stored.clone()));
        tiles
    }
}

/// Counts what is asked of a store.
#[derive(Clone, Default)]
pub(crate) struct Spy {
    pub(crate) inner: MemoryLedger,
    tiles: Arc<AtomicUsize>,
    blocks: Arc<AtomicUsize>,
    writes: Arc<AtomicUsize>,
    reading: Arc<AtomicUsize>,
    most_reading: Arc<AtomicUsize>,
}

impl Spy {
    /// Reads of blocks that were under way at once, at most.
    pub(crate) fn most_reading(&self) -> usize {
        self.most_reading.load(Ordering::SeqCst)
    }

    /// Tiles that were asked for since the last call, reads of blocks, and writes of tiles.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let take = |count: &AtomicUsize| count.swap(0, Ordering::SeqCst);
        (take(&self.tiles), take(&self.blocks), take(&self.writes))
    }
}

#[async_trait]
impl LedgerStore for Spy {
    async fn head(&self) -> Result<Option<Block>, StoreError> {
        self.inner.head().await
    }

    async fn append(&self, block: &Block) -> Result<(), AppendError> {
        self.inner.append(block).await
    }

    async fn block_at(&self, first: u64) -> Result<Option<Block>, StoreError> {
        self.inner.block_at(first).await
    }

    async fn blocks_from(&self, seq: u64, max: usize) -> Result<Vec<Block>, StoreError> {
        self.blocks.fetch_add(1, Ordering::SeqCst);
        let reading = 1 + self.reading.fetch_add(1, Ordering::SeqCst);
        self.most_reading.fetch_max(reading, Ordering::SeqCst);
        // Others come here too, if nothing keeps them.
        tokio::task::yield_now().await;
        let blocks = self.inner.blocks_from(seq, max).await;
        self.reading.fetch_sub(1, Ordering::SeqCst);
        blocks
    }

    async fn stream_versions(
        &self,
        streams: &[Stream],
    ) -> Result<HashMap<Stream, u64>, StoreError> {
        self.inner.stream_versions(streams).await
    }

    async fn find_commands(&self, ids: &[Mac]) -> Result<HashMap<Mac, u64>, StoreError> {
        self.inner.find_commands(ids).await
    }

    async fn stream_lines(
        &self,
        stream: Stream,
        from_version: u64,
        max: usize,
    ) -> Result<Vec<String>, StoreError> {
        self.inner.stream_lines(stream, from_version, max).await
    }

    async fn stray(&self) -> Result<Option<audit_service::store::Stray>, StoreError> {
        self.inner.stray().await
    }

    async fn clock(&self) -> Result<Timestamp, StoreError> {
        self.inner.clock().await
    }

    async fn put_tiles(&self, tiles: &[Tile]) -> Result<(), StoreError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.inner.put_tiles(tiles).await
    }

    async fn tiles(&self, ids: &[TileId]) -> Result<HashMap<TileId, StoredTile>, StoreError> {
        self.tiles.fetch_add(ids.len(), Ordering::SeqCst);
        self.inner.tiles(ids).await
    }

    async fn repair_tile(&self, good: &Tile, bad: &StoredTile) -> Result<(), StoreError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.inner.repair_tile(good, bad).await
    }
}
