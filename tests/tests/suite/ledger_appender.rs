//! Processes of the audit service on one MongoDB: killed, frozen, cut off, and lied to.

use std::time::Duration;

use audit_client::AuditClient;
use domain::wire::{Proposal, Receipt};
use mongodb::{
    Client, Collection,
    bson::{Document, doc},
};
use tests::{mongod, samples::a_place};

use super::{
    held_insert::HoldingProxy,
    ledger_processes::{Deployment, Load, event},
};

/// Writers at once.
const WRITERS: usize = 24;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_of_which_one_is_killed_make_one_chain() {
    let _place = a_place().await;
    let uri = mongod::uri().await;
    let mut deployment = Deployment::start(uri, &[uri, uri]).await;
    let load = Load::new(&deployment);
    let writers = load.writers(WRITERS);
    load.go_on(300).await;
    for victim in [0, 1, 0] {
        deployment.replicas[victim].kill();
        load.go_on(100).await;
        deployment.replicas[victim].restart();
        deployment.replicas[victim].become_ready().await;
        load.go_on(100).await;
    }
    // A process that stands still for longer than callers wait, with records on their way.
    deployment.replicas[0].program.signal("STOP").unwrap();
    load.go_on(40).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    deployment.replicas[0].program.signal("CONT").unwrap();
    load.go_on(200).await;
    load.finish(writers).await;
    let verified = deployment.verify().await;
    verified.check(&load);
    for replica in &deployment.replicas {
        let lines = replica.client().records(0, 10_000, Duration::ZERO).await.unwrap();
        assert_eq!(lines[..], verified.lines[..lines.len()]);
        assert!(lines.len() >= 1_100);
    }
}

async fn append(client: &AuditClient, proposal: Proposal) -> Receipt {
    client.append(proposal).await.unwrap()
}

