//! Tiles of the Merkle tree (C2SP tlog-tiles, height 8): which tile holds a node, which tiles a
//! growing tree completes, and whether a tile is one of a tree. Pure.

use audit_verify::tile::{TILE_HEIGHT, TILE_WIDTH, TileKind, TilePath};
use domain::{
    hash::Hash,
    merkle::{Frontier, Node, Subtree},
};

/// Hashes of a full tile.
pub const WIDTH: usize = 256;

/// Levels of tiles that a ledger can have: its size stays below 2^53.
pub const LEVELS: u8 = 7;

/// The place of a tile of hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// Level of tiles; its hashes are nodes of the tree's level `8 * level`. At most 6.
    pub level: u8,
    /// Place in the level, from the left.
    pub index: u64,
}

/// A tile of hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// Its place.
    pub id: TileId,
    /// 1 to [`WIDTH`] of them; fewer than that at the tree's right edge alone.
    pub hashes: Vec<Hash>,
}

impl TileId {
    /// The tile that holds a node of a tree of `size`, and the node's place: the first of the
    /// hashes that it is made of, and how many. `None` if the tree does not hold the node.
    pub fn holding(node: Node, size: u64) -> Option<(Self, usize, usize)> {
        let (path, place) = TilePath::holding(node.level, node.index, size)?;
        let TileKind::Hashes { level } = path.kind else { return None };
        let id = Self { level, index: path.index };
        Some((id, usize::try_from(place).ok()?, 1 << (node.level % TILE_HEIGHT)))
    }

    /// The tile above, and the place in it of this tile's root.
    pub fn parent(self) -> (Self, usize) {
        let place = usize::try_from(self.index % TILE_WIDTH).unwrap_or_default();
        (Self { level: self.level + 1, index: self.index / TILE_WIDTH }, place)
    }

    /// How many hashes the tile has in a tree of `size`; 0 if the tree does not reach it.
    pub fn width_in(self, size: u64) -> usize {
        let nodes = size >> (self.level * TILE_HEIGHT);
        let begin = self.index.saturating_mul(TILE_WIDTH);
        usize::try_from(nodes.saturating_sub(begin).min(TILE_WIDTH)).unwrap_or(WIDTH)
    }

    /// The record after the last one under the first `width` hashes.
    pub fn end(self, width: usize) -> u64 {
        (self.index * TILE_WIDTH + width as u64) << (self.level * TILE_HEIGHT)
    }
}

/// The root over hashes whose number is a power of two.
pub fn root_of(hashes: &[Hash]) -> Hash {
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        row = row.chunks_exact(2).map(|pair| Hash::of_node(pair[0], pair[1])).collect();
    }
    row.first().copied().unwrap_or_else(Hash::of_nothing)
}

/// The root of the full subtree of `1 << level` leaves at the right edge of a tree, if it has one
/// that is not part of a larger one.
pub fn peak(tree: &Frontier, level: u8) -> Option<Hash> {
    let bits = tree.size().checked_shr(level.into())?;
    if bits & 1 == 0 {
        return None;
    }
    tree.hashes().get((bits >> 1).count_ones() as usize).copied()
}

/// The hash of a node that is such a root.
pub fn peak_at(tree: &Frontier, node: Node) -> Option<Hash> {
    let bits = tree.size().checked_shr(node.level.into())?;
    if bits == node.index + 1 { peak(tree, node.level) } else { None }
}

/// Whether these are the hashes of a tile at the tree's right edge. A partial tile has no hash
/// above it: the full subtrees that it is made of are the tree's own.
pub fn is_edge_of(hashes: &[Hash], id: TileId, tree: &Frontier) -> bool {
    if hashes.is_empty() || hashes.len() != id.width_in(tree.size()) {
        return false;
    }
    let mut place = 0;
    Subtree { begin: 0, end: hashes.len() as u64 }.nodes().all(|node| {
        let begin = place;
        place += 1 << node.level;
        let found = root_of(&hashes[begin..place]);
        peak(tree, id.level * TILE_HEIGHT + node.level) == Some(found)
    })
}

/// The tiles at the right edge of a growing tree: takes leaves, gives the tiles that they change.
#[derive(Debug, Clone, Default)]
pub struct Edge {
    position: u64,
    /// The hashes of each level's last tile, fewer than [`WIDTH`].
    rows: Vec<Vec<Hash>>,
    full: Vec<Tile>,
}

impl Edge {
    /// Leaves taken.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Adds a leaf by its hash.
    pub fn push(&mut self, leaf: Hash) {
        self.carry(0, leaf);
    }

    /// Adds hashes of a level that were stored before, `1 << (8 * level)` leaves each. `None`,
    /// and nothing is added, unless the tree ends where they begin.
    pub fn resume(&mut self, level: u8, hashes: &[Hash]) -> Option<()> {
        let below = self.rows.iter().take(level.into()).any(|row| !row.is_empty());
        let room = WIDTH - self.rows.get(usize::from(level)).map_or(0, Vec::len);
        if below || hashes.len() > room {
            return None;
        }
        for hash in hashes {
            self.carry(level, *hash);
        }
        // Those of this level are stored; one above may not be.
        self.full.retain(|tile| tile.id.level > level);
        Some(())
    }

    fn carry(&mut self, level: u8, hash: Hash) {
        self.position += 1 << (level * TILE_HEIGHT);
        let (mut level, mut hash) = (level, hash);
        loop {
            if self.rows.len() <= usize::from(level) {
                self.rows.resize(usize::from(level) + 1, Vec::new());
            }
            let row = &mut self.rows[usize::from(level)];
            row.push(hash);
            if row.len() < WIDTH {
                return;
            }
            let hashes = std::mem::take(row);
            hash = root_of(&hashes);
            level += 1;
            let index = (self.position >> (level * TILE_HEIGHT)) - 1;
            self.full.push(Tile { id: TileId { level: level - 1, index }, hashes });
        }
    }

