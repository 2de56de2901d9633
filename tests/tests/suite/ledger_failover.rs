//! Processes of the audit service on a replica set whose members freeze, die and come back.

use std::time::{Duration, Instant};

use mongodb::{
    Client,
    bson::{Document, doc},
    options::ReadConcern,
};
use tests::{mongod::Cluster, samples::a_place};

use super::ledger_processes::{Deployment, Load, PATIENCE, event};

/// Writers at once.
const WRITERS: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_primaries_freeze_and_die_under_load() {
    let _place = a_place().await;
    let mut cluster = Cluster::start(3).await.unwrap();
    let uri = cluster.uri();
    let deployment = Deployment::start(&uri, &[&uri, &uri]).await;
    let load = Load::new(&deployment);
    let writers = load.writers(WRITERS);
    load.go_on(200).await;

    let frozen = cluster.primary().await.unwrap();
    cluster.pause(frozen).unwrap();
    load.go_on(100).await;
    cluster.resume(frozen).unwrap();
    load.go_on(100).await;

    let killed = cluster.primary().await.unwrap();
    cluster.kill(killed).unwrap();
    load.go_on(100).await;
    cluster.restart(killed).await.unwrap();
    load.go_on(100).await;

    load.finish(writers).await;
    let verified = deployment.verify().await;
    verified.check(&load);
    for replica in &deployment.replicas {
        let lines = replica.client().records(0, 10_000, Duration::ZERO).await.unwrap();
        assert_eq!(lines[..], verified.lines[..lines.len()]);
        assert!(lines.len() >= 600, "{}", lines.len());
    }
}

/// Blocks that one member has, whether or not a majority has them.
async fn blocks_of(cluster: &Cluster, member: usize, deployment: &Deployment) -> u64 {
    let client = Client::with_uri_str(cluster.member_uri(member)).await.unwrap();
    let blocks =
        client.database(&format!("{}_ledger", deployment.prefix)).collection::<Document>("blocks");
    blocks.count_documents(doc! {}).read_concern(ReadConcern::local()).await.unwrap()
}

/// One block reaches the primary alone; then the primary dies, and the others go on without it.
async fn check_lost_block(its_process_dies_too: bool) {
    let mut cluster = Cluster::start(3).await.unwrap();
    let uri = cluster.uri();
    let mut deployment = Deployment::start(&uri, &[&uri, &uri]).await;
    let load = Load::new(&deployment);
    let [one, other] = deployment.clients().try_into().unwrap_or_else(|_| panic!());
    for version in 1..=5 {
        load.acknowledge(version, one.append(event(0, version, version)).await.unwrap());
    }
    let primary = cluster.primary().await.unwrap();
    let others: Vec<usize> = (0..3).filter(|member| *member != primary).collect();
    for member in &others {
        cluster.pause(*member).unwrap();
    }
    let unknown = {
        let one = one.clone();
        tokio::spawn(async move { one.append(event(0, 6, 6)).await })
    };
    let deadline = Instant::now() + PATIENCE;
    while blocks_of(&cluster, primary, &deployment).await < 6 {
        assert!(Instant::now() < deadline, "the primary did not take it");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // It is there, and nobody has folded it.
    for replica in &deployment.replicas {
        assert!(replica.size().await <= 5, "folded before a majority had it");
    }
    if its_process_dies_too {
        deployment.replicas[0].kill();
    }
    cluster.kill(primary).unwrap();
    for member in &others {
        cluster.resume(*member).unwrap();
    }
    let _ = unknown.await.unwrap();
    // Another block in its place, or the same bytes sent again: the fence decides.
    let writers = load.writers(4);
    load.go_on(20).await;
    cluster.restart(primary).await.unwrap();
    if its_process_dies_too {
        deployment.replicas[0].restart();
        deployment.replicas[0].become_ready().await;
    }
    load.go_on(50).await;
    load.finish(writers).await;
    // The one whose outcome was unknown is asked for again, by whatever version is free.
    let mut version = 6;
    let receipt = loop {
        match other.append(event(0, version, 6)).await {
            Ok(receipt) => break receipt,
            Err(audit_client::AppendError::Conflict { actual, .. }) => version = actual + 1,
            Err(audit_client::AppendError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    };
    load.acknowledge(6, receipt);
    deployment.verify().await.check(&load);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_only_a_lost_primary_had_leaves_no_gap() {
    let _place = a_place().await;
    check_lost_block(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_was_lost_with_its_process_leaves_no_gap() {
    let _place = a_place().await;
    check_lost_block(true).await;
}
