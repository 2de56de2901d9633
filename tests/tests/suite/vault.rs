//! A service that has its secrets from a vault, with the managed identity of an app.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use audit_client::{AuditClient, Options};
use reqwest::StatusCode;
use runtime::{
    secrets::{Secret, SecretRef, random_key_hex},
    service_keys::SERVICE_KEY_HEADER,
};
use tests::{
    programs::{self, POLL_PAUSE, Program},
    system::{free_address, wait_for_ready},
};

use super::{
    fake_vault::FakeVault,
    ledger_processes::{event, ledger_secret},
};

/// How long anything that should happen may take.
const PATIENCE: Duration = Duration::from_secs(40);

/// Clients read their key again every second; after so long they have.
const KEY_IS_READ_AGAIN: Duration = Duration::from_secs(3);

/// The status that a key is answered with.
async fn status(url: &str, key: &str) -> StatusCode {
    let request = reqwest::Client::new().get(format!("{url}/checkpoint"));
    request.header(SERVICE_KEY_HEADER, key).send().await.unwrap().status()
}

async fn becomes(url: &str, key: &str, expected: StatusCode) {
    let deadline = Instant::now() + PATIENCE;
    while status(url, key).await != expected {
        assert!(Instant::now() < deadline, "the key is not answered {expected}");
        tokio::time::sleep(POLL_PAUSE).await;
    }
}

fn count(log: &str, text: &str) -> usize {
    log.lines().filter(|line| line.contains(text)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_key_of_a_vault_is_rotated_under_load_and_an_outage_of_the_vault_is_no_outage() {
    let vault = FakeVault::start();
    let keys: [String; 3] = std::array::from_fn(|_| random_key_hex());
    vault.set("seal", "v1", &random_key_hex());
    vault.set("ledger", "v1", &ledger_secret().to_text());
    vault.set("service", "v1", &keys[0]);
    vault.set("service-next", "v1", &keys[0]);

    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (listen, url) = free_address().unwrap();
    let (now, next) = (vault.reference("service"), vault.reference("service-next"));
    let arguments = [
        "serve".to_owned(),
        format!("--listen={listen}"),
        format!("--store=sqlite:{}", file("ledger.db")),
        format!("--checkpoint-file={}", file("checkpoint")),
        format!("--signing-key={}", vault.reference("ledger")),
        format!("--seal-key={}", vault.reference("seal")),
        format!("--caller=patient-service={now},{next}"),
    ];
    let environment = vault.environment(folder.path());
    let log = folder.path().join("log");
    let program = programs::built("audit-service").unwrap();
    let program = Program::start_in(&program, &arguments, environment, &log).unwrap();
    let ready = wait_for_ready(&url, PATIENCE).await;
    ready.unwrap_or_else(|error| panic!("{error} {}", program.last_words()));

    fs::write(file("key"), &keys[0]).unwrap();
    let client = AuditClient::start(Options::new(&url, Secret::new(keys[0].as_str())));
    client.keep_reading_key(SecretRef::File(file("key").into()));
    let (stop, appended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load = tokio::spawn({
        let (stop, appended) = (stop.clone(), appended.clone());
        async move {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                client.append(event(0, number, number)).await.expect("an append during rotation");
                appended.fetch_add(1, Ordering::Relaxed);
            }
        }
    });

    vault.set("service-next", "v2", &keys[1]);
    becomes(&url, &keys[1], StatusCode::OK).await;
    fs::write(file("key"), &keys[1]).unwrap();
    tokio::time::sleep(KEY_IS_READ_AGAIN).await;
    vault.set("service", "v2", &keys[1]);
    becomes(&url, &keys[0], StatusCode::UNAUTHORIZED).await;

    vault.now().down = true;
    let failing = "the vault fails; the secret's last value stays";
    let deadline = Instant::now() + PATIENCE;
    // Each of the four secrets says so.
    while count(&program.log(), failing) < 4 {
        assert!(Instant::now() < deadline, "{}", program.last_words());
        tokio::time::sleep(POLL_PAUSE).await;
    }
    let before = appended.load(Ordering::Relaxed);
    tokio::time::sleep(KEY_IS_READ_AGAIN).await;
    assert!(appended.load(Ordering::Relaxed) > before);
    assert_eq!(count(&program.log(), failing), 4, "it is said once");
    vault.now().down = false;
    vault.set("service-next", "v3", &keys[2]);
    becomes(&url, &keys[2], StatusCode::OK).await;

    stop.store(true, Ordering::Relaxed);
    load.await.unwrap();
    assert!(appended.load(Ordering::Relaxed) > 100);
    let log = program.log();
    assert!(count(&log, "the vault gives the secret again") >= 1, "{log}");
    let seal = vault.now().secrets["seal"][0].1.clone();
    for secret in keys.iter().chain([&seal]) {
        assert!(!log.contains(secret.as_str()), "a secret is in the log");
    }
    assert!(!log.contains(super::fake_vault::IDENTITY_HEADER) && !log.contains("the-right-token"));
}

/// Every option that names a secret says in which ways.
#[test]
fn every_secret_of_every_service_may_be_in_a_vault() {
    use clap::CommandFactory;
    let mut found = 0;
    for mut command in [
        gateway::config::Cli::command(),
        patient_service::config::Cli::command(),
        audit_service::config::Cli::command(),
        projections::config::Cli::command(),
    ] {
        check(&mut command, &mut found);
    }
    assert!(found > 20, "{found} options");
}

fn check(command: &mut clap::Command, found: &mut usize) {
    use runtime::{service_keys::CallerSpec, store_location::StoreLocation};
    use std::any::TypeId;
    let types =
        [TypeId::of::<SecretRef>(), TypeId::of::<CallerSpec>(), TypeId::of::<StoreLocation>()];
    for option in command.get_arguments() {
        if types.iter().any(|known| option.get_value_parser().type_id() == *known) {
            *found += 1;
            let help = option.get_help().map(ToString::to_string).unwrap_or_default();
            let ways = "`env:NAME`, `file:/path` or `keyvault:https://…`";
            assert!(help.contains(ways), "{} {}: {help}", command.get_name(), option.get_id());
        }
    }
    for command in command.get_subcommands_mut() {
        check(command, found);
    }
}