    /// The tiles that are to be stored since the last call, a tile never before those under it:
    /// the full ones, and the partial ones of the levels above the leaves.
    pub fn take_changed(&mut self) -> Vec<Tile> {
        if self.full.is_empty() {
            return Vec::new();
        }
        let mut tiles = std::mem::take(&mut self.full);
        for (level, row) in (0..).zip(&self.rows).skip(1).filter(|(_, row)| !row.is_empty()) {
            let index = self.position >> ((level + 1) * TILE_HEIGHT);
            tiles.push(Tile { id: TileId { level, index }, hashes: row.clone() });
        }
        tiles.sort_by_key(|tile| tile.id.level);
        tiles
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn leaf(seq: u64) -> Hash {
        Hash::of_line(&seq.to_string())
    }

    /// The tiles of a tree, by the definition of tlog-tiles.
    fn tiles_by_definition(size: u64) -> HashMap<TileId, Vec<Hash>> {
        let mut nodes: Vec<Hash> = (0..size).map(leaf).collect();
        let mut tiles = HashMap::new();
        for level in 0.. {
            for (index, hashes) in (0..).zip(nodes.chunks(WIDTH)) {
                tiles.insert(TileId { level, index }, hashes.to_vec());
            }
            nodes = nodes.chunks_exact(WIDTH).map(root_of).collect();
            if nodes.is_empty() {
                return tiles;
            }
        }
        tiles
    }

    fn frontier(size: u64) -> Frontier {
        let mut frontier = Frontier::default();
        (0..size).for_each(|seq| frontier.push(leaf(seq)));
        frontier
    }

    #[test]
    fn an_edge_gives_every_tile_but_partial_ones_of_leaves() {
        const SIZE: u64 = 256 * 256 * 2 + 700;
        let mut edge = Edge::default();
        let mut stored: HashMap<TileId, Vec<Hash>> = HashMap::new();
        let mut random = 7_u64;
        for seq in 0..SIZE {
            edge.push(leaf(seq));
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if random >> 60 == 0 {
                for tile in edge.take_changed() {
                    let before = stored.insert(tile.id, tile.hashes.clone());
                    assert!(before.is_none_or(|before| tile.hashes.starts_with(&before)));
                }
            }
        }
        for tile in edge.take_changed() {
            stored.insert(tile.id, tile.hashes);
        }
        let mut expected = tiles_by_definition(SIZE);
        expected.retain(|id, hashes| id.level > 0 || hashes.len() == WIDTH);
        assert_eq!(stored, expected);
        assert!(edge.take_changed().is_empty());
    }

    #[test]
    fn an_edge_goes_on_from_what_was_stored() {
        let size = 256 * 300;
        let all = tiles_by_definition(size);
        let mut edge = Edge::default();
        edge.resume(1, &all[&TileId { level: 1, index: 0 }]).unwrap();
        edge.resume(1, &all[&TileId { level: 1, index: 1 }][..30]).unwrap();
        assert_eq!(edge.position(), 256 * 286);
        assert!(edge.resume(1, &vec![Hash::ZERO; 227]).is_none());
        (edge.position()..size).for_each(|seq| edge.push(leaf(seq)));
        assert!(edge.resume(2, &[Hash::ZERO]).is_none(), "not where the tree ends");
        for tile in edge.take_changed() {
            assert_eq!(tile.hashes, all[&tile.id], "{:?}", tile.id);
        }
    }

    #[test]
    fn the_tiles_of_the_specifications_example() {
        let widths = |level, index| TileId { level, index }.width_in(70_000);
        assert_eq!((widths(0, 272), widths(0, 273), widths(0, 274)), (256, 112, 0));
        assert_eq!((widths(1, 0), widths(1, 1), widths(2, 0), widths(3, 0)), (256, 17, 1, 0));
        assert_eq!(TileId { level: 1, index: 1 }.end(17), 273 * 256);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn partial_tiles_lead_to_the_tree_and_changed_ones_do_not(
            size in 1_u64..70_000,
            at in any::<prop::sample::Index>(),
        ) {
            let tree = frontier(size);
            for (id, mut hashes) in tiles_by_definition(size) {
                prop_assert_eq!(id.width_in(size), hashes.len());
                if hashes.len() == WIDTH {
                    continue;
                }
                prop_assert!(is_edge_of(&hashes, id, &tree), "{:?}", id);
                prop_assert!(!is_edge_of(&hashes[1..], id, &tree));
                let at = at.index(hashes.len());
                hashes[at] = Hash::ZERO;
                prop_assert!(!is_edge_of(&hashes, id, &tree));
            }
        }

        #[test]
        fn a_node_is_made_of_the_hashes_of_its_tile(
            size in 1_u64..70_000,
            level in 0_u8..17,
            index in any::<prop::sample::Index>(),
        ) {
            let nodes = usize::try_from(size >> level).unwrap();
            let past = Node { level, index: nodes as u64 };
            prop_assert_eq!(TileId::holding(past, size), None);
            if nodes > 0 {
                let node = Node { level, index: index.index(nodes) as u64 };
                let (id, place, count) = TileId::holding(node, size).unwrap();
                let found = root_of(&tiles_by_definition(size)[&id][place..place + count]);
                let leaves = (node.index << level..(node.index + 1) << level).map(leaf);
                prop_assert_eq!(found, root_of(&leaves.collect::<Vec<_>>()));
                if let Some(peak) = peak_at(&frontier(size), node) {
                    prop_assert_eq!(peak, found);
                }
            }
        }
    }
}
