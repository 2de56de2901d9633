//! Programs that start before their vault or their store is there.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use reqwest::Method;
use runtime::secrets::random_key_hex;
use serde_json::json;
use tempfile::TempDir;
use tests::{
    http::{Answer, Api, try_send},
    mongod::Cluster,
    programs::{self, POLL_PAUSE, Program},
    proxy::{Mode, TcpProxy},
    system::free_address,
};

use super::{fake_vault::FakeVault, ledger_processes::ledger_secret};

/// How long anything that should happen may take.
const PATIENCE: Duration = Duration::from_secs(40);

/// Far less than the wait for a vault.
const SOON: Duration = Duration::from_secs(8);

/// A folder, and a vault that has the secrets of every program.
struct Desk {
    folder: TempDir,
    vault: FakeVault,
    environment: Vec<(String, String)>,
}

/// A program, and where it listens.
struct Started {
    program: Program,
    api: Api,
}

impl Desk {
    fn new() -> Self {
        let (folder, vault) = (tempfile::tempdir().unwrap(), FakeVault::start());
        // Once, because it writes a file that programs read when they start.
        let environment = vault.environment(folder.path());
        let desk = Self { folder, vault, environment };
        for name in ["service", "pepper", "command", "kek", "seal"] {
            desk.vault.set(name, "v1", &random_key_hex());
        }
        desk.vault.set("ledger", "v1", &ledger_secret().to_text());
        std::fs::write(desk.path("subscriptions.toml"), "").unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self, program: &str, options: &[(&str, String)]) -> Started {
        let (listen, url) = free_address().unwrap();
        let subcommand = match program {
            "audit-service" => Some("serve".to_owned()),
            "projections" => Some("follow".to_owned()),
            _ => None,
        };
        let options = options.iter().map(|(name, value)| format!("{name}={value}"));
        let listen = format!("--listen={listen}");
        let arguments: Vec<_> = subcommand.into_iter().chain([listen]).chain(options).collect();
        let log = self.path(&format!("{program}.log"));
        let path = programs::built(program).unwrap();
        let program = Program::start_in(&path, &arguments, self.environment.clone(), &log).unwrap();
        Started { program, api: Api::new(url) }
    }

    /// Starts a program every secret of which is in the vault.
    fn start_with_vault(&self, program: &str) -> Started {
        let secret = |name: &str| self.vault.reference(name);
        let sqlite = |name: &str| format!("sqlite:{}", self.path(name).display());
        let file = |name: &str| self.path(name).display().to_string();
        let options = match program {
            "gateway" => vec![
                ("--subscriptions", file("subscriptions.toml")),
                ("--pepper", secret("pepper")),
                ("--patient-key", secret("service")),
                ("--audit-key", secret("service")),
            ],
            "patient-service" => vec![
                ("--audit-key", secret("service")),
                ("--caller", format!("gateway={}", secret("service"))),
                ("--store", sqlite("patients.db")),
                ("--keys", sqlite("keys.db")),
                ("--kek", secret("kek")),
                ("--command-key", secret("command")),
            ],
            "audit-service" => vec![
                ("--store", sqlite("ledger.db")),
                ("--signing-key", secret("ledger")),
                ("--seal-key", secret("seal")),
                ("--checkpoint-file", file("checkpoint")),
                ("--caller", format!("gateway={}", secret("service"))),
            ],
            _ => vec![
                ("--audit-key", secret("service")),
                ("--store", sqlite("patients.db")),
                ("--keys", sqlite("keys.db")),
                ("--kek", secret("kek")),
            ],
        };
        self.start(program, &options)
    }
}

