//! What the ledger is told of changes, and what shows where it was not.

use std::num::NonZeroU64;

use gateway::subscriptions::{Scope, write_file};
use serde_json::{Value, json};

use super::{Ledger, run};
use crate::harness::{Door, entry, logs};

#[tokio::test]
async fn the_ledger_learns_what_changed_and_no_key_or_digest() {
    let ledger = Ledger::start().await;
    let path = ledger.folder.path().join("subscriptions.toml");
    let expires = "2027-01-31T00:00:00Z";
    let terms = ["--network", "2001:db8::/32", "--quota-day", "1000", "--expires", expires];
    let mut keys = Vec::new();
    for command in [
        &["add", "one", "--scope", "patient:write", "--scope", "patient:read"][..],
        &[&["limit", "one", "--rate", "5", "--burst", "9", "--as", "j.doe"][..], &terms].concat(),
        &["rotate", "one", "--key", "secondary"],
        &["limit", "one", "--scope", "patient:read", "--rate", "none", "--burst", "none"],
        &["suspend", "one"],
        &["resume", "one"],
        &["remove", "one"],
    ] {
        keys.push(ledger.run(&path, command).await.unwrap().output);
    }
    let scopes = json!(["patient:read", "patient:write"]);
    let network = "2001:db8::/32";
    let expires = "2027-01-31T00:00:00.000Z";
    let expected = json!([
        {"change": "added", "name": "one", "terms": {"scopes": scopes}},
        {"change": "limited", "claimedBy": "j.doe", "name": "one", "terms": {
            "burst": 9, "expires": expires, "networks": [network], "quotaDay": 1000, "rate": 5,
            "scopes": scopes,
        }},
        {"change": "rotated", "key": "secondary", "name": "one"},
        {"change": "limited", "name": "one", "terms": {
            "expires": expires, "networks": [network], "quotaDay": 1000,
            "scopes": ["patient:read"],
        }},
        {"change": "suspended", "name": "one"},
        {"change": "resumed", "name": "one"},
        {"change": "removed", "name": "one"},
    ]);
    assert_eq!(Value::from(ledger.said()), expected);
    // Who has the operator's key is all that is known of who acts.
    for record in ledger.records.lock().unwrap().iter() {
        assert_eq!(json!(record.actor), json!({"id": "operator", "kind": "service"}));
    }
    let said = expected.to_string();
    assert!(keys.iter().filter(|key| !key.is_empty()).all(|key| !said.contains(key)));
}

#[tokio::test]
async fn a_change_that_another_overtook_is_recorded_as_it_came_to_be() {
    let ledger = Ledger::start().await;
    let path = ledger.folder.path().join("subscriptions.toml");
    let mut one = entry("one", &[Scope::PatientRead], &["canary-one"]);
    write_file(&path, &[one.clone()]).unwrap();
    one.quota_day = NonZeroU64::new(7);
    let file = path.clone();
    let overtake = move || write_file(&file, &[one]).unwrap();
    *ledger.first.lock().unwrap() = Some(Box::new(overtake));
    ledger.run(&path, &["limit", "one", "--rate", "5"]).await.unwrap();
    let limited = |terms: Value| json!({"change": "limited", "name": "one", "terms": terms});
    let scopes = json!(["patient:read"]);
    let expected = json!([
        limited(json!({"rate": 5, "scopes": scopes})),
        limited(json!({"quotaDay": 7, "rate": 5, "scopes": scopes})),
    ]);
    assert_eq!(Value::from(ledger.said()), expected);
    let list = ledger.run(&path, &["list"]).await.unwrap().output;
    assert_eq!(list, "one  active     keys=1  scopes=patient:read  rate=5  quota-day=7");
}

#[tokio::test]
async fn an_unrecorded_change_shows_until_the_ledger_has_been_told_of_it() {
    let ledger = Ledger::start().await;
    let path = ledger.folder.path().join("subscriptions.toml");
    let unrecorded = async |command: &[&str]| {
        let command = [command, &["--unrecorded"]].concat();
        run(&path, ledger.folder.path(), &command).await.unwrap().note
    };
    let list = async || ledger.run(&path, &["list"]).await.unwrap().output;
    let note = unrecorded(&["add", "one", "--scope", "patient:read"]).await;
    assert!(note.starts_with("added one\nWARNING: THE LEDGER HAS NO RECORD"), "{note}");
    assert_eq!(list().await, "one  active     keys=1  scopes=patient:read  UNRECORDED");
    let terms = json!({"scopes": ["patient:read"], "suspended": true});

    // Whatever is done next tells the ledger, and how things stand with it.
    ledger.run(&path, &["suspend", "one"]).await.unwrap();
    assert_eq!(list().await, "one  suspended  keys=1  scopes=patient:read");
    // What changes nothing leaves no mark.
    let note = unrecorded(&["suspend", "one"]).await;
    assert_eq!(note, "nothing to do: one is so already");
    assert_eq!(list().await, "one  suspended  keys=1  scopes=patient:read");

    unrecorded(&["rotate", "one", "--key", "primary"]).await;
    unrecorded(&["suspend", "one"]).await;
    assert!(list().await.ends_with("UNRECORDED"));
    // Also one that changes nothing itself.
    ledger.run(&path, &["suspend", "one"]).await.unwrap();
    assert_eq!(list().await, "one  suspended  keys=1  scopes=patient:read");
    unrecorded(&["resume", "one"]).await;
    ledger.run(&path, &["remove", "one"]).await.unwrap();
    let told = json!([
        {"afterUnrecorded": true, "change": "suspended", "name": "one", "terms": terms},
        {"afterUnrecorded": true, "change": "suspended", "name": "one", "terms": terms},
        {"afterUnrecorded": true, "change": "removed", "name": "one"},
    ]);
    assert_eq!(Value::from(ledger.said()), told);
}

#[tokio::test]
async fn a_gateway_says_that_subscriptions_were_changed_without_a_record() {
    let (door, ledger) = (Door::open().await, Ledger::start().await);
    let path = door.subscriptions_path();
    let command = ["add", "unheard-of", "--unrecorded"];
    let key = run(&path, ledger.folder.path(), &command).await.unwrap().output;
    door.until(&key, 200).await;
    let logged = "subscriptions were changed without a record in the ledger";
    assert!(logs().contains(logged));
}
