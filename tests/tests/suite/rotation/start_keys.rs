//! The keys that services read at their start alone.

use std::{fs, time::Instant};

use reqwest::Method;
use runtime::secrets::random_key_hex;
use tests::{
    http::{Api, text_body},
    mongod,
    programs::{self, POLL_PAUSE},
    samples::{a_place, patient},
    system::{Layout, PATIENCE, System},
};

use super::at_work;

/// Who reads it, as which option, and its file.
const KEYS: [(&str, &str, &str); 3] = [
    ("audit-service", "--seal-key", "seal"),
    ("patient-service", "--command-key", "command"),
    ("gateway", "--pepper", "pepper"),
];

/// Each replica of a service, one after the other, with another value of an option.
async fn roll(system: &mut System, service: &str, option: &str, value: &str) {
    system.retell(service, option, value);
    for name in system.running() {
        if name.starts_with(service) {
            system.roll(&name).await.unwrap();
        }
    }
}

/// The key in use, and the one that takes its place.
fn references(system: &System, name: &str) -> (String, String) {
    let file = |name: &str| system.data().join("secrets").join(format!("{name}.key"));
    let next = file(&format!("{name}-2"));
    if !next.exists() {
        fs::write(&next, random_key_hex()).unwrap();
    }
    (format!("file:{}", file(name).display()), format!("file:{}", next.display()))
}

/// The receipt of a patient that is registered under the same `Idempotency-Key` each time.
async fn receipt_of_the_same(clinic: &Api) -> String {
    let request = clinic.request(Method::POST, "/patient").header("idempotency-key", "the-same");
    let answer = text_body(request, &patient("SAME")).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    answer.headers()["audit-receipt"].to_str().unwrap().to_owned()
}

/// What the auditor's program says about the store, and its exit code.
async fn verified(system: &System, mongo: &str, seal_keys: &str) -> (Option<i32>, String) {
    let arguments: Vec<String> = [
        "verify".to_owned(),
        format!("--store={mongo}"),
        format!("--database-prefix={}", system.prefix()),
        format!("--seal-key={seal_keys}"),
        "--insecure-allow-open-stores".to_owned(),
        "--insecure-allow-plain-stores".to_owned(),
    ]
    .into();
    let folder = tempfile::tempdir().unwrap();
    let output = programs::run("audit", &arguments, folder.path(), PATIENCE).await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keys_that_are_read_at_start_are_rotated_under_load_without_a_failed_request() {
    let _place = a_place().await;
    let mongo = mongod::uri().await;
    let layout = Layout { balanced: true, replicas: 2, ..Layout::on(mongo) };
    let mut system = System::four_processes(layout).await;
    let load = at_work(&system, mongo).await;
    let add =
        ["add", "nurse", "--scope=patient:read", "--scope=patient:write", "--scope=audit:read"];
    let nurse = system.subscriptions(Some(mongo), &add).await.unwrap();
    let nurse = system.api().with_key(nurse);
    let deadline = Instant::now() + PATIENCE;
    let mut known = 0;
    while known < 20 {
        assert!(Instant::now() < deadline, "the key is not known");
        known = if nurse.get("/echo/resource").await.status == 200 { known + 1 } else { 0 };
        tokio::time::sleep(POLL_PAUSE).await;
    }

    // As the docs say: every replica knows the next key, then it is the first one.
    let receipt = receipt_of_the_same(&nurse).await;
    for (service, option, name) in KEYS {
        let (old, new) = references(&system, name);
        for value in [format!("{old},{new}"), format!("{new},{old}")] {
            roll(&mut system, service, option, &value).await;
            load.go_on().await;
            assert_eq!(receipt_of_the_same(&nurse).await, receipt, "{service} with {value}");
        }
    }
    load.finish().await;

    // Then the old ones end. A seal is for ever, but of the blocks until now alone.
    let (old, new) = references(&system, "seal");
    let checkpoint = nurse.get("/audit/checkpoint").await;
    let size = checkpoint.text().lines().nth(1).unwrap();
    let ended = format!("{new},{old}@{size}");
    roll(&mut system, "audit-service", "--seal-key", &ended).await;
    let (old_pepper, new_pepper) = references(&system, "pepper");
    let rotate = ["rotate", "nurse", "--key=secondary", &format!("--pepper={new_pepper}")];
    let second = system.subscriptions(Some(mongo), &rotate).await.unwrap();
    let second = system.api().with_key(second);
    roll(&mut system, "gateway", "--pepper", &new_pepper).await;
    assert_eq!(nurse.get("/echo/resource").await.status, 401, "a key under {old_pepper}");
    assert_eq!(receipt_of_the_same(&second).await, receipt);
    let (_, new_command) = references(&system, "command");
    roll(&mut system, "patient-service", "--command-key", &new_command).await;
    assert_ne!(receipt_of_the_same(&second).await, receipt, "nobody knows the old name any more");

    system.equals_its_rebuild().await;
    for (seal_keys, code, words) in [
        (ended.as_str(), 0, "INTACT"),
        (&format!("{new},{old}"), 0, "INTACT"),
        (&new, 1, "its seal is not genuine"),
        (&old, 1, "its seal is not genuine"),
        (&format!("{new},{old}@1"), 1, "its seal is not genuine"),
    ] {
        let (found, said) = verified(&system, mongo, seal_keys).await;
        assert!(found == Some(code) && said.contains(words), "{seal_keys}: {found:?} {said}");
    }
    system.finish().await;
}
