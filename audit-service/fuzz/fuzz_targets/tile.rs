//! The path of a tile: one spelling, and it names a tile that a tree can have.
#![no_main]

use audit_verify::tile::{TILE_WIDTH, TileKind, TilePath};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|path: &str| {
    let Ok(tile) = TilePath::parse(path) else { return };
    assert_eq!(tile.to_string(), format!("tile/{path}"));
    assert!((1..=TILE_WIDTH).contains(&tile.width));
    if let TileKind::Hashes { level } = tile.kind {
        // Its first node is found in it, in the smallest tree that has it in this width.
        let index = tile.index * TILE_WIDTH;
        let size = (index + tile.width) << (8 * level);
        assert_eq!(TilePath::holding(8 * level, index, size), Some((tile, 0)));
    }
});
