//! An administrator's commands on a running system.

use std::time::{Duration, Instant};

use domain::record::{Record, RecordType};
use futures::TryStreamExt;
use mongodb::{
    Client, Collection,
    bson::{Bson, Document, doc},
};
use serde_json::{Value, json};
use tests::{
    http::Api,
    ledger::Ledger,
    mongod,
    programs::POLL_PAUSE,
    samples::a_place,
    system::{Layout, Store, System},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Answered to everybody whom the gateway knows.
const ECHO: &str = "/echo/resource";

/// Waits until a key gets this status; how many requests that took.
async fn until(api: &Api, status: u16) -> usize {
    let waiting = Instant::now();
    for requests in 1.. {
        let answer = api.get(ECHO).await;
        if answer.status == status {
            return requests;
        }
        assert!(waiting.elapsed() < PATIENCE, "{answer:?}");
        tokio::time::sleep(POLL_PAUSE).await;
    }
    unreachable!("the loop has no end");
}

/// What the store has counted.
async fn usage(system: &System) -> Collection<Document> {
    let client = Client::with_uri_str(mongod::uri().await).await.unwrap();
    client.database(&format!("{}_gateway", system.prefix())).collection("usage")
}

/// Waits until so many counts are at least that high.
async fn counted(usage: &Collection<Document>, counts: u64, requests: usize) {
    let enough = i64::try_from(requests).unwrap();
    let waiting = Instant::now();
    while usage.count_documents(doc! { "count": { "$gte": enough } }).await.unwrap() < counts {
        assert!(waiting.elapsed() < PATIENCE);
        tokio::time::sleep(POLL_PAUSE).await;
    }
}

/// What the ledger says was done to subscriptions.
async fn changes(system: &System) -> Vec<Value> {
    let ledger = Ledger::read(&system.compliance()).await;
    let of_type = |record: &&Record| record.record_type == RecordType::SubscriptionChanged;
    let records: Vec<&Record> = ledger.records.iter().filter(of_type).collect();
    for (record, version) in records.iter().zip(1..) {
        assert_eq!(record.version, Some(version), "record {}", record.seq);
        assert_eq!(record.source.to_string(), "operator");
    }
    for record in &records {
        // Whatever the command says who runs it.
        assert_eq!(json!(record.actor), json!({"id": "operator", "kind": "service"}));
    }
    records.iter().map(|record| json!(record.subscription)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_administrator_does_takes_effect_at_once_and_stands_in_the_ledger() {
    let _place = a_place().await;
    let system = System::standalone(Store::Sqlite).await;
    let run = async |command: &[&str]| system.subscriptions(None, command).await.unwrap();

    let primary = run(&["add", "ward-7", "--scope", "patient:read", "--as", "j.doe"]).await;
    let ward = |key: &str| system.api().with_key(key);
    until(&ward(&primary), 200).await;
    let secondary = run(&["rotate", "ward-7", "--key", "secondary"]).await;
    until(&ward(&secondary), 200).await;
    let new = run(&["rotate", "ward-7", "--key", "primary"]).await;
    until(&ward(&primary), 401).await;
    assert_eq!(ward(&secondary).get(ECHO).await.status, 200);
    run(&["limit", "ward-7", "--rate", "1", "--burst", "2"]).await;
    until(&ward(&new), 429).await;
    run(&["suspend", "ward-7"]).await;
    until(&ward(&new), 403).await;
    let list = run(&["list"]).await;
    // The data directory's own are older than the ledger.
    assert_eq!(list.matches("UNRECORDED").count(), 3, "{list}");
    let line = "suspended  keys=2  scopes=patient:read  rate=1  burst=2";
    assert!(list.contains(line), "{list}");
    run(&["resume", "ward-7"]).await;
    until(&ward(&new), 200).await;
    run(&["remove", "ward-7"]).await;
    until(&ward(&new), 401).await;
    until(&system.clinic(), 200).await;

    let scopes = json!(["patient:read"]);
    let mut expected = vec![
        json!({"change": "added", "claimedBy": "j.doe", "name": "ward-7", "terms": {"scopes": scopes}}),
        json!({"change": "rotated", "key": "secondary", "name": "ward-7"}),
        json!({"change": "rotated", "key": "primary", "name": "ward-7"}),
        json!({"change": "limited", "name": "ward-7", "terms": {"burst": 2, "rate": 1, "scopes": scopes}}),
    ];
    let others = ["suspended", "resumed", "removed"];
    expected.extend(others.map(|change| json!({"change": change, "name": "ward-7"})));
    assert_eq!(changes(&system).await, expected);
    Ledger::read(&system.compliance()).await.check_checkpoint(&system.compliance()).await;
    let keys = [&primary, &secondary, &new];
    let said = format!("{list} {:?}", system.logs());
    assert!(keys.iter().all(|key| key.len() == 32 && !said.contains(*key)));
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_share_subscriptions_and_quotas_on_a_mongodb() {
    const QUOTA: usize = 20;
    const AT_ONCE: usize = 5;
    let _place = a_place().await;
    let mut system = System::four_processes(Layout::shared().await).await;
    let uri = mongod::uri().await;
    let gateways = ["gateway-a", "gateway-b"];
    let apis = gateways.map(|name| system.another_gateway(name, uri).unwrap());
    // They start before there is any subscription.
    for name in gateways {
        system.start(name).await.unwrap();
    }
    let quota = QUOTA.to_string();
    let ward = {
        let run = async |command: &[&str]| system.subscriptions(Some(uri), command).await.unwrap();
        let ward = run(&["add", "ward-7", "--scope", "patient:read"]).await;
        for api in &apis {
            until(&api.with_key(&ward), 200).await;
        }
        run(&["suspend", "ward-7"]).await;
        for api in &apis {
            until(&api.with_key(&ward), 403).await;
        }
        // Each adds to what it has read, and is refused where another was faster.
        let names: Vec<String> = (0..AT_ONCE).map(|number| format!("at-once-{number}")).collect();
        let added = names.iter().map(|name| {
            let system = &system;
            async move { system.subscriptions(Some(uri), &["add", name]).await.unwrap() }
        });
        let keys = futures::future::join_all(added).await;
        for (key, api) in keys.iter().zip(apis.iter().cycle()) {
            until(&api.with_key(key), 200).await;
        }
        run(&["rotate", "ward-7", "--key", "secondary", "--unrecorded"]).await;
        let list = run(&["list"]).await;
        let marked = "suspended  keys=2  scopes=patient:read  UNRECORDED";
        assert!(list.contains(marked) && list.matches("UNRECORDED").count() == 1, "{list}");
        run(&["limit", "ward-7", "--quota-day", &quota, "--network", "127.0.0.0/8"]).await;
        run(&["resume", "ward-7"]).await;
        let list = run(&["list"]).await;
        assert!(!list.contains("UNRECORDED"), "{list}");
        assert_eq!(list.lines().count(), 1 + AT_ONCE, "{list}");
        assert!(list.contains("quota-day=20  networks=127.0.0.0/8"), "{list}");
        ward
    };
    let [one, two] = apis.map(|api| api.with_key(&ward));

    // The first waits for the change and uses the quota up; the second learns of it.
    until(&one, 200).await;
    for request in 1..QUOTA {
        assert_eq!(one.get(ECHO).await.status, 200, "{request}");
    }
    let message = one.get(ECHO).await.problem(403)["message"].to_string();
    assert!(message.contains("Out of call volume quota"), "{message}");
    counted(&usage(&system).await, 2, QUOTA).await;
    // It knows after its own next exchange, about a second after its first request.
    let mut admitted = 0;
    while two.get(ECHO).await.status == 200 {
        admitted += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(admitted < QUOTA / 2, "{admitted}");
    // A restart forgets nothing.
    system.program("gateway-a").kill().unwrap();
    system.start("gateway-a").await.unwrap();
    assert_eq!(one.get(ECHO).await.status, 403);

    let changes = changes(&system).await;
    let done: Vec<&str> = changes.iter().filter_map(|change| change["change"].as_str()).collect();
    assert_eq!(done[..2], ["added", "suspended"]);
    assert_eq!(done[2..2 + AT_ONCE], ["added"; AT_ONCE]);
    assert_eq!(done[2 + AT_ONCE..], ["limited", "resumed"]);
    let after_unrecorded = |change: &&Value| change["afterUnrecorded"] == true;
    let found: Vec<&Value> = changes.iter().filter(after_unrecorded).collect();
    assert_eq!(found, [&changes[2 + AT_ONCE]]);
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_one_count_cannot_be_stored_the_others_are_stored_once() {
    const MORE: usize = 7;
    let _place = a_place().await;
    let mut system = System::four_processes(Layout::shared().await).await;
    let uri = mongod::uri().await;
    let api = system.another_gateway("gateway-a", uri).unwrap();
    system.start("gateway-a").await.unwrap();
    let quotas = ["--quota-day", "1000000", "--quota-month", "1000000"];
    let add = [&["add", "ward-7", "--scope", "patient:read"][..], &quotas].concat();
    let ward = api.with_key(system.subscriptions(Some(uri), &add).await.unwrap());
    until(&ward, 200).await;
    let usage = usage(&system).await;
    counted(&usage, 2, 1).await;

    // Nothing can be added to a text: the month's count fails, the day's does not.
    let month = doc! { "_id": { "$regex": "^ward-7/[0-9]{4}-[0-9]{2}$" } };
    let set = async |count: Bson| {
        let update = doc! { "$set": { "count": count } };
        assert_eq!(usage.update_one(month.clone(), update).await.unwrap().matched_count, 1);
    };
    set("one".into()).await;
    for _ in 0..MORE {
        assert_eq!(ward.get(ECHO).await.status, 200);
    }
    counted(&usage, 1, 1 + MORE).await;
    set(1_i64.into()).await;
    counted(&usage, 2, 1 + MORE).await;
    // With the exchange of this one, the one before it is over.
    assert_eq!(ward.get(ECHO).await.status, 200);
    counted(&usage, 2, 2 + MORE).await;
    let exactly = doc! { "count": i64::try_from(2 + MORE).unwrap() };
    let counts: Vec<Document> = usage.find(doc! {}).await.unwrap().try_collect().await.unwrap();
    assert_eq!(usage.count_documents(exactly).await.unwrap(), 2, "{counts:?}");
    system.finish().await;
}
