//! Tiles: stored beside the blocks, never narrower than before, repaired where they are bad.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use audit_service::{
    appender::Head,
    proofs::Proofs,
    store::{LedgerStore, StoredTile, sqlite::SqliteLedger, tile_bytes},
    tiler::Tiler,
    tiles::{Tile, TileId},
};
use domain::{
    hash::Hash,
    merkle::{Frontier, check_inclusion},
    time::Timestamp,
};
use futures::future::join_all;
use mongodb::{
    Client, Collection,
    bson::{Binary, Bson, Document, doc, spec::BinarySubtype},
};
use rusqlite::{Connection, params};
use tests::mongod;
use tokio::sync::{mpsc, watch};

use super::{
    backend::{Backend, sqlite_file},
    fixture::{BlockBuilder, fill, plain},
};

fn tile(level: u8, index: u64, width: u64) -> Tile {
    let hashes = (0..width).map(|n| Hash::of_line(&format!("{level} {index} {n}"))).collect();
    Tile { id: TileId { level, index }, hashes }
}

fn stored(tiles: &[&Tile]) -> HashMap<TileId, StoredTile> {
    tiles.iter().map(|tile| (tile.id, StoredTile::Hashes(tile.hashes.clone()))).collect()
}

pub(super) async fn tiles_come_back_as_they_were(backend: &Backend) {
    let store = backend.open().await;
    let none = TileId { level: 0, index: 3 };
    assert_eq!(store.tiles(&[none]).await.unwrap(), HashMap::new());
    assert_eq!(store.tiles(&[]).await.unwrap(), HashMap::new());
    store.put_tiles(&[]).await.unwrap();
    let tiles = [
        tile(0, 0, 256),
        tile(0, 1, 256),
        tile(0, (1 << 45) - 1, 256),
        tile(1, 0, 2),
        tile(6, 0, 1),
    ];
    store.put_tiles(&tiles).await.unwrap();
    let ids: Vec<TileId> = tiles.iter().map(|tile| tile.id).chain([none]).collect();
    let expected = stored(&tiles.iter().collect::<Vec<_>>());
    assert_eq!(store.tiles(&ids).await.unwrap(), expected);
    drop(store);
    let store = backend.open().await;
    assert_eq!(store.tiles(&ids).await.unwrap(), expected);
    // Blocks and tiles know nothing of each other.
    assert_eq!(store.head().await.unwrap(), None);
    fill(&*store, 2).await;
    assert_eq!(store.tiles(&ids).await.unwrap(), expected);

    let many: Vec<Tile> = (0..300).map(|index| tile(0, index, 256)).collect();
    store.put_tiles(&many).await.unwrap();
    let ids: Vec<TileId> = (0..400).map(|index| TileId { level: 0, index }).collect();
    assert_eq!(store.tiles(&ids).await.unwrap(), stored(&many.iter().collect::<Vec<_>>()));
}

pub(super) async fn a_wider_tile_replaces_a_narrower_one_and_never_the_reverse(backend: &Backend) {
    let (one, other) = (backend.open().await, backend.open().await);
    let id = TileId { level: 1, index: 2 };
    let mut widest = 0;
    for width in [3, 1, 3, 7, 6, 256, 255] {
        one.put_tiles(&[tile(1, 2, width)]).await.unwrap();
        widest = width.max(widest);
        for store in [&one, &other] {
            assert_eq!(store.tiles(&[id]).await.unwrap(), stored(&[&tile(1, 2, widest)]));
        }
    }
    // Many at once, whatever their order.
    let writes = (1..=60).map(|width| {
        let store = Arc::clone(if width % 2 == 0 { &one } else { &other });
        tokio::spawn(async move {
            store.put_tiles(&[tile(1, 3, (width * 37) % 61), tile(2, 0, 1)]).await
        })
    });
    for written in join_all(writes).await {
        written.unwrap().unwrap();
    }
    let found = one.tiles(&[TileId { level: 1, index: 3 }, TileId { level: 2, index: 0 }]).await;
    assert_eq!(found.unwrap(), stored(&[&tile(1, 3, 60), &tile(2, 0, 1)]));
}

