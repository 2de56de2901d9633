//! Hashes of the ledger's tree, from stored tiles where they are right and from blocks where not.
//!
//! Whoever administers the store may change or delete tiles. So none is believed: a full tile
//! must have the root that stands in the tile above it, a partial one must be made of the full
//! subtrees of the verified head, which the appender holds in memory. Nothing else is trusted, so
//! whatever is read here leads to the head's root.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Range,
};

use domain::{
    hash::Hash,
    merkle::{Frontier, Node, Subtree},
};
use tokio::sync::Semaphore;

use crate::{
    leaves::{Leaves, LeavesError},
    store::{LedgerStore, StoreError, StoredTile},
    tiles::{Tile, TileId, WIDTH, is_edge_of, peak_at, root_of},
};

/// Records that one request reads at most to make up for tiles. Four times what is under a tile
/// of the second level, and a second of work or so.
const MAX_RECORDS: u64 = 4 * 65_536;

/// Why a hash of the tree could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The store did not answer, or the records are not there.
    #[error(transparent)]
    Leaves(#[from] LeavesError),
    /// The tree does not hold what was asked for.
    #[error("the ledger's tree does not reach that far")]
    Range,
    /// Tiles are bad and the blocks under them are too: the records are not those of the
    /// verified ledger.
    #[error("the stored records from {} to {} are not those of the ledger", .0.start, .0.end)]
    Forged(Range<u64>),
    /// So many tiles are missing that the work is not a single request's.
    #[error("the tiles of level {} are being rebuilt", .0.level)]
    TooMuch(TileId),
}

impl From<StoreError> for TreeError {
    fn from(error: StoreError) -> Self {
        Self::Leaves(error.into())
    }
}

/// Reads the tree of one verified head.
pub struct TreeReader<'a> {
    store: &'a dyn LedgerStore,
    tree: Frontier,
    /// Records whose tiles were all stored once.
    tiled: u64,
    leaves: Leaves<'a>,
    /// Tiles that lead to the head's root.
    tiles: HashMap<TileId, Vec<Hash>>,
}

/// What the roots of tiles are computed from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Tiles,
    Blocks,
}

impl<'a> TreeReader<'a> {
    /// Reads the tree of which this is the verified frontier. Tiles under the first `tiled`
    /// records should be there; where they are not, that is logged. Blocks are read with a permit
    /// of `readers`, which is kept then.
    pub fn new(
        store: &'a dyn LedgerStore,
        tree: Frontier,
        tiled: u64,
        readers: &'a Semaphore,
    ) -> Self {
        let leaves = Leaves::among(readers, store);
        Self { store, tree, tiled, leaves, tiles: HashMap::new() }
    }

    /// Records in the tree.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// The hash over leaves; its nodes must be loaded.
    pub fn hash(&self, subtree: Subtree) -> Result<Hash, TreeError> {
        subtree.hash(|node| self.node(node).ok_or(TreeError::Range))
    }

    /// The hash of a node that is loaded.
    pub fn node(&self, node: Node) -> Option<Hash> {
        if let Some(peak) = peak_at(&self.tree, node) {
            return Some(peak);
        }
        let (id, place, count) = TileId::holding(node, self.size())?;
        Some(root_of(self.tiles.get(&id)?.get(place..place + count)?))
    }

    /// A tile as wide as the tree has it; must be loaded.
    pub fn tile(&self, id: TileId) -> Option<&[Hash]> {
        self.tiles.get(&id).map(Vec::as_slice)
    }

    /// Lines of the records `begin .. end`, which are not checked.
    pub async fn lines(&mut self, begin: u64, end: u64) -> Result<Vec<String>, TreeError> {
        Ok(self.leaves.lines(begin, end).await?)
    }

    /// Loads what these nodes are computed from.
    pub async fn load(&mut self, nodes: impl IntoIterator<Item = Node>) -> Result<(), TreeError> {
        let mut ids = BTreeSet::new();
        for node in nodes {
            if peak_at(&self.tree, node).is_none() {
                ids.insert(TileId::holding(node, self.size()).ok_or(TreeError::Range)?.0);
            }
        }
        self.load_tiles(ids).await
    }

    /// Loads tiles, with those above them that they are checked by.
    pub async fn load_tiles(
        &mut self,
        ids: impl IntoIterator<Item = TileId>,
    ) -> Result<(), TreeError> {
        let mut wanted = BTreeSet::new();
        for mut id in ids {
            if id.width_in(self.size()) == 0 {
                return Err(TreeError::Range);
            }
            while !self.tiles.contains_key(&id) && wanted.insert(id) && self.is_full(id) {
                id = id.parent().0;
            }
        }
        // The last leaves have no stored tile yet.
        let is_stored = |id: &&TileId| id.level > 0 || self.is_full(**id);
        let stored: Vec<TileId> = wanted.iter().filter(is_stored).copied().collect();
        let mut found = match stored.as_slice() {
            [] => HashMap::new(),
            stored => self.store.tiles(stored).await?,
        };
        // Those above come first: they vouch for those below.
        for id in wanted.into_iter().rev() {
            let hashes = self.genuine(id, found.remove(&id)).await?;
            self.tiles.insert(id, hashes);
        }
        Ok(())
    }

