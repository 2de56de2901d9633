//! Files that change under a running gateway.

use std::time::Duration;

use gateway::config::{ServiceKey, Settings, UpstreamSettings};
use gateway::subscriptions::{Scope, write_file};
use http::Method;
use runtime::secrets::{Secret, SecretRef};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::harness::{CLINIC, Door, Upstream, entry, got, logs, pepper, subscriptions};

/// Longer than anything here takes; reached only when a promise is broken.
const PATIENCE: Duration = Duration::from_secs(10);

const NEW: &str = "canary-new";

#[tokio::test]
async fn subscriptions_come_and_go_without_a_restart() {
    let door = Door::open().await;
    let path = door.subscriptions_path();
    assert_eq!((door.status(NEW).await, door.status(CLINIC).await), (401, 200));
    let mut entries = subscriptions();
    entries.push(entry("new", &[Scope::AuditRead], &[NEW]));
    write_file(&path, &entries).unwrap();
    door.until(NEW, 200).await;
    assert_eq!(door.status(CLINIC).await, 200);
    write_file(&path, &[entry("new", &[], &[NEW])]).unwrap();
    door.until(CLINIC, 401).await;
    assert_eq!(door.status(NEW).await, 200);
}

#[tokio::test]
async fn a_bad_file_leaves_the_last_good_one_in_force() {
    let door = Door::open().await;
    let path = door.subscriptions_path();
    let complaint = format!("{} is not a list of [[subscription]]", path.display());
    std::fs::write(&path, "[[subscription]]\nname = \"canary-in-a-bad-file\"\nkey = 1\n").unwrap();
    let logged = async {
        while !logs().contains(&complaint) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, logged).await.unwrap();
    assert_eq!(door.status(CLINIC).await, 200);

    let mut entries = subscriptions();
    entries.push(entry("new", &[], &[NEW]));
    write_file(&path, &entries).unwrap();
    door.until(NEW, 200).await;

    std::fs::remove_file(&path).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(door.status(CLINIC).await, 200);
}

#[tokio::test]
async fn a_service_key_is_read_again() {
    let keys = tempfile::tempdir().unwrap();
    let path = keys.path().join("patients.key");
    std::fs::write(&path, "canary-service-key-one\n").unwrap();
    let reference: SecretRef = format!("file:{}", path.display()).parse().unwrap();
    let door = Door::before(Upstream::start().await, |settings| {
        settings.patients.key = ServiceKey::Named(reference);
    })
    .await;
    let sent = async || {
        got(door.clinic(Method::GET, "/patient/1")).await;
        door.patients.last().header("x-functions-key").unwrap().to_owned()
    };
    assert_eq!(sent().await, "canary-service-key-one");
    std::fs::write(&path, "").unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(sent().await, "canary-service-key-one");
    std::fs::write(&path, "canary-service-key-two\n").unwrap();
    let changed = async {
        while sent().await != "canary-service-key-two" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, changed).await.unwrap();
}

#[tokio::test]
async fn without_usable_settings_the_gateway_does_not_start() {
    #[track_caller]
    fn check(result: Result<(), gateway::GatewayError>, expected: &str) {
        let error = anyhow::Error::from(result.unwrap_err());
        let text = format!("{error:#}");
        assert!(text.contains(expected), "{text}");
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("subscriptions.toml");
    let run = async |change: &dyn Fn(&mut Settings)| {
        let upstream = |url: &str| UpstreamSettings {
            url: url.into(),
            key: ServiceKey::Fixed(Secret::new("0123456789abcdef")),
        };
        let patients = upstream("http://127.0.0.1:1");
        let mut settings =
            Settings::new(patients, upstream("http://127.0.0.1:1/"), path.clone(), pepper());
        change(&mut settings);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        gateway::run(listener, settings, CancellationToken::new()).await
    };
    check(run(&|_| {}).await, "subscriptions.toml cannot be read");
    write_file(&path, &subscriptions()).unwrap();
    check(
        run(&|s| s.peppers = vec![Secret::new("short")]).await,
        "the pepper is shorter than 16 bytes",
    );
    check(run(&|s| s.patients.url = "127.0.0.1:7071".into()).await, "address of patient-service");
    check(run(&|s| s.audit.url = "http://h/?a".into()).await, "address of audit-service");
    check(
        run(&|s| s.audit.key = ServiceKey::Fixed(Secret::new("a\nb"))).await,
        "service key for audit-service is not printable",
    );
    check(
        run(&|s| s.patients.key = ServiceKey::Named("file:/nowhere/key".parse().unwrap())).await,
        "service key for patient-service cannot be loaded",
    );
}
