//! Records' hashes and lines from blocks, a few blocks at a time.

use domain::hash::Hash;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    block::Block,
    store::{LedgerStore, StoreError},
};

/// Blocks of the first page: 6 MB of lines at most.
const FIRST_BLOCKS: usize = 4;

/// A page with less than this is followed by one of more blocks: a quiet ledger has one record in
/// each. In bytes of lines.
const SMALL_PAGE: usize = 1_000_000;

/// Blocks of a page at most: as many as a tile has records. Of large ones a store returns fewer,
/// of 16 MB and one block together.
const MAX_BLOCKS: usize = 256;

/// Why records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LeavesError {
    /// The store did not answer, or with something that is no block.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The block that held a record is gone.
    #[error("the ledger store no longer holds record {seq}")]
    Missing {
        /// The record.
        seq: u64,
    },
}

/// Reads lines below the verified head; what they are is for the caller to check.
pub struct Leaves<'a> {
    store: &'a dyn LedgerStore,
    page: Vec<Block>,
    blocks: usize,
    read: u64,
    /// Who else reads at the same time, if that is bounded.
    readers: Option<&'a Semaphore>,
    /// Kept for as long as a page may be held.
    permit: Option<SemaphorePermit<'a>>,
}

impl<'a> Leaves<'a> {
    /// Of this store.
    pub fn new(store: &'a dyn LedgerStore) -> Self {
        let (readers, permit) = (None, None);
        Self { store, page: Vec::new(), blocks: FIRST_BLOCKS, read: 0, readers, permit }
    }

    /// Of this store, holding a page with a permit alone.
    pub fn among(readers: &'a Semaphore, store: &'a dyn LedgerStore) -> Self {
        Self { readers: Some(readers), ..Self::new(store) }
    }

    /// How many lines were looked at so far.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// The block that holds a record.
    async fn block(&mut self, seq: u64) -> Result<&Block, LeavesError> {
        if !self.page.iter().any(|block| block.line_at(seq).is_some()) {
            if let (Some(readers), None) = (self.readers, &self.permit) {
                // Never closed, so there is always a permit in the end.
                self.permit = readers.acquire().await.ok();
            }
            // Two pages at once would be twice the memory.
            self.page.clear();
            self.page = self.store.blocks_from(seq, self.blocks).await?;
            let bytes: usize = self.page.iter().flat_map(|b| &b.lines).map(String::len).sum();
            self.blocks =
                if bytes < SMALL_PAGE { (self.blocks * 4).min(MAX_BLOCKS) } else { FIRST_BLOCKS };
        }
        let found = self.page.iter().find(|block| block.line_at(seq).is_some());
        found.ok_or(LeavesError::Missing { seq })
    }

    /// Hashes of the records `begin .. end`.
    pub async fn hashes(&mut self, begin: u64, end: u64) -> Result<Vec<Hash>, LeavesError> {
        let mut hashes = Vec::new();
        self.each(begin, end, |line| hashes.push(Hash::of_line(line))).await?;
        Ok(hashes)
    }

    /// Lines of the records `begin .. end`.
    pub async fn lines(&mut self, begin: u64, end: u64) -> Result<Vec<String>, LeavesError> {
        let mut lines = Vec::new();
        self.each(begin, end, |line| lines.push(line.to_owned())).await?;
        Ok(lines)
    }

    async fn each(
        &mut self,
        begin: u64,
        end: u64,
        mut take: impl FnMut(&str),
    ) -> Result<(), LeavesError> {
        let mut seq = begin;
        while seq < end {
            let block = self.block(seq).await?;
            let before = seq;
            while seq < end
                && let Some(line) = block.line_at(seq)
            {
                take(line);
                seq += 1;
            }
            self.read += seq - before;
        }
        Ok(())
    }
}
