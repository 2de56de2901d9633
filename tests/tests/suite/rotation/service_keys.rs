//! The keys by which services know each other.

use std::{fs, path::Path, time::Instant};

use reqwest::StatusCode;
use runtime::{secrets::random_key_hex, service_keys::SERVICE_KEY_HEADER};
use tests::{
    mongod,
    programs::POLL_PAUSE,
    samples::a_place,
    system::{Layout, PATIENCE, System},
};

use super::at_work;

/// Who calls whom, what the callee has for its callers, and how many clients a process of the caller
/// has, each of which reads the key: the second of the gateway is for refusals, that of the follower
/// for its metrics.
const HOPS: [(&str, &str, &str, usize); 4] = [
    ("gateway", "patient-service", "/patient/1", 1),
    ("gateway", "audit-service", "/checkpoint", 2),
    ("patient-service", "audit-service", "/checkpoint", 1),
    ("projections", "audit-service", "/checkpoint", 2),
];

/// Each service has so many processes.
const REPLICAS: usize = 2;

async fn status(url: &str, key: &str) -> StatusCode {
    let request = reqwest::Client::new().get(url).header(SERVICE_KEY_HEADER, key);
    request.send().await.unwrap().status()
}

/// Waits until all replicas of a service know a key, or no longer do.
async fn is_known(system: &System, service: &str, path: &str, key: &str, known: bool) {
    let deadline = Instant::now() + PATIENCE;
    for number in 0..REPLICAS {
        let url = format!("{}{path}", system.health_url(&format!("{service}-{number}")));
        while (status(&url, key).await != StatusCode::UNAUTHORIZED) != known {
            assert!(Instant::now() < deadline, "{url} takes the key: {}", !known);
            tokio::time::sleep(POLL_PAUSE).await;
        }
    }
}

/// How often each process of a caller has said that it read its key for a callee again.
fn reads(system: &System, of: &str, at: &str) -> Vec<usize> {
    let what = format!("the service key for {at}");
    let said = |line: &&str| line.contains("a secret was read again") && line.contains(&what);
    let logs = system.logs();
    (0..REPLICAS)
        .map(|number| logs[&format!("{of}-{number}")].lines().filter(said).count())
        .collect()
}

fn replace(file: &Path, key: &str) {
    let beside = file.with_extension("new");
    fs::write(&beside, key).unwrap();
    fs::rename(beside, file).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_service_key_is_rotated_under_load_without_a_failed_request() {
    let _place = a_place().await;
    let mongo = mongod::uri().await;
    let layout = Layout { balanced: true, replicas: REPLICAS, ..Layout::on(mongo) };
    let system = System::four_processes(layout).await;
    let load = at_work(&system, mongo).await;
    for (of, at, path, readers) in HOPS {
        let files = system.service_key(of, at).unwrap();
        let (old, new) = (fs::read_to_string(&files.shown).unwrap(), random_key_hex());
        let before = reads(&system, of, at);
        // As the docs say: the callee's second reference, the caller's, the callee's first.
        replace(&files.next, &new);
        is_known(&system, at, path, &new, true).await;
        is_known(&system, at, path, old.trim(), true).await;
        replace(&files.shown, &new);
        let deadline = Instant::now() + PATIENCE;
        while reads(&system, of, at) != before.iter().map(|n| n + readers).collect::<Vec<_>>() {
            assert!(Instant::now() < deadline, "{of} does not read its key for {at} again");
            tokio::time::sleep(POLL_PAUSE).await;
        }
        replace(&files.current, &new);
        is_known(&system, at, path, old.trim(), false).await;
        load.go_on().await;
    }
    load.finish().await;
    for (name, log) in system.logs() {
        for (of, at, ..) in HOPS {
            let key = fs::read_to_string(system.service_key(of, at).unwrap().shown).unwrap();
            assert!(!log.contains(&key), "the log of {name} has a key");
        }
    }
    system.finish().await;
}
