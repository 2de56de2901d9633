//! A ledger store in memory, with faults on demand: for tests alone.
//!
//! It promises what the port promises, except that nothing survives the process. A clone is
//! another store value on the same ledger, as a second process would have. Faults are queued;
//! each append, and each read, takes one.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::{
    ids::{Mac, Stream},
    time::Timestamp,
};
use tokio::sync::Notify;

use super::{AppendError, LedgerStore, StoreError, StoredTile};
use crate::{
    block::Block,
    tiles::{Tile, TileId},
};

/// What goes wrong with an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendFault {
    /// Stored, but the outcome is reported as unknown.
    FailAndPersist,
    /// Not stored, and the outcome is reported as unknown.
    FailAndDoNotPersist,
    /// Certainly not stored, and reported so.
    Refuse,
    /// No answer until [`MemoryLedger::release`]; then an append like any other. If the caller
    /// gives up before, nothing is stored.
    Hang,
    /// Reported as unknown; stored at [`MemoryLedger::land`], unless the place is taken by then.
    LandLate,
    /// Stored where no majority has it, and reported as unknown: in the way of other blocks,
    /// but not visible until [`MemoryLedger::reveal`], or lost with [`MemoryLedger::roll_back`].
    Hide,
}

/// An injected fault, as a source of errors.
#[derive(Debug, thiserror::Error)]
#[error("injected fault: {0}")]
pub struct Injected(pub &'static str);

/// A ledger in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryLedger {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    released: Notify,
}

#[derive(Debug, Default)]
struct State {
    visible: BTreeMap<u64, Block>,
    /// In the way, but not majority-committed.
    hidden: BTreeMap<u64, Block>,
    /// On their way.
    late: Vec<Block>,
    append_faults: VecDeque<AppendFault>,
    failing_reads: usize,
    tiles: BTreeMap<TileId, StoredTile>,
    failing_tiles: usize,
    clock: Option<Timestamp>,
    appends: usize,
}

impl MemoryLedger {
    /// An empty ledger without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Queues a fault for an append.
    pub fn fail_append(&self, fault: AppendFault) {
        self.state().append_faults.push_back(fault);
    }

    /// Makes this many reads fail from now on; clock reads too.
    pub fn fail_reads(&self, count: usize) {
        self.state().failing_reads = count;
    }

    /// Lets every append that hangs continue.
    pub fn release(&self) {
        self.shared.released.notify_waiters();
    }

    /// Lets late blocks arrive; each is ignored where the place is taken.
    pub fn land(&self) {
        let mut state = self.state();
        for block in std::mem::take(&mut state.late) {
            let _ = state.insert(&block);
        }
    }

    /// Makes hidden blocks visible, as when a majority has caught up.
    pub fn reveal(&self) {
        let mut state = self.state();
        let mut hidden = std::mem::take(&mut state.hidden);
        state.visible.append(&mut hidden);
    }

    /// Loses hidden blocks, as when another primary was elected.
    pub fn roll_back(&self) {
        self.state().hidden.clear();
    }

    /// What the store's clock shows from now on; `None` for the machine's.
    pub fn set_clock(&self, time: Option<Timestamp>) {
        self.state().clock = time;
    }

    /// Puts a block in place of any that is there, as an administrator could.
    pub fn replace_block(&self, block: Block) {
        self.state().visible.insert(block.first, block);
    }

    /// Cuts every block off that begins at `size` or after it, as an administrator could.
    pub fn truncate(&self, size: u64) {
        self.state().visible.split_off(&size);
    }

    /// Makes this many calls about tiles fail from now on.
    pub fn fail_tiles(&self, count: usize) {
        self.state().failing_tiles = count;
    }

    /// Changes the tiles at will, as an administrator could.
    pub fn change_tiles(&self, change: impl FnOnce(&mut BTreeMap<TileId, StoredTile>)) {
        change(&mut self.state().tiles);
    }

    /// How many appends were asked for, faults included.
    pub fn appends(&self) -> usize {
        self.state().appends
    }

    /// Every visible block, in order.
    pub fn blocks(&self) -> Vec<Block> {
        self.state().visible.values().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let mut state = self.state();
        if state.failing_reads > 0 {
            state.failing_reads -= 1;
            return Err(StoreError::Unavailable(Box::new(Injected("a read fails"))));
        }
        Ok(state)
    }

    fn with_tiles<T>(
        &self,
        work: impl FnOnce(&mut BTreeMap<TileId, StoredTile>) -> T,
    ) -> Result<T, StoreError> {
        let mut state = self.state();
        if state.failing_tiles > 0 {
            state.failing_tiles -= 1;
            return Err(StoreError::Unavailable(Box::new(Injected("tiles fail"))));
        }
        Ok(work(&mut state.tiles))
    }

    fn take_fault(&self) -> Option<AppendFault> {
        let mut state = self.state();
        state.appends += 1;
        state.append_faults.pop_front()
    }
}

impl State {
    fn insert(&mut self, block: &Block) -> Result<(), AppendError> {
        let first = block.first;
        if self.visible.contains_key(&first) || self.hidden.contains_key(&first) {
            return Err(AppendError::Occupied { first });
        }
        self.visible.insert(first, block.clone());
        Ok(())
    }

