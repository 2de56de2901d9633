//! The load test itself: what it passes, and that it fails when it must.

use std::{
    path::Path,
    process::Output,
    time::{Duration, Instant},
};

use serde_json::Value;
use tests::{
    load::mix::{GROUPS, Task},
    programs::{self, POLL_PAUSE},
    samples::a_place,
    system::{Store, System},
};

/// Far more than the runs take, because the machine may be busy.
const PATIENCE: Duration = Duration::from_mins(2);

/// Runs the load test with a key that is in a file.
async fn load(system: &System, kind: &str, key: &Path, more: &[&str]) -> (Output, String) {
    let key = key.display().to_string();
    let mut arguments = vec![kind, "--gateway", &system.addresses().gateway, "--key-file", &key];
    arguments.extend(more);
    let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
    let output = programs::run("load", &arguments, system.folder(), PATIENCE).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, said)
}

/// A file with the key of a new subscription, once the gateway knows it.
async fn subscription(system: &System, name: &str, more: &[&str]) -> std::path::PathBuf {
    let key = system.subscriptions(None, &[&["add", name], more].concat()).await.unwrap();
    let file = system.folder().join(format!("{name}.key"));
    std::fs::write(&file, &key).unwrap();
    let waiting = Instant::now();
    while system.api().with_key(&key).get("/echo/resource").await.status != 200 {
        assert!(waiting.elapsed() < PATIENCE, "{name} is not known");
        tokio::time::sleep(POLL_PAUSE).await;
    }
    file
}

/// What all kinds of requests are called.
fn names() -> impl Iterator<Item = &'static str> {
    let tasks = GROUPS.into_iter().flat_map(|group| [Some(group.usual), group.tenth]).flatten();
    tasks.map(Task::name).chain(["update patient, put", "search all"])
}

/// Every kind of request has been answered, and none has failed.
#[track_caller]
fn everything_was_answered(said: &str) {
    for name in names() {
        let row = said.lines().find(|line| line.starts_with(&format!("{name}  ")));
        let row = row.unwrap_or_else(|| panic!("no {name}: {said}"));
        let numbers: Vec<&str> = row[name.len()..].split_whitespace().collect();
        assert!(numbers[0] != "0" && numbers[1] == "0", "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_older_mix_passes_in_both_loops_and_a_rate_is_found() {
    let _place = a_place().await;
    let system = System::standalone(Store::Sqlite).await;
    let key = system.data().join("keys/clinic.key");
    let report = system.folder().join("report.html");
    let (as_text, json) = (report.to_str().unwrap(), system.folder().join("found.json"));

    let few = ["--users", "4", "--duration", "6", "--full-speed", "--report", as_text];
    let (output, said) = load(&system, "closed", &key, &few).await;
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    everything_was_answered(&said);
    let report = std::fs::read_to_string(&report).unwrap();
    assert!(report.trim_start().to_lowercase().starts_with("<!doctype html"), "{}", &report[..99]);
    for name in GROUPS.map(|group| group.name).into_iter().chain(names()) {
        assert!(report.contains(name), "no {name} in the report");
    }

    let slow = ["--rate", "50", "--duration", "4", "--warm-up-seconds", "1", "--patients", "10"];
    let (output, said) = load(&system, "open", &key, &slow).await;
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    everything_was_answered(&said);

    let found = json.to_str().unwrap();
    let steps = ["--from", "5", "--most", "10", "--step-seconds", "1", "--warm-up-seconds", "0"];
    let lenient = ["--p99-ms", "20000", "--patients", "4", "--json", found];
    let (output, said) = load(&system, "find", &key, &[&steps[..], &lenient].concat()).await;
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(found["highestRate"], 10.0, "{found}");
    assert_eq!(found["steps"].as_array().unwrap().len(), 2, "{found}");
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unexpected_status_makes_either_loop_fail() {
    let _place = a_place().await;
    let system = System::standalone(Store::Sqlite).await;
    let reader = subscription(&system, "reader", &["--scope", "patient:read"]).await;
    let may = ["--scope", "patient:read", "--scope", "patient:write"];
    let few = [&may[..], &["--rate", "10", "--burst", "20"]].concat();
    let limited = subscription(&system, "limited", &few).await;
    let other = subscription(&system, "limited-too", &few).await;

    let users = ["--users", "2", "--duration", "2", "--full-speed"];
    let (output, _) = load(&system, "closed", &reader, &users).await;
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("403 instead of 201"), "{error}");

    let (output, said) = load(&system, "closed", &limited, &users).await;
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("× 429 instead of 200"), "{said}");
    let fast = ["--rate", "200", "--duration", "2", "--warm-up-seconds", "0", "--patients", "2"];
    let (output, said) = load(&system, "open", &other, &fast).await;
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("× 429 instead of 200"), "{said}");
    system.finish().await;
}