pub(super) async fn a_bad_tile_is_repaired_where_it_still_stands(backend: &Backend) {
    let store = backend.open().await;
    let (good, wider) = (tile(1, 0, 20), tile(1, 0, 30));
    let id = good.id;
    let bad = Tile { id, hashes: vec![Hash::ZERO; 25] };
    store.put_tiles(std::slice::from_ref(&bad)).await.unwrap();
    let seen = StoredTile::Hashes(bad.hashes.clone());
    store.repair_tile(&good, &seen).await.unwrap();
    assert_eq!(store.tiles(&[id]).await.unwrap(), stored(&[&good]));
    // Another process was faster, and has a wider one since.
    store.put_tiles(std::slice::from_ref(&wider)).await.unwrap();
    store.repair_tile(&good, &seen).await.unwrap();
    assert_eq!(store.tiles(&[id]).await.unwrap(), stored(&[&wider]));
    for rubbish in [vec![], vec![1], vec![2; 33], vec![3; 257 * 32]] {
        lay(backend, id, Some(rubbish)).await;
        let found = store.tiles(&[id]).await.unwrap();
        assert_eq!(found, HashMap::from([(id, StoredTile::Malformed)]));
        store.put_tiles(std::slice::from_ref(&good)).await.unwrap();
        store.repair_tile(&good, &StoredTile::Malformed).await.unwrap();
        let found = store.tiles(&[id]).await.unwrap();
        assert_eq!(found, stored(&[&good]));
    }
}

/// Puts octets in the place of a tile, or nothing, as an administrator could.
async fn lay(backend: &Backend, id: TileId, octets: Option<Vec<u8>>) {
    match backend {
        Backend::Memory(ledger) => ledger.change_tiles(|tiles| {
            tiles.remove(&id);
            tiles.extend(octets.map(|octets| (id, StoredTile::from_bytes(&octets))));
        }),
        Backend::Sqlite(folder) => {
            let connection = Connection::open(sqlite_file(folder)).unwrap();
            connection.busy_timeout(Duration::from_secs(5)).unwrap();
            let (level, number) = (id.level, i64::try_from(id.index).unwrap());
            let place = params![level, number];
            connection
                .execute("DELETE FROM tiles WHERE level = ?1 AND number = ?2", place)
                .unwrap();
            if let Some(octets) = octets {
                let insert = "INSERT INTO tiles (level, number, hashes) VALUES (?1, ?2, ?3)";
                connection.execute(insert, params![level, number, octets]).unwrap();
            }
        }
        Backend::Mongo(database) => {
            let tiles = documents(database).await;
            let key = format!("{}/{}", id.level, id.index);
            tiles.delete_one(doc! { "_id": &key }).await.unwrap();
            if let Some(bytes) = octets {
                let width = i64::try_from(bytes.len() / 32).unwrap();
                let hashes = Binary { subtype: BinarySubtype::Generic, bytes };
                let tile = doc! { "_id": key, "width": width, "hashes": hashes };
                tiles.insert_one(tile).await.unwrap();
            }
        }
    }
}

async fn documents(database: &str) -> Collection<Document> {
    let client = Client::with_uri_str(mongod::uri().await).await.unwrap();
    client.database(database).collection("tiles")
}

/// A ledger of 1,500 records whose tiles are stored, and its proofs.
async fn tiled(store: &Arc<dyn LedgerStore>) -> (Frontier, Proofs) {
    let mut tree = Frontier::default();
    while tree.size() < 1_500 {
        let mut block = BlockBuilder::new(tree.size());
        for _ in 0..250 {
            let line = tree.size().to_string();
            tree.push(Hash::of_line(&line));
            block = block.with(plain(&line));
        }
        store.append(&block.build()).await.unwrap();
    }
    let head = Head { size: 1_500, root: tree.root(), at: Timestamp::EPOCH, wakes: 0 };
    let (size, head) = watch::channel(head);
    let tiled = Arc::new(AtomicU64::new(0));
    let (rebuild, asked) = mpsc::channel(1);
    let task = Tiler { store: store.clone(), head, tiled: tiled.clone(), rebuild: asked, again: 0 };
    let task = tokio::spawn(task.run());
    let storing = async {
        while tiled.load(Ordering::Relaxed) < 1_280 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), storing).await.expect("the tiles are stored");
    drop(size);
    task.await.unwrap();
    let trees = watch::channel(tree.clone()).1;
    (tree, Proofs::new(store.clone(), trees, tiled, rebuild))
}

