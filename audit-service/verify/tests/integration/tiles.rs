//! Paths of tiles: each tile has one, and each node is in the tile that the path names.

use audit_verify::tile::{NotATile, TILE_WIDTH, TileKind, TilePath};
use proptest::prelude::*;

fn hashes(level: u8, index: u64, width: u64) -> TilePath {
    TilePath { kind: TileKind::Hashes { level }, index, width }
}

fn entries(index: u64, width: u64) -> TilePath {
    TilePath { kind: TileKind::Entries, index, width }
}

#[test]
fn paths_are_those_of_the_specification() {
    for (path, tile) in [
        ("0/x001/x234/067", hashes(0, 1_234_067, 256)),
        ("0/000", hashes(0, 0, 256)),
        ("1/273.p/112", hashes(1, 273, 112)),
        ("2/000.p/1", hashes(2, 0, 1)),
        ("7/000.p/255", hashes(7, 0, 255)),
        ("entries/x001/x234/067.p/255", entries(1_234_067, 255)),
        ("entries/999", entries(999, 256)),
        ("entries/x001/000", entries(1_000, 256)),
        ("0/x072/x057/x594/x037/x927/934", hashes(0, 72_057_594_037_927_934, 256)),
    ] {
        assert_eq!(TilePath::parse(path), Ok(tile));
        assert_eq!(tile.to_string(), format!("tile/{path}"));
    }
}

#[test]
fn texts_that_are_not_the_path_of_a_tile_are_refused() {
    for path in [
        "",
        "/",
        "0",
        "0/",
        "/000",
        "0/0",
        "0/00",
        "0/0000",
        "0/x000",
        "0/x000/000",
        "0/001/000",
        "0/x001/x000",
        "0/xx01/000",
        "0/x001/000/",
        "0//x001/000",
        "0/x001//000",
        "0/+01",
        "0/-01",
        "0/0 1",
        "0/٠٠١",
        "0/1000",
        "0/000.p",
        "0/000.p/",
        "0/000.p/0",
        "0/000.p/01",
        "0/000.p/+1",
        "0/000.p/256",
        "0/000.p/65537",
        "0/000.p/1/2",
        "0/000.p/1.p/1",
        "0/x001.p/1/000",
        "00/000",
        "+0/000",
        "-1/000",
        "x/000",
        // Levels of trees that no number counts; the largest of these once made a library panic.
        "8/000",
        "63/000",
        "64/000",
        "255/000.p/0",
        "256/000",
        "data/000",
        "Entries/000",
        "entries",
        "entries/",
        "entries/data/000",
        "8/data/000",
        "tile/0/000",
        // More records than a number counts.
        "0/x072/x057/x594/x037/x927/936",
        "0/x018/x446/x744/x073/x709/x551/615",
        "0/x018/x446/x744/x073/x709/x551/616",
        "0/x999/x999/x999/x999/x999/x999/999",
        "7/000",
        "7/001.p/1",
        "6/x001/000",
        "../checkpoint",
        "0/../000",
        "0/000\n",
        "0/000%00",
    ] {
        assert_eq!(TilePath::parse(path), Err(NotATile), "{path}");
    }
    assert!(TilePath::parse(&format!("0/{}000", "x000/".repeat(10_000))).is_err());
}

#[test]
fn the_tree_of_seventy_thousand_has_the_tiles_of_the_specification() {
    let size = 70_000;
    let width = |level: u8, index: u64| {
        TilePath::holding(8 * level, index * TILE_WIDTH, size).map(|(tile, place)| {
            assert_eq!((tile.kind, tile.index, place), (TileKind::Hashes { level }, index, 0));
            tile.width
        })
    };
    for tile in 0..273 {
        assert_eq!(width(0, tile), Some(256));
    }
    assert_eq!(width(0, 273), Some(112));
    assert_eq!(width(0, 274), None);
    assert_eq!(width(1, 0), Some(256));
    assert_eq!(width(1, 1), Some(17));
    assert_eq!(width(1, 2), None);
    assert_eq!(width(2, 0), Some(1));
    assert_eq!(width(2, 1), None);
    for level in 3..8 {
        assert_eq!(width(level, 0), None, "level {level}");
    }
    for level in [64, 65, 255] {
        assert_eq!(TilePath::holding(level, 0, u64::MAX), None);
    }
    assert_eq!(TilePath::holding(7, u64::MAX, u64::MAX), None);
}

fn kind() -> impl Strategy<Value = TileKind> {
    prop_oneof![(0..8u8).prop_map(|level| TileKind::Hashes { level }), Just(TileKind::Entries)]
}

proptest! {
    #[test]
    fn paths_come_back(kind in kind(), index: u64, shift in 0..64u32, width in 1..=TILE_WIDTH) {
        let level = if let TileKind::Hashes { level } = kind { u32::from(level) } else { 0 };
        let index = index >> shift >> (8 * level) >> 9;
        let tile = TilePath { kind, index, width };
        let path = tile.to_string();
        let path = path.strip_prefix("tile/").unwrap();
        // A full tile of the highest level would be a tree of 2^64.
        let fits = level < 7 || width < 128;
        if fits {
            prop_assert_eq!(TilePath::parse(path), Ok(tile));
        }
    }

    #[test]
    fn a_path_that_is_read_is_the_one_of_its_tile(
        path in "(entries|[0-9]{1,3})/(x?[0-9]{3}/){0,7}[0-9x]{2,4}(\\.p/[0-9]{1,3})?",
    ) {
        if let Ok(tile) = TilePath::parse(&path) {
            prop_assert_eq!(tile.to_string(), format!("tile/{path}"));
        }
    }

    #[test]
    fn a_node_is_in_the_tile_that_is_named_if_the_tree_has_it(
        level in 0..64u8, index: u64, size: u64, shift in 0..64u32,
    ) {
        let index = index >> shift;
        let complete = (index.checked_add(1)).and_then(|next| next.checked_mul(1 << level));
        let within = complete.is_some_and(|end| end <= size);
        match TilePath::holding(level, index, size) {
            None => prop_assert!(!within),
            Some((tile, place)) => {
                prop_assert!(within);
                prop_assert!(place < tile.width && tile.width <= TILE_WIDTH);
                let TileKind::Hashes { level: tiles } = tile.kind else { panic!() };
                // The leaf where node and place in the tile begin is the same.
                let begin = (tile.index * TILE_WIDTH + place) << (8 * tiles);
                prop_assert_eq!(begin, index << level);
                let path = tile.to_string();
                prop_assert_eq!(TilePath::parse(path.strip_prefix("tile/").unwrap()), Ok(tile));
            }
        }
    }

    #[test]
    fn reading_a_path_never_panics(path in ".{0,60}") {
        let _ = TilePath::parse(&path);
    }
}
