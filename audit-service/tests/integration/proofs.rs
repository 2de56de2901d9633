//! Proofs from tiles: right for every record and size, cheap, and right whatever becomes of the
//! tiles.

use std::collections::BTreeMap;

use audit_service::{
    block::Block,
    proofs::NoProof,
    store::{LedgerStore, StoredTile},
    tiles::{TileId, WIDTH},
    tree::TreeError,
};
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use domain::{
    hash::Hash,
    merkle::{check_consistency, check_inclusion},
};
use sha2_for_ct_merkle::Sha256;

use crate::{
    fixture::eventually,
    grown::{Grown, leaf, line},
};

type Oracle = MemoryBackedTree<Sha256, Vec<u8>>;

fn octets(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// Proves a record and the tree's beginning, and checks both.
async fn check(grown: &Grown, seq: u64, size: u64) {
    let proven = grown.proofs.inclusion(seq, size).await.unwrap();
    check_inclusion(leaf(seq), seq, size, proven.head.root, &proven.hashes).unwrap();
    let proven_on = grown.proofs.consistency(size, grown.size()).await.unwrap();
    assert_eq!((proven_on.from, proven_on.to.root), (proven.head, grown.tree.root()));
    let (from, to) = ((size, proven.head.root), (grown.size(), grown.tree.root()));
    check_consistency(from, to, &proven_on.hashes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_is_proven_in_every_tree_as_another_implementation_does_it() {
    const RECORDS: u64 = 290;
    let mut grown = Grown::of(RECORDS, &[1, 40, 7, 100]);
    grown.tile().await;
    let mut oracle = Oracle::new();
    let mut roots = Vec::new();
    for size in 1..=RECORDS {
        oracle.push(line(size - 1).into_bytes());
        for seq in (0..size).filter(|seq| size % 7 == 0 || (seq + size) % 13 == 0) {
            let proven = grown.proofs.inclusion(seq, size).await.unwrap();
            assert_eq!(proven.head.root.0[..], oracle.root().as_bytes()[..], "size {size}");
            let place = usize::try_from(seq).unwrap();
            let expected = oracle.prove_inclusion(place);
            assert_eq!(octets(&proven.hashes), expected.as_bytes(), "record {seq} of {size}");
        }
        roots.push(oracle.root());
        for (from, _) in (1..).zip(&roots).filter(|(from, _)| (from + size) % 17 == 0) {
            let proven = grown.proofs.consistency(from, size).await.unwrap();
            let expected = oracle.prove_consistency(usize::try_from(size - from).unwrap());
            assert_eq!(octets(&proven.hashes), expected.as_bytes(), "{from} to {size}");
        }
    }
    let empty = grown.proofs.consistency(0, RECORDS).await.unwrap();
    assert_eq!((empty.from.root, empty.hashes), (Hash::of_nothing(), vec![]));
}

#[track_caller]
fn none<T: std::fmt::Debug>(answer: &Result<T, NoProof>) {
    assert!(matches!(answer, Err(NoProof::Tree(TreeError::Range))), "{answer:?}");
}

#[tokio::test]
async fn what_the_tree_does_not_hold_is_not_proven() {
    let grown = Grown::of(300, &[100]);
    let proofs = &grown.proofs;
    none(&proofs.inclusion(5, 5).await);
    none(&proofs.inclusion(5, 301).await);
    none(&proofs.inclusion(0, u64::MAX).await);
    none(&proofs.consistency(5, 4).await);
    none(&proofs.consistency(5, 301).await);
    let id = |level, index| TileId { level, index };
    none(&proofs.tile(id(0, 1), 45).await);
    none(&proofs.tile(id(0, 2), 1).await);
    none(&proofs.tile(id(1, 0), 2).await);
    none(&proofs.tile(id(2, 0), 1).await);
    none(&proofs.tile(id(0, u64::MAX >> 8), 1).await);
    none(&proofs.entries(1, 45).await);
    none(&proofs.entries(u64::MAX >> 8, 1).await);
}

#[tokio::test]
async fn without_stored_tiles_proofs_are_made_from_blocks_and_nothing_is_written() {
    let grown = Grown::of(1_100, &[64, 300]);
    for size in [1, 255, 256, 257, 700, 1_099, 1_100] {
        for seq in [0, 100, 255, 256, 600, 1_099] {
            if seq < size {
                check(&grown, seq, size).await;
            }
        }
    }
    assert_eq!(grown.store.counts().2, 0);
    let lines = grown.proofs.entries(1, 100).await.unwrap();
    assert_eq!(lines, (256..356).map(line).collect::<Vec<_>>());
}

#[tokio::test]
async fn few_requests_hold_blocks_at_once() {
    let grown = Grown::of(1_024, &[64]);
    let entries = (0..40).map(|n| grown.proofs.entries(n % 4, 256));
    for lines in futures::future::join_all(entries).await {
        assert_eq!(lines.unwrap().len(), 256);
    }
    let most = grown.store.most_reading();
    assert!((2..=4).contains(&most), "{most}");
}

/// 66,000 records: more than one tile of the second level.
async fn large() -> Grown {
    let mut grown = Grown::of(66_000, &[1_000, 7, 600]);
    grown.tile().await;
    grown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_of_an_old_record_reads_a_tile_for_each_level() {
    let grown = large().await;
    for (seq, size) in [(0, 1), (5, 40_000), (33_333, 33_334), (65_000, 65_100), (0, 65_536)] {
        grown.store.counts();
        let proven = grown.proofs.inclusion(seq, size).await.unwrap();
        check_inclusion(leaf(seq), seq, size, proven.head.root, &proven.hashes).unwrap();
        let (tiles, blocks, writes) = grown.store.counts();
        // One tile of a level for the record and one for the tree's edge, at most.
        assert!(tiles <= 2 * 3, "{tiles} tiles for {seq} in {size}");
        assert_eq!((blocks, writes), (0, 0), "{seq} in {size}");
    }
    // In the newest tree the edge is known; of the leaves there is no tile, but a block or two.
    grown.proofs.inclusion(7, 66_000).await.unwrap();
    let (tiles, blocks, _) = grown.store.counts();
    assert!(tiles <= 3 && blocks <= 1, "{tiles} {blocks}");
    let end = grown.proofs.end_of_block(999).await.unwrap();
    assert_eq!((end, grown.store.counts()), (1_000, (0, 1, 0)));

    // The last records of a quiet ledger stand in a block each.
    let mut quiet = Grown::of(256 + 250, &[1]);
    quiet.tile().await;
    quiet.store.counts();
    check(&quiet, 300, 400).await;
    let (tiles, blocks, _) = quiet.store.counts();
    assert!(tiles <= 4 && blocks <= 2 * 4, "{tiles} {blocks}");
}

/// What somebody with their hands on the store may do to a tile.
type Harm = (&'static str, fn(&StoredTile) -> Option<StoredTile>);

const HARMS: [Harm; 6] = [
    ("deleted", |_| None),
    ("no tile", |_| Some(StoredTile::Malformed)),
    ("narrowed", |tile| Some(change(tile, |hashes| hashes.truncate(hashes.len().div_ceil(2))))),
    ("first hash", |tile| Some(change(tile, |hashes| hashes[0] = leaf(1_000_000)))),
    ("last hash", |tile| {
        Some(change(tile, |hashes| *hashes.last_mut().unwrap() = leaf(1_000_000)))
    }),
    ("another's", |tile| Some(change(tile, |hashes| hashes.reverse()))),
];

fn change(tile: &StoredTile, change: fn(&mut Vec<Hash>)) -> StoredTile {
    let StoredTile::Hashes(mut hashes) = tile.clone() else { panic!("a tile") };
    change(&mut hashes);
    StoredTile::Hashes(hashes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tile_that_was_tampered_with_is_noticed_repaired_and_never_served() {
    let grown = large().await;
    let whole = grown.tiles();
    let harmed = [(0, 0), (0, 130), (0, 256), (1, 0), (1, 1), (2, 0)];
    for (name, harm) in HARMS {
        for (level, index) in harmed {
            let id = TileId { level, index };
            let tile = &whole[&id];
            let StoredTile::Hashes(good) = tile else { panic!("a tile") };
            let Some(bad) = harm(tile) else {
                grown.store.inner.change_tiles(|tiles| drop(tiles.remove(&id)));
                served(&grown, id, good, name).await;
                continue;
            };
            if bad == *tile {
                continue;
            }
            grown.store.inner.change_tiles(|tiles| drop(tiles.insert(id, bad)));
            served(&grown, id, good, name).await;
        }
        assert_eq!(grown.tiles(), whole, "{name}: not repaired");
    }
    // One that is wider than it can be, with nothing but zeros at its end.
    let id = TileId { level: 1, index: 1 };
    let StoredTile::Hashes(good) = &whole[&id] else { panic!("a tile") };
    let wide = [good.as_slice(), &[Hash::ZERO; 9]].concat();
    grown.store.inner.change_tiles(|tiles| drop(tiles.insert(id, StoredTile::Hashes(wide))));
    served(&grown, id, good, "widened").await;
}

async fn served(grown: &Grown, id: TileId, good: &[Hash], name: &str) {
    let record = id.end(0);
    check(grown, record, record + 1).await;
    check(grown, record, grown.size()).await;
    let tile = grown.proofs.tile(id, good.len()).await.unwrap();
    assert_eq!(tile, good, "{name} {id:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tiles_that_agree_with_each_other_but_not_with_the_ledger_are_found() {
    let grown = large().await;
    let whole = grown.tiles();
    // A forged record, and every tile above it made to fit.
    let mut hashes: Vec<Hash> = (0..256).map(leaf).collect();
    hashes[17] = leaf(1_000_000);
    grown.store.inner.change_tiles(|tiles| {
        for level in 0..=2 {
            let root = audit_service::tiles::root_of(&hashes);
            tiles.insert(TileId { level, index: 0 }, StoredTile::Hashes(hashes));
            let above = TileId { level: level + 1, index: 0 };
            let StoredTile::Hashes(next) = tiles.get(&above).unwrap_or(&StoredTile::Malformed)
            else {
                return;
            };
            hashes = next.clone();
            hashes[0] = root;
        }
    });
    check(&grown, 17, 18).await;
    check(&grown, 17, 60_000).await;
    assert_eq!(grown.tiles(), whole);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_tiles_and_blocks_are_bad_nothing_is_proven() {
    let grown = large().await;
    let block = grown.store.inner.block_at(0).await.unwrap().unwrap();
    let mut forged = block.clone();
    forged.lines[17] = line(1_000_000);
    grown.store.inner.replace_block(forged);
    // The tiles alone still prove what was signed; the line itself is not served as an entry.
    check(&grown, 17, 18).await;
    let entries = grown.proofs.entries(0, 18).await;
    assert!(matches!(entries, Err(NoProof::Tree(TreeError::Forged(_)))), "{entries:?}");
    assert_eq!(grown.proofs.entries(0, 17).await.unwrap().len(), 17);

    grown.store.inner.change_tiles(|tiles| drop(tiles.remove(&TileId { level: 0, index: 0 })));
    for seq in [17, 18] {
        let answer = grown.proofs.inclusion(seq, 200).await;
        assert!(matches!(&answer, Err(NoProof::Tree(TreeError::Forged(_)))), "{answer:?}");
    }
    check(&grown, 256, 300).await;
    grown.store.inner.replace_block(block);
    check(&grown, 17, 200).await;

    grown.store.inner.change_tiles(BTreeMap::clear);
    grown.store.inner.replace_block(Block { lines: vec![line(0)], ..grown_block(&grown).await });
    let answer = grown.proofs.inclusion(17, 200).await;
    let missing = matches!(&answer, Err(NoProof::Tree(TreeError::Leaves(_))));
    assert!(missing, "{answer:?}");
}

async fn grown_block(grown: &Grown) -> Block {
    grown.store.inner.block_at(0).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tiles_that_are_all_bad_are_made_again_behind_the_scenes() {
    let mut grown = Grown::of(330_000, &[1_000]);
    let tiled = grown.start_tiler();
    grown.until(&tiled).await;
    let whole = grown.tiles();
    grown.store.inner.change_tiles(|tiles| {
        for tile in tiles.values_mut() {
            *tile = change(tile, |hashes| hashes.fill(Hash::ZERO));
        }
    });
    let answer = grown.proofs.inclusion(17, 200).await;
    assert!(matches!(&answer, Err(NoProof::Tree(TreeError::TooMuch(_)))), "{answer:?}");
    let first = TileId { level: 0, index: 0 };
    eventually(|| grown.stored(first).as_ref() == whole.get(&first)).await;
    grown.until(&tiled).await;
    assert_eq!(grown.tiles(), whole);
    check(&grown, 17, 200).await;
    check(&grown, 290_000, 299_999).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tiler_goes_on_where_the_tiles_end_and_several_do_no_harm() {
    let mut grown = Grown::of(200_000, &[1_000]);
    let (one, other) = (grown.start_tiler(), grown.start_tiler());
    grown.until(&one).await;
    grown.until(&other).await;
    let whole = grown.tiles();
    assert_eq!(whole.len(), 200_000 / 256 + 4 + 1);

    // Another process finds the end and stores nothing twice.
    grown.store.counts();
    let third = grown.start_tiler();
    grown.until(&third).await;
    let (tiles, blocks, writes) = grown.store.counts();
    assert!(tiles <= 8 && blocks == 0 && writes == 0, "{tiles} {blocks} {writes}");

    // One that ended between two writes left the tiles above behind.
    let half = |tile: &mut StoredTile| {
        let StoredTile::Hashes(hashes) = tile else { panic!("a tile") };
        hashes.truncate(2);
    };
    grown.store.inner.change_tiles(|tiles| {
        tiles.remove(&TileId { level: 1, index: 3 });
        tiles.get_mut(&TileId { level: 2, index: 0 }).map(half);
    });
    let fourth = grown.start_tiler();
    grown.until(&fourth).await;
    assert_eq!(grown.tiles(), whole);

    grown.grow(1_000);
    eventually(|| grown.tiles().len() > whole.len()).await;
    let narrow = TileId { level: 1, index: 3 };
    let width = 201_000 / 256 - 3 * WIDTH;
    let is_wide = |tile: &StoredTile| matches!(tile, StoredTile::Hashes(h) if h.len() == width);
    eventually(|| is_wide(&grown.tiles()[&narrow])).await;
    check(&grown, 200_500, 201_000).await;
}

#[tokio::test(start_paused = true)]
async fn a_tiler_waits_for_a_store_that_fails() {
    let mut grown = Grown::of(600, &[50]);
    grown.store.inner.fail_tiles(1);
    grown.tile().await;
    grown.store.inner.fail_tiles(1);
    assert!(grown.proofs.inclusion(3, 40).await.is_err());
    check(&grown, 3, 40).await;
}
