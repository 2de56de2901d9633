//! What is refused at opening, and what it says.

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc};

use audit_service::{
    block::Block,
    store::{
        AppendError, LedgerStore,
        mongo::{CosmosConsistency, MongoLedger, MongoOptions, OpenError as MongoError},
        sqlite::{OpenError as SqliteError, SqliteLedger},
    },
};
use mongodb::{
    Client, IndexModel,
    bson::{Document, doc},
    options::IndexOptions,
};
use rusqlite::Connection;
use tests::mongod;

use super::{
    backend::{mongo, sqlite_file},
    fixture::{BlockBuilder, event, plain},
};

#[tokio::test]
async fn a_new_sqlite_file_is_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteLedger::open(sqlite_file(&folder)).unwrap();
    store.append(&BlockBuilder::new(0).with(plain("a")).build()).await.unwrap();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.file_name());
    }
}

#[test]
fn sqlite_refuses_what_is_no_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let error = SqliteLedger::open(folder.path()).unwrap_err();
    assert!(matches!(error, SqliteError::NotAFile), "{error:?}");

    let missing = folder.path().join("no/ledger.db");
    assert!(matches!(SqliteLedger::open(missing).unwrap_err(), SqliteError::File(_)));

    let text = folder.path().join("text");
    fs::write(&text, "not a database, but long enough to look like one: ".repeat(100)).unwrap();
    assert!(matches!(SqliteLedger::open(&text).unwrap_err(), SqliteError::Database(_)));

    let other = folder.path().join("other.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE mine (x)").unwrap();
    let before = fs::read(&other).unwrap();
    let error = SqliteLedger::open(&other).unwrap_err();
    assert!(matches!(error, SqliteError::NotALedger), "{error:?}");
    assert_eq!(fs::read(&other).unwrap(), before, "a file that is not ours was changed");

    drop(SqliteLedger::open(sqlite_file(&folder)).unwrap());
    let ledger = Connection::open(sqlite_file(&folder)).unwrap();
    ledger.pragma_update(None, "user_version", 9).unwrap();
    let error = SqliteLedger::open(sqlite_file(&folder)).unwrap_err();
    assert!(matches!(error, SqliteError::Version { found: 9 }), "{error:?}");
}

#[tokio::test]
async fn sqlite_refuses_blocks_that_would_overlap_or_not_come_back_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteLedger::open(sqlite_file(&folder)).unwrap();
    let long = BlockBuilder::new(0).with(plain("a")).with(plain("b")).build();
    store.append(&long).await.unwrap();
    let inside = BlockBuilder::new(1).with(plain("c")).build();
    let error = store.append(&inside).await.unwrap_err();
    assert!(matches!(error, AppendError::Occupied { first: 1 }), "{error:?}");

    let spoil = |change: fn(&mut Block)| {
        let mut block = BlockBuilder::new(2).with(event(1, 1, 1)).with(event(2, 1, 2)).build();
        change(&mut block);
        block
    };
    for block in [
        spoil(|block| block.streams.reverse()),
        spoil(|block| block.commands[1].line = 0),
        spoil(|block| block.streams[1].line = 2),
        spoil(|block| block.streams[1].version = u64::MAX),
    ] {
        let error = store.append(&block).await.unwrap_err();
        assert!(matches!(error, AppendError::Refused(_)), "{error:?}");
    }
    assert_eq!(store.head().await.unwrap(), Some(long));
}

#[tokio::test]
async fn sqlite_waits_for_another_writer_and_then_says_that_nothing_was_stored() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteLedger::open(sqlite_file(&folder)).unwrap());
    let other = Connection::open(sqlite_file(&folder)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let block = BlockBuilder::new(0).with(plain("a")).build();
    let error = store.append(&block).await.unwrap_err();
    assert!(matches!(error, AppendError::Refused(_)), "{error:?}");
    // Readers are not kept waiting by a writer.
    assert_eq!(store.head().await.unwrap(), None);
    let waiting = {
        let (store, block) = (Arc::clone(&store), block.clone());
        tokio::spawn(async move { store.append(&block).await })
    };
    tokio::task::yield_now().await;
    other.execute_batch("ROLLBACK").unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(store.head().await.unwrap(), Some(block));
}

#[tokio::test]
async fn mongo_says_which_uri_is_wrong_and_which_server_is_away() {
    let options = MongoOptions::default();
    let error = MongoLedger::connect("http://x", "d", options).await.unwrap_err();
    assert!(matches!(error, MongoError::Uri(_)) && !error.is_transient(), "{error:?}");
    let away = "mongodb://127.0.0.1:1/?directConnection=true";
    let error = MongoLedger::connect(away, "d", options).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn mongo_makes_its_indexes_on_an_empty_collection_alone() {
    let database = mongod::database("indexes");
    let client = Client::with_uri_str(mongod::uri().await).await.unwrap();
    let blocks = client.database(&database).collection::<Document>("blocks");
    let store = mongo(&database).await;
    assert_eq!(blocks.list_index_names().await.unwrap().len(), 3);

    // With a block in it, the indexes are looked for and not made again.
    store.append(&BlockBuilder::new(0).with(event(1, 1, 1)).build()).await.unwrap();
    drop(mongo(&database).await);

    let unique = IndexOptions::builder().unique(true).build();
    let unique = IndexModel::builder().keys(doc! { "segment": 1 }).options(unique).build();
    blocks.create_index(unique).await.unwrap();
    let opened = MongoLedger::connect(mongod::uri().await, &database, MongoOptions::default());
    let error = opened.await.unwrap_err();
    assert!(matches!(&error, MongoError::UniqueIndex { index } if index == "segment_1"));
    blocks.drop_index("segment_1").await.unwrap();

    blocks.drop_index("commands.i_1").await.unwrap();
    let opening = {
        let database = database.clone();
        let uri = mongod::uri().await;
        tokio::spawn(
            async move { MongoLedger::connect(uri, &database, MongoOptions::default()).await },
        )
    };
    // Another process makes it; directions are doubles where a shell made it.
    let made = IndexModel::builder().keys(doc! { "commands.i": 1.0 }).build();
    blocks.create_index(made).await.unwrap();
    opening.await.unwrap().unwrap();
    mongod::drop_databases(&database).await;
}

#[tokio::test]
async fn mongo_takes_a_declared_consistency_without_needing_it() {
    let database = mongod::database("declared");
    let options = MongoOptions { cosmos_consistency: Some(CosmosConsistency::Strong) };
    MongoLedger::connect(mongod::uri().await, &database, options).await.unwrap();
    mongod::drop_databases(&database).await;
}