impl Started {
    /// Waits until it answers as it should.
    async fn until(&self, path: &str, expected: impl Fn(&Answer) -> bool) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = try_send(self.api.request(Method::GET, path)).await;
            if answer.as_ref().is_ok_and(&expected) {
                return answer.unwrap();
            }
            let words = self.program.last_words();
            assert!(Instant::now() < deadline, "{path}: {answer:?}\n{words}");
            tokio::time::sleep(POLL_PAUSE).await;
        }
    }

    /// Waits until it says this of a part of itself.
    async fn until_part(&self, part: &str, expected: &str) {
        self.until("/readyz", |answer| answer.json()["components"][part] == expected).await;
    }

    /// Alive, not ready, and shut.
    async fn waits_for(&self, part: &str) {
        self.until("/healthz", |answer| answer.status == 200).await;
        let ready = self.api.get("/readyz").await.expect(503);
        assert_ne!(ready.json()["components"][part], json!("ready"));
        let refused = self.api.get("/echo/resource").await;
        refused.problem(503);
        assert!(refused.header("retry-after").is_some());
    }

    /// It ends by a signal, as it should.
    async fn stops(mut self) {
        self.program.signal("TERM").unwrap();
        let status = self.program.wait(SOON).await.expect("it ends");
        assert!(status.success(), "{}", self.program.last_words());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_waits_for_its_vault_is_alive_says_so_and_can_be_stopped() {
    let desk = Desk::new();
    desk.vault.now().down = true;
    let [gateway, audit, patients, projections] =
        ["gateway", "audit-service", "patient-service", "projections"]
            .map(|program| desk.start_with_vault(program));
    for started in [&gateway, &audit, &patients, &projections] {
        started.waits_for("secrets").await;
        started.until_part("secrets", "being loaded").await;
    }
    patients.stops().await;
    projections.stops().await;
    desk.vault.now().down = false;
    for started in [&gateway, &audit] {
        started.until_part("secrets", "ready").await;
        started.until_part("routes", "ready").await;
    }
    audit.until("/readyz", |answer| answer.status == 200).await;
    let _ = audit.api.get("/checkpoint").await.expect(401);
    let _ = gateway.api.get("/echo/resource").await.expect(401);
    audit.stops().await;
    gateway.stops().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_that_never_answers_ends_a_program_which_names_the_secret() {
    let desk = Desk::new();
    desk.vault.now().down = true;
    let started = ["gateway", "audit-service", "patient-service", "projections"]
        .map(|program| (program, desk.start_with_vault(program)));
    for (name, mut started) in started {
        let status = started.program.wait(PATIENCE).await.expect("it ends");
        let log = started.program.log();
        assert!(!status.success() && log.contains("cannot be had"), "{name}: {log}");
        assert!(log.contains("the vault does not give the secret yet"), "{name}: {log}");
        assert!(log.contains("--") && log.contains("keyvault:https://"), "{name}: {log}");
        let secrets = desk.vault.now().secrets.clone();
        let mut values = secrets.values().flatten().map(|(_, value)| value);
        assert!(values.all(|value| !log.contains(value)), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_whose_mongodb_comes_later_is_alive_and_opens_then() {
    let desk = Desk::new();
    let cluster = Cluster::start(1).await.unwrap();
    let member = cluster.member_uri(0);
    let host = member.trim_start_matches("mongodb://").split('/').next().unwrap().to_owned();
    let proxy = TcpProxy::start(host.clone()).await.unwrap();
    proxy.set(Mode::Refuse);
    let key = desk.vault.reference("service");
    let options = [
        ("--subscriptions", member.replace(&host, &proxy.address().to_string())),
        ("--pepper", desk.vault.reference("pepper")),
        ("--patient-key", key.clone()),
        ("--audit-key", key),
    ];
    let gateway = desk.start("gateway", &options);
    gateway.until_part("subscriptions", "unavailable, trying again").await;
    gateway.waits_for("subscriptions").await;
    proxy.set(Mode::Forward);
    gateway.until_part("subscriptions", "ready").await;
    gateway.until_part("routes", "ready").await;
    let _ = gateway.api.get("/echo/resource").await.expect(401);
    gateway.stops().await;
}
