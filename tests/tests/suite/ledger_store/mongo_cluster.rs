//! The MongoDB ledger on three nodes, one of which goes away.

use std::{collections::HashMap, time::Duration};

use audit_service::{
    block::Block,
    store::{
        AppendError, LedgerStore,
        mongo::{MongoLedger, MongoOptions, OpenError},
    },
};
use mongodb::{Client, bson::doc};
use tests::mongod::Cluster;

use super::fixture::{BlockBuilder, event, patient};

fn block(number: u64) -> Block {
    BlockBuilder::new(number).with(event(1, number + 1, number)).build()
}

async fn open(cluster: &Cluster) -> Result<MongoLedger, OpenError> {
    MongoLedger::connect(&cluster.uri(), "ledger", MongoOptions::default()).await
}

/// Sends the same block until its place is taken, as the appender does. What an unknown outcome
/// was is for the block found there to say.
async fn append(store: &MongoLedger, block: &Block) {
    for _ in 0..40 {
        match store.append(block).await {
            Ok(()) => return,
            Err(AppendError::Occupied { .. }) => {
                if let Ok(Some(found)) = store.block_at(block.first).await {
                    assert_eq!(found, *block);
                    return;
                }
            }
            Err(AppendError::Ambiguous(_) | AppendError::Refused(_)) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    panic!("block {} was not stored in 40 attempts", block.first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_primaries_freeze_and_die() {
    let mut cluster = Cluster::start(3).await.unwrap();
    let store = open(&cluster).await.unwrap();
    let mut number = 0;
    for round in 0..2 {
        for _ in 0..20 {
            append(&store, &block(number)).await;
            number += 1;
        }
        let primary = cluster.primary().await.unwrap();
        if round == 0 {
            cluster.pause(primary).unwrap();
        } else {
            cluster.kill(primary).unwrap();
        }
        append(&store, &block(number)).await;
        number += 1;
        // What was stored and seen before is covered by every later answer, on the new primary.
        let versions = store.stream_versions(&[patient(1)]).await.unwrap();
        assert_eq!(versions, HashMap::from([(patient(1), number)]));
        assert_eq!(store.head().await.unwrap(), Some(block(number - 1)));
        if round == 0 {
            cluster.resume(primary).unwrap();
        } else {
            cluster.restart(primary).await.unwrap();
        }
        cluster.primary().await.unwrap();
    }
    let expected: Vec<Block> = (0..number).map(block).collect();
    assert_eq!(store.blocks_from(0, 1_000).await.unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_acknowledged_and_every_call_ends() {
    let cluster = Cluster::start(3).await.unwrap();
    let store = open(&cluster).await.unwrap();
    append(&store, &block(0)).await;
    let primary = cluster.primary().await.unwrap();
    let others: Vec<usize> = (0..3).filter(|node| *node != primary).collect();
    for node in &others {
        cluster.pause(*node).unwrap();
    }
    let outcome = store.append(&block(1)).await;
    assert!(matches!(outcome, Err(AppendError::Ambiguous(_))), "{outcome:?}");
    // Whether a read is answered or not, it does not show the block that has no majority.
    if let Ok(head) = store.head().await {
        assert_eq!(head, Some(block(0)));
    }
    for node in &others {
        cluster.resume(*node).unwrap();
    }
    append(&store, &block(1)).await;
    assert_eq!(store.head().await.unwrap(), Some(block(1)));
}

#[tokio::test]
async fn a_set_whose_majority_is_not_journaled_is_refused() {
    let cluster = Cluster::start(1).await.unwrap();
    let admin = Client::with_uri_str(cluster.uri()).await.unwrap().database("admin");
    let reply = admin.run_command(doc! { "replSetGetConfig": 1 }).await.unwrap();
    let mut configuration = reply.get_document("config").unwrap().clone();
    configuration.insert("writeConcernMajorityJournalDefault", false);
    configuration.insert("version", configuration.get_i32("version").unwrap() + 1);
    admin.run_command(doc! { "replSetReconfig": configuration }).await.unwrap();
    let error = open(&cluster).await.unwrap_err();
    assert!(matches!(error, OpenError::MajorityNotJournaled), "{error:?}");
}

#[tokio::test]
async fn an_insert_counts_as_not_stored_only_where_that_is_certain() {
    enum Expected {
        Refused,
        AmbiguousAndAbsent,
        AmbiguousButStored,
    }
    use Expected::{AmbiguousAndAbsent, AmbiguousButStored, Refused};

    let cluster = Cluster::start(1).await.unwrap();
    // The driver avoids a server that says it goes down until it has asked it again.
    let uri = format!("{}&heartbeatFrequencyMS=500", cluster.uri());
    let store = MongoLedger::connect(&uri, "ledger", MongoOptions::default()).await.unwrap();
    let client = Client::with_uri_str(cluster.uri()).await.unwrap();
    let write_concern = doc! { "code": 64, "errmsg": "waiting for replication timed out" };
    let cases = [
        (doc! { "errorCode": 13 }, Refused),
        (doc! { "errorCode": 50 }, AmbiguousAndAbsent),
        (doc! { "errorCode": 16500 }, AmbiguousAndAbsent),
        (doc! { "errorCode": 91 }, AmbiguousAndAbsent),
        (doc! { "errorCode": 10107 }, AmbiguousAndAbsent),
        (doc! { "errorCode": 11602 }, AmbiguousAndAbsent),
        (doc! { "closeConnection": true }, AmbiguousAndAbsent),
        (doc! { "writeConcernError": write_concern }, AmbiguousButStored),
    ];
    for (number, (mut data, expected)) in (0..).zip(cases) {
        data.insert("failCommands", ["insert"].as_slice());
        let fail =
            doc! { "configureFailPoint": "failCommand", "mode": { "times": 1 }, "data": &data };
        client.database("admin").run_command(fail).await.unwrap();
        let block = block(number);
        let outcome = store.append(&block).await;
        let found = store.block_at(number).await.unwrap();
        match expected {
            Refused => {
                assert!(matches!(outcome, Err(AppendError::Refused(_))), "{data} {outcome:?}");
            }
            AmbiguousAndAbsent | AmbiguousButStored => {
                assert!(matches!(outcome, Err(AppendError::Ambiguous(_))), "{data} {outcome:?}");
            }
        }
        assert_eq!(found.is_some(), matches!(expected, AmbiguousButStored), "{data}");
        append(&store, &block).await;
    }
    let validator = doc! { "collMod": "blocks", "validator": { "segment": -1 } };
    client.database("ledger").run_command(validator).await.unwrap();
    let outcome = store.append(&block(8)).await;
    assert!(matches!(outcome, Err(AppendError::Refused(_))), "{outcome:?}");
}
