//! The command line that manages subscriptions, under a gateway that uses them.

mod ledger;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::response::IntoResponse;
use axum::{Json, Router};
use clap::Parser;
use domain::wire::{AppendRequest, AppendResponse, AppendResult, Proposal, Receipt};
use gateway::config::{Cli, Command, Done, RELOAD_INTERVAL};
use gateway::subscriptions::CommandError;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{CLINIC, CLINIC_SECONDARY, Door, Upstream, got};

type Act = Option<Box<dyn FnOnce() + Send>>;

/// A ledger that has the stream of subscriptions alone.
struct Ledger {
    records: Arc<Mutex<Vec<Proposal>>>,
    away: Arc<AtomicBool>,
    /// Done when the first record is asked for.
    first: Arc<Mutex<Act>>,
    server: Upstream,
    folder: TempDir,
}

impl Ledger {
    async fn start() -> Self {
        let (records, away) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (kept, stopped) = (Arc::clone(&records), Arc::clone(&away));
        let first = Arc::<Mutex<Act>>::default();
        let to_do = Arc::clone(&first);
        let answer = async move |headers: HeaderMap, Json(request): Json<AppendRequest>| {
            assert_eq!(headers["x-functions-key"], "the operator's service key");
            if stopped.load(Ordering::SeqCst) {
                return StatusCode::SERVICE_UNAVAILABLE.into_response();
            }
            if let Some(first) = to_do.lock().unwrap().take() {
                first();
            }
            let mut records = kept.lock().unwrap();
            let results = request.items.into_iter().map(|item| append(&mut records, item));
            let results = results.collect();
            Json(AppendResponse { results }).into_response()
        };
        let server = Upstream::replacing(Router::new().fallback(answer)).await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("operator.key"), "the operator's service key").unwrap();
        std::fs::write(folder.path().join("pepper.key"), "canary-pepper-of-tests").unwrap();
        Self { records, away, first, server, folder }
    }

    /// Runs `subscriptions` with these arguments, recording what it does.
    async fn run(&self, path: &Path, arguments: &[&str]) -> Result<Done, CommandError> {
        let key = format!("file:{}", self.folder.path().join("operator.key").display());
        let url = self.server.url();
        let mut all = arguments.to_vec();
        if arguments[0] != "list" {
            all.extend(["--audit-url", &url, "--caller-key", &key]);
        }
        run(path, self.folder.path(), &all).await
    }

    /// What it was told of each change.
    fn said(&self) -> Vec<Value> {
        self.records.lock().unwrap().iter().map(|record| json!(record.subscription)).collect()
    }

    fn records(&self) -> Vec<Value> {
        let records = self.records.lock().unwrap();
        let shown = |record: &Proposal| {
            let subscription = record.subscription.as_ref().unwrap();
            json!([subscription.change, subscription.name, record.version, record.actor.id])
        };
        records.iter().map(shown).collect()
    }
}

fn append(records: &mut Vec<Proposal>, item: Proposal) -> AppendResult {
    let (stream, version) = (item.stream.unwrap(), item.version.unwrap());
    assert_eq!(stream.to_string(), "gateway/subscriptions");
    assert_eq!(serde_json::to_value(item.record_type).unwrap(), "SubscriptionChanged");
    let actual = records.len() as u64;
    if version != actual + 1 {
        return AppendResult::Conflict { stream, expected: version - 1, actual };
    }
    records.push(item);
    AppendResult::Appended(Receipt {
        seq: actual,
        hash: domain::hash::Hash::ZERO,
        stream: Some(stream),
        version: Some(version),
        recorded_at: domain::time::Timestamp::EPOCH,
        current_version: None,
        replayed: false,
        proof: None,
        span: None,
    })
}

async fn run(path: &Path, folder: &Path, arguments: &[&str]) -> Result<Done, CommandError> {
    let (path, pepper) = (path.to_str().unwrap(), folder.join("pepper.key"));
    let pepper = format!("file:{}", pepper.display());
    let mut all = vec!["gateway", "subscriptions"];
    all.extend(arguments);
    all.extend(["--subscriptions", path]);
    if ["add", "rotate"].contains(&arguments[0]) {
        all.extend(["--pepper", &pepper]);
    }
    let cli = Cli::try_parse_from(all).unwrap();
    let Some(Command::Subscriptions(command)) = cli.command else { panic!("no command") };
    command.run().await
}