    fn is_full(&self, id: TileId) -> bool {
        id.width_in(self.size()) == WIDTH
    }

    /// Whether these hashes are those of the tile, as wide as the tree has it.
    fn is_genuine(&self, id: TileId, hashes: &[Hash]) -> bool {
        if !self.is_full(id) {
            return is_edge_of(hashes, id, &self.tree);
        }
        let (above, place) = id.parent();
        let root = self.tiles.get(&above).and_then(|above| above.get(place));
        hashes.len() == WIDTH && root == Some(&root_of(hashes))
    }

    async fn genuine(
        &mut self,
        id: TileId,
        found: Option<StoredTile>,
    ) -> Result<Vec<Hash>, TreeError> {
        let width = id.width_in(self.size());
        let stored = match &found {
            Some(StoredTile::Hashes(hashes)) => hashes.as_slice(),
            Some(StoredTile::Malformed) | None => &[],
        };
        if let Some(hashes) = stored.get(..width)
            && self.is_genuine(id, hashes)
        {
            return Ok(hashes.to_vec());
        }
        let hashes = self.rebuild(id, width, stored).await?;
        if id.level > 0 || width == WIDTH {
            self.repair(Tile { id, hashes: hashes.clone() }, found).await;
        }
        Ok(hashes)
    }

    /// The tile's hashes from what is below it.
    async fn rebuild(
        &mut self,
        id: TileId,
        width: usize,
        stored: &[Hash],
    ) -> Result<Vec<Hash>, TreeError> {
        let begin = id.end(0);
        let forged = || TreeError::Forged(begin..id.end(width));
        if id.level == 0 {
            let hashes = self.leaves.hashes(begin, id.end(width)).await?;
            return if self.is_genuine(id, &hashes) { Ok(hashes) } else { Err(forged()) };
        }
        // Not worth the reading while most of the tiles are still to be made.
        if self.size() - self.tiled.min(self.size()) > MAX_RECORDS {
            return Err(TreeError::TooMuch(id));
        }
        // A tile that lags behind lacks the last hashes alone.
        let kept = if stored.len() < width { stored } else { &[] };
        let attempts = [(kept, Source::Tiles), (&[], Source::Tiles), (&[], Source::Blocks)];
        for (kept, source) in attempts.into_iter().skip(usize::from(kept.is_empty())) {
            let first = id.index * WIDTH as u64;
            let missing = first + kept.len() as u64..first + width as u64;
            let mut hashes = kept.to_vec();
            hashes.extend(self.roots(id.level - 1, missing, source).await?);
            if self.is_genuine(id, &hashes) {
                return Ok(hashes);
            }
        }
        Err(forged())
    }

    /// Roots of full tiles of a level, at most [`WIDTH`] of them.
    async fn roots(
        &mut self,
        level: u8,
        places: Range<u64>,
        source: Source,
    ) -> Result<Vec<Hash>, TreeError> {
        let ids: Vec<TileId> = places.map(|index| TileId { level, index }).collect();
        let found = match source {
            Source::Tiles => self.store.tiles(&ids).await?,
            Source::Blocks => HashMap::new(),
        };
        let mut roots = Vec::with_capacity(ids.len());
        for id in ids {
            let hashes = match found.get(&id) {
                Some(StoredTile::Hashes(hashes)) if hashes.len() == WIDTH => root_of(hashes),
                _ if self.leaves.read() > MAX_RECORDS => return Err(TreeError::TooMuch(id)),
                _ if level == 0 => root_of(&self.leaves.hashes(id.end(0), id.end(WIDTH)).await?),
                _ => {
                    let first = id.index * WIDTH as u64;
                    let below = first..first + WIDTH as u64;
                    root_of(&Box::pin(self.roots(level - 1, below, source)).await?)
                }
            };
            roots.push(hashes);
        }
        Ok(roots)
    }

    /// Stores what should have been there. That it fails is no reason to withhold a proof.
    async fn repair(&self, good: Tile, found: Option<StoredTile>) {
        let TileId { level, index } = good.id;
        let lags = match &found {
            Some(StoredTile::Hashes(hashes)) => good.hashes.starts_with(hashes),
            Some(StoredTile::Malformed) => false,
            None => true,
        };
        if lags && good.id.end(good.hashes.len()) > self.tiled {
            // It is not stored yet, and will be.
            return;
        }
        let repaired = match &found {
            Some(bad) if !lags => {
                tracing::error!(level, index, "a stored tile is not the ledger's; it is replaced");
                self.store.repair_tile(&good, bad).await
            }
            _ => {
                tracing::error!(level, index, "a stored tile is gone or cut; it is stored again");
                self.store.put_tiles(std::slice::from_ref(&good)).await
            }
        };
        if let Err(error) = repaired {
            tracing::warn!(
                level,
                index,
                error = &error as &dyn std::error::Error,
                "a tile could not be repaired"
            );
        }
    }
}
