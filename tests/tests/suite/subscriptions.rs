//! An administrator's commands on a running system.

use std::time::{Duration, Instant};

use domain::record::{Record, RecordType};
use mongodb::{
    Client,
    bson::{Document, doc},
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

/// Waits until the store has counted so many requests of a day and of a month.
async fn counted(system: &System, requests: usize) {
    let client = Client::with_uri_str(mongod::uri().await).await.unwrap();
    let usage =
        client.database(&format!("{}_gateway", system.prefix())).collection::<Document>("usage");
    let enough = i64::try_from(requests).unwrap();
    let waiting = Instant::now();
    while usage.count_documents(doc! { "count": { "$gte": enough } }).await.unwrap() < 2 {
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
    let shown = |record: &&Record| {
        let change = record.subscription.as_ref().unwrap();
        json!([record.actor.id, record.actor.kind, change.change, change.name])
    };
    records.iter().map(shown).collect()
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
    let line = "suspended  keys=2  scopes=patient:read  rate=1  burst=2";
    assert!(list.contains(line), "{list}");
    run(&["resume", "ward-7"]).await;
    until(&ward(&new), 200).await;
    run(&["remove", "ward-7"]).await;
    until(&ward(&new), 401).await;
    until(&system.clinic(), 200).await;

    let operator = |change: &str| json!(["operator", "service", change, "ward-7"]);
    let mut expected = vec![json!(["j.doe", "user", "added", "ward-7"])];
    let others = ["rotated", "rotated", "limited", "suspended", "resumed", "removed"];
    expected.extend(others.map(operator));
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
        run(&["limit", "ward-7", "--quota-day", &quota, "--network", "127.0.0.0/8"]).await;
        run(&["resume", "ward-7"]).await;
        let list = run(&["list"]).await;
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
    counted(&system, QUOTA).await;
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
    let done: Vec<&str> = changes.iter().filter_map(|change| change[2].as_str()).collect();
    assert_eq!(done[..2], ["added", "suspended"]);
    assert_eq!(done[2..2 + AT_ONCE], ["added"; AT_ONCE]);
    assert_eq!(done[2 + AT_ONCE..], ["limited", "resumed"]);
    system.finish().await;
}
