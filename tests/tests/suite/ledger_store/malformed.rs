//! What stands in a store but is no block is reported with its place.

use audit_service::store::{LedgerStore, StoreError, sqlite::SqliteLedger};
use mongodb::{
    Client, Collection,
    bson::{Bson, Document, doc},
};
use rusqlite::Connection;
use tests::mongod;

use super::{
    backend::{mongo, sqlite_file},
    fixture::fill,
};

/// Blocks of `fill` begin at 0, 1, 3, 6; the last of these is spoiled.
const SPOILED: u64 = 6;

/// Reading over the spoiled block reports it, and reading before it works.
async fn check(store: &dyn LedgerStore, how: &str) {
    for result in [
        store.head().await.map(|_| ()),
        store.block_at(SPOILED).await.map(|_| ()),
        store.blocks_from(SPOILED, 1).await.map(|_| ()),
        store.blocks_from(0, 100).await.map(|_| ()),
    ] {
        let first = match result {
            Err(StoreError::Malformed { first, .. }) => first,
            other => panic!("{how}: {other:?}"),
        };
        // The block, or the record in it that is missing.
        assert!((SPOILED..=SPOILED + 4).contains(&first), "{how}: {first}");
    }
    assert_eq!(store.blocks_from(0, 3).await.unwrap().len(), 3, "{how}");
}

#[tokio::test]
async fn mongo_reports_a_document_that_is_no_block() {
    let database = mongod::database("malformed");
    let store = mongo(&database).await;
    fill(&store, 4).await;
    let client = Client::with_uri_str(mongod::uri().await).await.unwrap();
    let documents: Collection<Document> = client.database(&database).collection("blocks");
    let place = doc! { "_id": Bson::Int64(6) };
    let whole = documents.find_one(place.clone()).await.unwrap().unwrap();
    let mut spoils: Vec<Document> = whole
        .keys()
        .filter(|name| *name != "_id")
        .flat_map(|name| {
            let missing = doc! { "$unset": { name: "" } };
            [missing, doc! { "$set": { name: "other" } }, doc! { "$set": { name: Bson::Null } }]
        })
        .collect();
    spoils.extend([
        doc! { "$set": { "more": 1 } },
        doc! { "$set": { "count": 3_i64 } },
        doc! { "$set": { "segment": 1_i64 } },
        doc! { "$set": { "lines": [] , "count": 0_i64 } },
        doc! { "$set": { "lines.0": 1 } },
        doc! { "$set": { "streams.0.s": "patient/1" } },
        doc! { "$set": { "streams.0.v": -1_i64 } },
        doc! { "$set": { "streams.0.n": 4_i64 } },
        doc! { "$set": { "commands.0.i": "text" } },
        doc! { "$set": { "commands.0.n": -1_i64 } },
    ]);
    for spoil in spoils {
        documents.update_one(place.clone(), spoil.clone()).await.unwrap();
        check(&store, &spoil.to_string()).await;
        documents.replace_one(place.clone(), &whole).await.unwrap();
    }
    store.block_at(SPOILED).await.unwrap();
    mongod::drop_databases(&database).await;
}

#[tokio::test]
async fn sqlite_reports_rows_that_are_no_block() {
    for spoil in [
        "UPDATE blocks SET count = 5 WHERE first = 6",
        "UPDATE blocks SET count = 0 WHERE first = 6",
        "UPDATE blocks SET root = x'00' WHERE first = 6",
        "UPDATE blocks SET seal = x'' WHERE first = 6",
        "UPDATE blocks SET frontier = x'00' WHERE first = 6",
        "DELETE FROM records WHERE seq = 8",
        "UPDATE records SET stream = 'patient/1' WHERE seq = 8",
        "UPDATE records SET version = -1 WHERE seq = 8",
        "UPDATE records SET command = x'00' WHERE seq = 8",
        "UPDATE records SET line = CAST(x'ff' AS TEXT) WHERE seq = 8",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteLedger::open(sqlite_file(&folder)).unwrap();
        fill(&store, 4).await;
        let connection = Connection::open(sqlite_file(&folder)).unwrap();
        assert_eq!(connection.execute(spoil, []).unwrap(), 1, "{spoil}");
        if spoil.contains("count = 0") {
            // Where the end of a block is not known, only asking for it by its place finds it.
            let found = store.block_at(SPOILED).await;
            assert!(
                matches!(found, Err(StoreError::Malformed { first: SPOILED, .. })),
                "{found:?}"
            );
        } else {
            check(&store, spoil).await;
        }
    }
}
