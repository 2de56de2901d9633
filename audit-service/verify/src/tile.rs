//! Paths of tiles: C2SP tlog-tiles, height 8.

use std::fmt;

/// Hashes or entries of a full tile.
pub const TILE_WIDTH: u64 = 256;

/// Levels of tree nodes in one level of tiles.
pub const TILE_HEIGHT: u8 = 8;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TileKind {
    /// Hashes of nodes of the tree's level `8 * level`.
    Hashes {
        /// Level of tiles, 0 to 7: hashes of records are level 0.
        level: u8,
    },
    /// The records' lines, each with its length before it (two bytes, big-endian).
    Entries,
}

/// One tile: the hashes or entries from `index * 256` on, `width` of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TilePath {
    /// What it holds.
    pub kind: TileKind,
    /// Its place in its level.
    pub index: u64,
    /// How many hashes or entries, 1 to 256; less than 256 at the tree's right edge alone.
    pub width: u64,
}

/// Why a text is not the path of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the path of a tile (c2sp.org/tlog-tiles)")]
pub struct NotATile;

impl TilePath {
    /// The tile of tree nodes that holds the node at `index` of tree level `level`, as wide as it
    /// is in a tree of `size`; with the node's place in it if the tile holds it itself. `None` if
    /// the tree does not hold that tile.
    pub fn holding(level: u8, index: u64, size: u64) -> Option<(Self, u64)> {
        if level >= 64 {
            return None;
        }
        // The leftmost node of the tile's own level below this one.
        let below = level % TILE_HEIGHT;
        let first = index.checked_mul(1 << below)?;
        let tile_level = level / TILE_HEIGHT;
        let nodes = size >> (tile_level * TILE_HEIGHT);
        let tile = first / TILE_WIDTH;
        let width = nodes.checked_sub(tile * TILE_WIDTH)?.min(TILE_WIDTH);
        let place = first % TILE_WIDTH;
        let holds = place + (1 << below) <= width;
        let kind = TileKind::Hashes { level: tile_level };
        holds.then_some((Self { kind, index: tile, width }, place))
    }

    /// Reads what follows `tile/`: `0/x001/234`, `1/067.p/5`, `entries/000.p/17`. A tile has one
    /// path. One that no tree of less than 2^64 records has is refused.
    pub fn parse(path: &str) -> Result<Self, NotATile> {
        Self::read(path)
            .filter(|tile| tile.to_string().strip_prefix("tile/") == Some(path))
            .filter(|tile| tile.smallest_tree().is_some())
            .ok_or(NotATile)
    }

    /// Reads any spelling: whether it is the one of the tile is compared afterwards.
    fn read(path: &str) -> Option<Self> {
        let (kind, place) = path.split_once('/')?;
        let kind = match kind {
            "entries" => TileKind::Entries,
            level => TileKind::Hashes { level: level.parse().ok()? },
        };
        let (groups, width) = match place.split_once(".p/") {
            Some((groups, width)) => (groups, width.parse().ok()?),
            None => (place, TILE_WIDTH),
        };
        let mut index: u64 = 0;
        for group in groups.split('/') {
            let digits = group.strip_prefix('x').unwrap_or(group).parse::<u16>().ok()?;
            index = index.checked_mul(1_000)?.checked_add(digits.into())?;
        }
        Some(Self { kind, index, width })
    }

    /// Records of the smallest tree that has this tile in this width. `None` if there is none.
    fn smallest_tree(&self) -> Option<u64> {
        let level = match self.kind {
            TileKind::Hashes { level } => level,
            TileKind::Entries => 0,
        };
        if !(1..=TILE_WIDTH).contains(&self.width) || level >= 64 / TILE_HEIGHT {
            return None;
        }
        let nodes = self.index.checked_mul(TILE_WIDTH)?.checked_add(self.width)?;
        nodes.checked_mul(1 << (level * TILE_HEIGHT))
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes { level } => write!(f, "tile/{level}/")?,
            TileKind::Entries => f.write_str("tile/entries/")?,
        }
        // Groups of three digits, all but the last marked.
        let mut groups = vec![self.index % 1_000];
        let mut rest = self.index / 1_000;
        while rest > 0 {
            groups.push(rest % 1_000);
            rest /= 1_000;
        }
        for group in groups[1..].iter().rev() {
            write!(f, "x{group:03}/")?;
        }
        write!(f, "{:03}", groups[0])?;
        if self.width < TILE_WIDTH { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use tlog_tiles::Tile;

    use super::*;

    #[test]
    fn what_is_not_the_path_of_a_tile_is_refused() {
        for path in [
            "",
            "0",
            "0/",
            "0/0",
            "0/00",
            "0/0000",
            "00/000",
            "+0/000",
            "8/000",
            "64/000",
            "256/000",
            "0/000.p/0",
            "0/000.p/256",
            "0/000.p/07",
            "0/000.p/",
            "0/000.p",
            "0/000.p/+7",
            "0/000/7",
            "0/x000/007",
            "0/001/234",
            "0/xx001/234",
            "0/x001/x234",
            "0/x018/x446/x744/x073/x709/x551/616",
            "0/-01",
            "data/000",
            "entries",
            "entries/",
            "entries/7",
            "/0/000",
            "0/000/",
            "0/000.p/1.p/1",
        ] {
            assert_eq!(TilePath::parse(path), Err(NotATile), "{path}");
        }
    }

    proptest! {
        #[test]
        fn paths_are_those_of_another_implementation(
            level in 0_u8..8,
            index in prop_oneof![0_u64..2_000_000, any::<u64>()],
            width in 1_u32..=256,
            entries in any::<bool>(),
        ) {
            let kind = if entries { TileKind::Entries } else { TileKind::Hashes { level } };
            let tile = TilePath { kind, index, width: width.into() };
            let path = tile.to_string();
            let theirs = Tile::new(8, if entries { 0 } else { level }, index, width, entries);
            let theirs = theirs.path().replace("tile/8/", "tile/").replace("/data/", "/entries/");
            prop_assert_eq!(&path, &theirs);
            // No tree of less than 2^64 records has the others.
            let parsed = tile.smallest_tree().map(|_| tile).ok_or(NotATile);
            prop_assert_eq!(TilePath::parse(path.strip_prefix("tile/").unwrap()), parsed);
        }

        #[test]
        fn no_text_makes_the_parser_panic(
            text in prop_oneof![".*", "[0-9x./pentris]{0,40}", "[0-9]{1,3}/(x[0-9]{3}/){0,8}[0-9]{3}(.p/[0-9]{1,3})?"],
        ) {
            if let Ok(tile) = TilePath::parse(&text) {
                prop_assert_eq!(tile.to_string(), format!("tile/{text}"));
            }
        }
    }
}