pub(super) async fn tiles_that_were_tampered_with_are_repaired_and_never_served(backend: &Backend) {
    let store = backend.open().await;
    let (tree, proofs) = tiled(&store).await;
    let ids: Vec<TileId> = (0..5)
        .map(|index| TileId { level: 0, index })
        .chain([TileId { level: 1, index: 0 }])
        .collect();
    let whole = store.tiles(&ids).await.unwrap();
    assert_eq!(whole.len(), 6);
    for id in &ids {
        let StoredTile::Hashes(hashes) = &whole[id] else { panic!("a tile") };
        let mut changed = hashes.clone();
        changed[hashes.len() / 2] = Hash::ZERO;
        let mut harms = vec![None, Some(Vec::new()), Some(vec![7; 100])];
        let others =
            [&changed, &hashes[..1].to_vec(), &[hashes.as_slice(), &[Hash::ZERO]].concat()];
        harms.extend(others.map(|hashes| Some(tile_bytes(hashes))));
        for harm in harms {
            lay(backend, *id, harm.clone()).await;
            let (seq, size) = (id.index * 256 + 100, 1_400);
            let proven = proofs.inclusion(seq, size).await.unwrap();
            let leaf = Hash::of_line(&seq.to_string());
            check_inclusion(leaf, seq, size, proven.head.root, &proven.hashes).unwrap();
            let on = proofs.consistency(size, 1_500).await.unwrap();
            assert_eq!((on.from.root, on.to.root), (proven.head.root, tree.root()));
            assert_eq!(proofs.tile(*id, hashes.len()).await.unwrap(), *hashes);
            // A wide one whose beginning is right does no harm, and may be another process's.
            let harmless = harm == Some(tile_bytes(&[hashes.as_slice(), &[Hash::ZERO]].concat()))
                && hashes.len() < 256;
            if !harmless {
                assert_eq!(store.tiles(&ids).await.unwrap(), whole, "{id:?}");
            }
            lay(backend, *id, Some(tile_bytes(hashes))).await;
        }
    }
}

#[tokio::test]
async fn mongo_reports_and_repairs_documents_that_are_no_tiles() {
    let database = mongod::database("tile_documents");
    let backend = Backend::Mongo(database.clone());
    let store = backend.open().await;
    let good = tile(1, 0, 5);
    let documents = documents(&database).await;
    store.put_tiles(std::slice::from_ref(&good)).await.unwrap();
    for spoil in [
        doc! { "$unset": { "hashes": "" } },
        doc! { "$unset": { "width": "" } },
        doc! { "$set": { "width": 4_i64 } },
        doc! { "$set": { "width": -1_i64 } },
        doc! { "$set": { "width": "5" } },
        doc! { "$set": { "hashes": "text" } },
        doc! { "$set": { "hashes": Bson::Null } },
        doc! { "$set": { "more": 1 } },
    ] {
        documents.update_one(doc! { "_id": "1/0" }, spoil.clone()).await.unwrap();
        let found = store.tiles(&[good.id]).await.unwrap();
        assert_eq!(found, HashMap::from([(good.id, StoredTile::Malformed)]), "{spoil}");
        store.put_tiles(std::slice::from_ref(&good)).await.unwrap();
        store.repair_tile(&good, &StoredTile::Malformed).await.unwrap();
        assert_eq!(store.tiles(&[good.id]).await.unwrap(), stored(&[&good]), "{spoil}");
    }
    backend.clean_up().await;
}

#[tokio::test]
async fn a_sqlite_ledger_of_the_version_before_gets_its_tiles() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteLedger::open(sqlite_file(&folder)).unwrap();
    let blocks = fill(&store, 4).await;
    drop(store);
    let connection = Connection::open(sqlite_file(&folder)).unwrap();
    connection.execute_batch("DROP TABLE tiles; PRAGMA user_version = 1").unwrap();
    drop(connection);
    // Two processes may open it at once.
    let [one, other] = [(); 2].map(|()| SqliteLedger::open(sqlite_file(&folder)).unwrap());
    assert_eq!(one.blocks_from(0, 10).await.unwrap(), blocks);
    one.put_tiles(&[tile(1, 0, 2)]).await.unwrap();
    let found = other.tiles(&[TileId { level: 1, index: 0 }]).await.unwrap();
    assert_eq!(found, stored(&[&tile(1, 0, 2)]));
    drop((one, other));
    let connection = Connection::open(sqlite_file(&folder)).unwrap();
    let version = connection.pragma_query_value(None, "user_version", |row| row.get::<_, i32>(0));
    assert_eq!(version.unwrap(), 2);
}