#[tokio::test]
async fn a_subscription_is_added_limited_rotated_suspended_and_removed_and_all_is_recorded() {
    let (door, ledger) = (Door::open().await, Ledger::start().await);
    let path = door.subscriptions_path();
    let add = ["add", "ward-7", "--scope", "patient:read", "--rate", "50", "--as", "j.doe"];
    let added = ledger.run(&path, &add).await.unwrap();
    let zeros = "0".repeat(64);
    assert_eq!(added.note, format!("added ward-7: seq=0, hash=\"{zeros}\""));
    let primary = added.output;
    door.until(&primary, 200).await;

    let rotate = async |key| ledger.run(&path, &["rotate", "ward-7", "--key", key]).await.unwrap();
    let secondary = rotate("secondary").await.output;
    door.until(&secondary, 200).await;
    assert_eq!(door.status(&primary).await, 200);
    let new = rotate("primary").await.output;
    door.until(&new, 200).await;
    assert_eq!((door.status(&primary).await, door.status(&secondary).await), (401, 200));

    let limit =
        ["limit", "ward-7", "--rate", "none", "--quota-month", "900", "--network", "127.0.0.0/8"];
    ledger.run(&path, &limit).await.unwrap();
    let list = ledger.run(&path, &["list"]).await.unwrap().output;
    let line =
        "ward-7      active     keys=2  scopes=patient:read  quota-month=900  networks=127.0.0.0/8";
    assert!(list.lines().any(|found| found == line), "{list}");
    let stored = std::fs::read_to_string(&path).unwrap();
    let digests: Vec<&str> = stored.split('"').filter(|text| text.len() == 64).collect();
    assert_eq!(digests.len(), 9);
    assert!(digests.iter().all(|digest| !list.contains(digest)));
    assert!([&primary, &secondary, &new].iter().all(|key| !stored.contains(*key)));

    ledger.run(&path, &["suspend", "ward-7"]).await.unwrap();
    door.until(&new, 403).await;
    let again = ledger.run(&path, &["suspend", "ward-7"]).await.unwrap();
    assert_eq!(again.note, "nothing to do: ward-7 is so already");
    let list = ledger.run(&path, &["list"]).await.unwrap().output;
    assert!(list.contains("ward-7      suspended"), "{list}");
    ledger.run(&path, &["resume", "ward-7"]).await.unwrap();
    door.until(&new, 200).await;
    ledger.run(&path, &["remove", "ward-7"]).await.unwrap();
    door.until(&new, 401).await;
    assert_eq!(door.status(CLINIC).await, 200);

    let expected = json!([
        ["added", "ward-7", 1, "operator"],
        ["rotated", "ward-7", 2, "operator"],
        ["rotated", "ward-7", 3, "operator"],
        ["limited", "ward-7", 4, "operator"],
        ["suspended", "ward-7", 5, "operator"],
        ["resumed", "ward-7", 6, "operator"],
        ["removed", "ward-7", 7, "operator"],
    ]);
    assert_eq!(Value::from(ledger.records()), expected);
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_it_is_recorded() {
    let (door, ledger) = (Door::open().await, Ledger::start().await);
    let path = door.subscriptions_path();
    let before = std::fs::read_to_string(&path).unwrap();
    for (arguments, expected) in [
        (&["add", "clinic"][..], "two subscriptions named clinic"),
        (&["rotate", "nobody", "--key", "primary"], "no subscription named nobody"),
        (&["suspend", "nobody"], "no subscription named nobody"),
        (&["remove", "nobody"], "no subscription named nobody"),
        (&["limit", "clinic", "--burst", "5"], "a burst and no rate"),
    ] {
        let error = ledger.run(&path, arguments).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(ledger.records().is_empty());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
}

#[tokio::test]
async fn without_a_record_nothing_changes_unless_that_is_asked_for() {
    let ledger = Ledger::start().await;
    let path = ledger.folder.path().join("subscriptions.toml");
    let arguments = ["gateway", "subscriptions", "suspend", "a", "--subscriptions", "s.toml"];
    assert!(Cli::try_parse_from(arguments).is_err());
    // Where there is a ledger, it is to be used.
    for named in [["--audit-url", "http://127.0.0.1:1"], ["--caller-key", "env:KEY"], ["--as", "j"]]
    {
        let both = [&arguments[..], &["--unrecorded"], &named].concat();
        let error = Cli::try_parse_from(both).unwrap_err().to_string();
        assert!(error.contains("'--unrecorded' cannot be used with"), "{error}");
    }
    let bootstrap = ["add", "one", "--unrecorded"];
    run(&path, ledger.folder.path(), &bootstrap).await.unwrap();
    let before = std::fs::read_to_string(&path).unwrap();

    ledger.away.store(true, Ordering::SeqCst);
    let error = ledger.run(&path, &["suspend", "one"]).await.unwrap_err();
    assert!(matches!(error, CommandError::NotRecorded(_)), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    assert!(ledger.records().is_empty());
}

#[tokio::test]
async fn a_change_that_was_recorded_and_not_made_is_completed_by_running_it_again() {
    let ledger = Ledger::start().await;
    let folder = ledger.folder.path().join("not-yet");
    let path = folder.join("subscriptions.toml");
    let error = ledger.run(&path, &["add", "one"]).await.unwrap_err();
    assert!(matches!(error, CommandError::NotMade { seq: 0, .. }), "{error}");
    std::fs::create_dir(&folder).unwrap();
    ledger.run(&path, &["add", "one"]).await.unwrap();
    let expected = json!([["added", "one", 1, "operator"], ["added", "one", 2, "operator"]]);
    assert_eq!(Value::from(ledger.records()), expected);
    let list = ledger.run(&path, &["list"]).await.unwrap().output;
    assert_eq!(list, "one  active     keys=1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_run_at_once_lose_nothing_of_each_other() {
    const CLIENTS: usize = 16;
    let ledger = Arc::new(Ledger::start().await);
    let path = ledger.folder.path().join("subscriptions.toml");
    let commands = (0..CLIENTS).map(|number| {
        let (ledger, path) = (Arc::clone(&ledger), path.clone());
        tokio::spawn(async move {
            let (name, other) = (format!("clinic-{number}"), format!("other-{number}"));
            // What is removed moves all that comes after it.
            for command in [
                &["add", &other][..],
                &["add", &name],
                &["remove", &other],
                &["limit", &name, "--rate", "7"],
            ] {
                ledger.run(&path, command).await.unwrap();
            }
        })
    });
    for command in commands.collect::<Vec<_>>() {
        command.await.unwrap();
    }
    let list = ledger.run(&path, &["list"]).await.unwrap().output;
    let limited = list.lines().filter(|line| line.ends_with("keys=1  rate=7")).count();
    assert_eq!((limited, list.lines().count()), (CLIENTS, CLIENTS), "{list}");
    let versions: Vec<Value> = ledger.records().iter().map(|record| record[2].clone()).collect();
    assert_eq!(versions, (1..=4 * CLIENTS).map(Value::from).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_change_takes_effect_within_a_second() {
    let (ledger, upstream) = (Ledger::start().await, Upstream::start().await);
    let door = Door::before(upstream, |settings| settings.reload_interval = RELOAD_INTERVAL).await;
    let path = door.subscriptions_path();
    let mut fastest = Duration::MAX;
    // Other tests keep the machine busy: one of a few changes shows what is promised.
    for _ in 0..3 {
        ledger.run(&path, &["suspend", "clinic"]).await.unwrap();
        let changed = Instant::now();
        door.until(CLINIC, 403).await;
        fastest = fastest.min(changed.elapsed());
        ledger.run(&path, &["resume", "clinic"]).await.unwrap();
        door.until(CLINIC, 200).await;
    }
    assert!(fastest < Duration::from_secs(1), "{fastest:?}");
}

/// A client that can be given another key while it works.
async fn work(door: &Door, key: &Mutex<String>, done: &AtomicUsize, stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        let key = key.lock().unwrap().clone();
        let request = door.request(http::Method::GET, "/patient/1");
        let answer = got(request.header(crate::harness::KEY_HEADER, key)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        done.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn both_keys_are_rotated_under_load_without_a_failed_request() {
    let (door, ledger) = (Door::open().await, Ledger::start().await);
    let path = door.subscriptions_path();
    let key = Mutex::new(CLINIC.to_owned());
    let (done, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let some_more = async || {
        let until = done.load(Ordering::SeqCst) + 50;
        while done.load(Ordering::SeqCst) < until {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let rotate = async || {
        some_more().await;
        // The client takes the other key, and the one that nobody uses any more is replaced.
        for (slot, other) in
            [("primary", CLINIC_SECONDARY.to_owned()), ("secondary", String::new())]
        {
            if !other.is_empty() {
                *key.lock().unwrap() = other;
            }
            some_more().await;
            let new = ledger.run(&path, &["rotate", "clinic", "--key", slot]).await.unwrap().output;
            door.until(&new, 200).await;
            *key.lock().unwrap() = new;
            some_more().await;
        }
        stop.store(true, Ordering::SeqCst);
    };
    let worker = || work(&door, &key, &done, &stop);
    tokio::join!(rotate(), worker(), worker(), worker(), worker());
    assert_eq!((door.status(CLINIC).await, door.status(CLINIC_SECONDARY).await), (401, 401));
    assert_eq!(door.patients.count(), done.load(Ordering::SeqCst));
}