    /// The visible block that holds `seq`, or else the next one, and those after it.
    fn from(&self, seq: u64) -> impl Iterator<Item = &Block> {
        let around = self.visible.range(..=seq).next_back();
        let around = around.filter(|(_, block)| block.end() > seq).map(|(first, _)| *first);
        self.visible.range(around.unwrap_or(seq)..).map(|(_, block)| block)
    }
}

fn ambiguous(what: &'static str) -> AppendError {
    AppendError::Ambiguous(Box::new(Injected(what)))
}

#[async_trait]
impl LedgerStore for MemoryLedger {
    async fn head(&self) -> Result<Option<Block>, StoreError> {
        Ok(self.read()?.visible.values().next_back().cloned())
    }

    async fn append(&self, block: &Block) -> Result<(), AppendError> {
        let fault = self.take_fault();
        if fault == Some(AppendFault::Hang) {
            self.shared.released.notified().await;
        }
        let mut state = self.state();
        match fault {
            None | Some(AppendFault::Hang) => state.insert(block),
            Some(AppendFault::FailAndPersist) => {
                state.insert(block)?;
                Err(ambiguous("stored, but not said so"))
            }
            Some(AppendFault::FailAndDoNotPersist) => Err(ambiguous("not stored")),
            Some(AppendFault::Refuse) => {
                Err(AppendError::Refused(Box::new(Injected("refused to store"))))
            }
            Some(AppendFault::LandLate) => {
                state.late.push(block.clone());
                Err(ambiguous("on its way"))
            }
            Some(AppendFault::Hide) => {
                state.insert(block)?;
                if let Some(block) = state.visible.remove(&block.first) {
                    state.hidden.insert(block.first, block);
                }
                Err(ambiguous("without a majority"))
            }
        }
    }

    async fn block_at(&self, first: u64) -> Result<Option<Block>, StoreError> {
        Ok(self.read()?.visible.get(&first).cloned())
    }

    async fn blocks_from(&self, seq: u64, max: usize) -> Result<Vec<Block>, StoreError> {
        Ok(self.read()?.from(seq).take(max.max(1)).cloned().collect())
    }

    async fn stream_versions(
        &self,
        streams: &[Stream],
    ) -> Result<HashMap<Stream, u64>, StoreError> {
        let state = self.read()?;
        let mut versions = HashMap::new();
        for entry in state.visible.values().flat_map(|block| &block.streams) {
            if streams.contains(&entry.stream) {
                let version = versions.entry(entry.stream).or_default();
                *version = entry.version.max(*version);
            }
        }
        Ok(versions)
    }

    async fn find_commands(&self, ids: &[Mac]) -> Result<HashMap<Mac, u64>, StoreError> {
        let state = self.read()?;
        let mut found = HashMap::new();
        for block in state.visible.values() {
            for entry in block.commands.iter().filter(|entry| ids.contains(&entry.id)) {
                found.insert(entry.id, block.first + u64::from(entry.line));
            }
        }
        Ok(found)
    }

    async fn stream_lines(
        &self,
        stream: Stream,
        from_version: u64,
        max: usize,
    ) -> Result<Vec<String>, StoreError> {
        let state = self.read()?;
        let mut lines = Vec::new();
        for block in state.visible.values() {
            let wanted = |version| version >= from_version;
            for entry in block.streams.iter().filter(|entry| entry.stream == stream) {
                if wanted(entry.version) && lines.len() < max {
                    lines.extend(block.lines.get(entry.line as usize).cloned());
                }
            }
        }
        Ok(lines)
    }

    async fn stray(&self) -> Result<Option<super::Stray>, StoreError> {
        // Lookups are made from the blocks themselves.
        Ok(None)
    }

    async fn clock(&self) -> Result<Timestamp, StoreError> {
        let set = self.read()?.clock;
        // Here the store's own clock is the machine's.
        Ok(set.unwrap_or_else(|| DateTime::<Utc>::from(SystemTime::now()).into()))
    }

    async fn put_tiles(&self, tiles: &[Tile]) -> Result<(), StoreError> {
        self.with_tiles(|stored| {
            for Tile { id, hashes } in tiles {
                let wider = match stored.get(id) {
                    Some(StoredTile::Hashes(found)) => hashes.len() > found.len(),
                    Some(StoredTile::Malformed) => false,
                    None => true,
                };
                if wider {
                    stored.insert(*id, StoredTile::Hashes(hashes.clone()));
                }
            }
        })
    }

    async fn tiles(&self, ids: &[TileId]) -> Result<HashMap<TileId, StoredTile>, StoreError> {
        self.with_tiles(|stored| {
            ids.iter().filter_map(|id| Some((*id, stored.get(id)?.clone()))).collect()
        })
    }

    async fn repair_tile(&self, good: &Tile, bad: &StoredTile) -> Result<(), StoreError> {
        self.with_tiles(|stored| {
            if stored.get(&good.id) == Some(bad) {
                stored.insert(good.id, StoredTile::Hashes(good.hashes.clone()));
            }
        })
    }
}
