//! Inclusion and consistency proofs and tiles of the running ledger.
//!
//! Everything is read from a tree whose hashes lead to the verified head ([`crate::tree`]), and
//! every proof is checked once more before it leaves.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use domain::{
    hash::Hash,
    merkle::{
        Frontier, Node, ProofError, Subtree, check_consistency, check_inclusion, consistency_path,
        inclusion_path,
    },
};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::{
    checkpoint::TreeHead,
    leaves::LeavesError,
    store::LedgerStore,
    tiles::{TileId, WIDTH},
    tree::{TreeError, TreeReader},
};

/// Requests that read the tree at once: each holds some tiles of 8 KB, and 2 MB of them while it
/// makes another out of them.
const AT_ONCE: usize = 16;

/// Of those, requests that read blocks at once. Each holds a page, which a store ends at 16 MB and
/// one block and holds twice while it reads it, and lines of one tile, at most 16 MB: 200 MB for
/// all of them. Answers on their way out are not counted.
const READ_BLOCKS_AT_ONCE: usize = 4;

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum NoProof {
    /// The tree could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A proof did not prove; it was withheld.
    #[error("a proof that was made does not prove")]
    Wrong(#[from] ProofError),
}

/// A record's place under a tree head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inclusion {
    /// The tree that it is proven to be in.
    pub head: TreeHead,
    /// The proof, from the leaf upwards.
    pub hashes: Vec<Hash>,
}

/// That one tree begins with another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consistency {
    /// The smaller tree.
    pub from: TreeHead,
    /// The larger one.
    pub to: TreeHead,
    /// The proof.
    pub hashes: Vec<Hash>,
}

/// Makes proofs; clones share everything.
#[derive(Clone)]
pub struct Proofs {
    store: Arc<dyn LedgerStore>,
    tree: watch::Receiver<Frontier>,
    tiled: Arc<AtomicU64>,
    rebuild: mpsc::Sender<()>,
    at_once: Arc<Semaphore>,
    block_readers: Arc<Semaphore>,
}

impl Proofs {
    /// Proofs of the tree that `tree` shows; it must be verified. `tiled` is how far the tiles
    /// are stored, `rebuild` asks for all of them to be made again.
    pub fn new(
        store: Arc<dyn LedgerStore>,
        tree: watch::Receiver<Frontier>,
        tiled: Arc<AtomicU64>,
        rebuild: mpsc::Sender<()>,
    ) -> Self {
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        let block_readers = Arc::new(Semaphore::new(READ_BLOCKS_AT_ONCE));
        Self { store, tree, tiled, rebuild, at_once, block_readers }
    }

    /// Records in the newest tree.
    pub fn size(&self) -> u64 {
        self.tree.borrow().size()
    }

    /// Where the block ends that holds a record: the size of the checkpoint that was signed right
    /// after the same commit. [`TreeError::Range`] if the ledger does not hold the record.
    pub async fn end_of_block(&self, seq: u64) -> Result<u64, NoProof> {
        let size = self.size();
        let blocks = self.store.blocks_from(seq, 1).await.map_err(TreeError::from)?;
        let block = blocks.first().filter(|block| block.line_at(seq).is_some());
        let end = block.ok_or(LeavesError::Missing { seq })?.end();
        // A verified block ends at or before the verified head.
        if end <= size { Ok(end) } else { Err(TreeError::Range.into()) }
    }

    /// That a record is in the tree of a size, which the newest tree has.
    pub async fn inclusion(&self, seq: u64, size: u64) -> Result<Inclusion, NoProof> {
        let path = inclusion_path(seq, size).ok_or(TreeError::Range)?;
        self.read(async |tree| {
            let leaf = Node { level: 0, index: seq };
            let whole = Subtree { begin: 0, end: size };
            let nodes = path.iter().chain([&whole]).flat_map(|part| part.nodes());
            tree.load(nodes.chain([leaf])).await?;
            let head = TreeHead { size, root: tree.hash(whole)? };
            let hashes = hashes(tree, &path)?;
            let leaf = tree.node(leaf).ok_or(TreeError::Range)?;
            check_inclusion(leaf, seq, size, head.root, &hashes)?;
            Ok(Inclusion { head, hashes })
        })
        .await
    }

    /// That the tree of one size begins with that of another; the newest tree has both.
    pub async fn consistency(&self, from: u64, to: u64) -> Result<Consistency, NoProof> {
        let path = consistency_path(from, to).ok_or(TreeError::Range)?;
        self.read(async |tree| {
            let whole = |end| Subtree { begin: 0, end };
            let roots = [whole(from), whole(to)];
            tree.load(path.iter().chain(&roots).flat_map(|part| part.nodes())).await?;
            let from = TreeHead { size: from, root: tree.hash(whole(from))? };
            let to = TreeHead { size: to, root: tree.hash(whole(to))? };
            let hashes = hashes(tree, &path)?;
            check_consistency((from.size, from.root), (to.size, to.root), &hashes)?;
            Ok(Consistency { from, to, hashes })
        })
        .await
    }

    /// The first `width` hashes of a tile, 1 to [`WIDTH`].
    pub async fn tile(&self, id: TileId, width: usize) -> Result<Vec<Hash>, NoProof> {
        self.read(async |tree| {
            if width == 0 || id.width_in(tree.size()) < width {
                return Err(TreeError::Range.into());
            }
            tree.load_tiles([id]).await?;
            let hashes = tree.tile(id).and_then(|hashes| hashes.get(..width));
            Ok(hashes.ok_or(TreeError::Range)?.to_vec())
        })
        .await
    }

    /// The lines of the first `width` records under a tile of leaves.
    pub async fn entries(&self, index: u64, width: usize) -> Result<Vec<String>, NoProof> {
        let id = TileId { level: 0, index };
        self.read(async |tree| {
            if width == 0 || id.width_in(tree.size()) < width {
                return Err(TreeError::Range.into());
            }
            tree.load_tiles([id]).await?;
            let records = id.end(0)..id.end(width);
            let lines = tree.lines(records.start, records.end).await?;
            let hashes = tree.tile(id).ok_or(TreeError::Range)?;
            if lines.iter().zip(hashes).all(|(line, hash)| Hash::of_line(line) == *hash) {
                Ok(lines)
            } else {
                Err(TreeError::Forged(records).into())
            }
        })
        .await
    }

    async fn read<T>(
        &self,
        work: impl AsyncFnOnce(&mut TreeReader<'_>) -> Result<T, NoProof>,
    ) -> Result<T, NoProof> {
        // Never closed, so there is always a permit in the end.
        let _permit = self.at_once.acquire().await.ok();
        let tiled = self.tiled.load(Ordering::Relaxed);
        let tree = self.tree.borrow().clone();
        let mut reader = TreeReader::new(&*self.store, tree, tiled, &self.block_readers);
        let answer = work(&mut reader).await;
        if let Err(NoProof::Tree(TreeError::TooMuch(id))) = &answer
            && id.end(WIDTH) <= tiled
        {
            tracing::error!(level = id.level, index = id.index, "the stored tiles are made again");
            // One request to do so is enough.
            let _ = self.rebuild.try_send(());
        }
        answer
    }
}

fn hashes(tree: &TreeReader<'_>, path: &[Subtree]) -> Result<Vec<Hash>, TreeError> {
    path.iter().map(|part| tree.hash(*part)).collect()
}

impl From<LeavesError> for NoProof {
    fn from(error: LeavesError) -> Self {
        Self::Tree(error.into())
    }
}