/// Two processes on a ledger of one record. The first of them reaches MongoDB through a
/// connection that can be cut.
async fn one_behind_a_proxy() -> (HoldingProxy, Deployment) {
    let uri = mongod::uri().await;
    let proxy = HoldingProxy::start(uri).await;
    let deployment = Deployment::start(uri, &[&proxy.uri(), uri]).await;
    append(&deployment.replicas[1].client(), event(0, 1, 1)).await;
    // An older head would put its block where one is already.
    let followed = deployment.replicas[0].client().records(0, 1, Duration::from_secs(20)).await;
    assert_eq!(followed.unwrap().len(), 1);
    (proxy, deployment)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_insert_that_lands_after_it_was_sent_again_is_no_second_copy() {
    let _place = a_place().await;
    let (proxy, deployment) = one_behind_a_proxy().await;
    let [behind, direct] = deployment.clients().try_into().unwrap_or_else(|_| panic!());
    proxy.hold_next_insert();
    let receipt = append(&behind, event(0, 2, 2)).await;
    assert_eq!((receipt.seq, proxy.held()), (1, 1));
    append(&direct, event(0, 3, 3)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(proxy.deliver().await.contains("E11000"));
    append(&behind, event(0, 4, 4)).await;
    let verified = deployment.verify().await;
    assert_eq!(verified.lines.len(), 4);
    assert_eq!(verified.places_of(2), [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_insert_that_lands_after_its_process_died_and_others_went_on_is_no_fork() {
    let _place = a_place().await;
    let (proxy, mut deployment) = one_behind_a_proxy().await;
    let [behind, direct] = deployment.clients().try_into().unwrap_or_else(|_| panic!());
    proxy.hold_every_insert();
    let lost = tokio::spawn(async move { behind.append(event(0, 2, 2)).await });
    proxy.wait_for_held(1).await;
    deployment.replicas[0].kill();
    assert!(lost.await.unwrap().is_err());
    // The same command elsewhere, and more after it.
    let retried = append(&direct, event(0, 2, 2)).await;
    assert_eq!((retried.seq, retried.replayed), (1, false));
    for version in 3..20 {
        append(&direct, event(0, version, version)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(proxy.deliver().await.contains("E11000"));
    append(&direct, event(0, 20, 20)).await;
    let verified = deployment.verify().await;
    assert_eq!(verified.lines.len(), 20);
    assert_eq!(verified.places_of(2), [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_insert_that_lands_after_its_process_died_is_folded_by_the_others() {
    let _place = a_place().await;
    let (proxy, mut deployment) = one_behind_a_proxy().await;
    let [behind, direct] = deployment.clients().try_into().unwrap_or_else(|_| panic!());
    proxy.hold_every_insert();
    let lost = tokio::spawn(async move { behind.append(event(0, 2, 2)).await });
    proxy.wait_for_held(1).await;
    deployment.replicas[0].kill();
    assert!(lost.await.unwrap().is_err());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let answer = proxy.deliver().await;
    assert!(!answer.contains("E11000"), "{answer}");
    // A head that does not know of it cannot store another block in its place.
    append(&direct, event(1, 1, 3)).await;
    let retried = append(&direct, event(0, 2, 2)).await;
    assert_eq!((retried.seq, retried.replayed), (1, true));
    deployment.verify().await;
}

/// A ledger of six blocks on MongoDB, whose processes have stopped.
async fn stopped_ledger() -> (Deployment, Collection<Document>) {
    let uri = mongod::uri().await;
    let mut deployment = Deployment::start(uri, &[uri]).await;
    let client = deployment.replicas[0].client();
    for version in 1..=6 {
        append(&client, event(0, version, version)).await;
    }
    deployment.replicas[0].program.signal("TERM").unwrap();
    deployment.replicas[0].program.wait(Duration::from_secs(20)).await.unwrap();
    let database = Client::with_uri_str(uri).await.unwrap();
    let database = database.database(&format!("{}_ledger", deployment.prefix));
    let blocks = database.collection("blocks");
    (deployment, blocks)
}

/// Changes a line as an administrator could.
async fn change_line(blocks: &Collection<Document>, seq: i64) {
    let mut block = blocks.find_one(doc! { "_id": seq }).await.unwrap().unwrap();
    let line = block.get_array("lines").unwrap()[0].as_str().unwrap().replace("TREAT", "HRESCH");
    block.insert("lines", vec![line]);
    let replaced = blocks.replace_one(doc! { "_id": seq }, block).await.unwrap();
    assert_eq!(replaced.modified_count, 1);
}

#[track_caller]
fn says(log: &str, words: &str) {
    assert!(log.contains(words), "{words:?} is not in {log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_line_is_refused_at_start() {
    let _place = a_place().await;
    let (mut deployment, blocks) = stopped_ledger().await;
    // Under the checkpoint's own block.
    change_line(&blocks, 5).await;
    deployment.replicas[0].restart();
    let log = deployment.replicas[0].refuses_to_start().await;
    says(&log, "the stored ledger does not verify at record 5");
    // Anywhere, for a process that remembers no checkpoint. The line after it shows it.
    change_line(&blocks, 2).await;
    let uri = mongod::uri().await;
    let newcomer = deployment.add(uri);
    let log = deployment.replicas[newcomer].refuses_to_start().await;
    says(&log, "the stored ledger does not verify at record 2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_was_cut_back_is_refused_at_start() {
    let _place = a_place().await;
    let (mut deployment, blocks) = stopped_ledger().await;
    blocks.delete_one(doc! { "_id": 5 }).await.unwrap();
    deployment.replicas[0].restart();
    let log = deployment.replicas[0].refuses_to_start().await;
    says(&log, "it has 5 records, and 6 were signed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_put_behind_the_head_stops_appending() {
    let _place = a_place().await;
    let not_a_block = doc! { "_id": 6_i64, "segment": 0_i64, "lines": ["{}"] };
    for (what, forged) in [("not a block", Some(not_a_block)), ("without our seal", None)] {
        let (mut deployment, blocks) = stopped_ledger().await;
        deployment.replicas[0].restart();
        let replica = &deployment.replicas[0];
        replica.become_ready().await;
        let forged = if let Some(forged) = forged {
            forged
        } else {
            let mut block = blocks.find_one(doc! { "_id": 5_i64 }).await.unwrap().unwrap();
            block.insert("_id", 6_i64);
            block
        };
        blocks.insert_one(forged).await.unwrap();
        replica.become_not_ready().await;
        assert!(replica.client().append(event(0, 7, 7)).await.is_err(), "{what}");
        assert_eq!(replica.size().await, 6, "{what}");
        assert_eq!(blocks.count_documents(doc! {}).await.unwrap(), 7, "{what}");
        let log = replica.program.log();
        let said = log.lines().find(|line| line.contains("nothing will be appended"));
        says(said.unwrap_or(&log), "\"seq\":6");
    }
}
