//! The programs refuse to start with settings that are not secure, and say which.

use std::{fs, path::Path, time::Duration};

use audit_verify::checkpoint::LedgerSecret;
use tempfile::TempDir;
use tests::programs::{self, Program};

/// Far more than a refusal takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A store of another machine, with whoever can be let in.
const OPEN_STORE: &str = "mongodb://db.example:27017/?tls=true";

/// A store of another machine, spoken to in the clear.
const PLAIN_STORE: &str = "mongodb://user:canary@db.example:27017";

/// A store of another machine, which anybody can pretend to be.
const UNCHECKED_STORE: &str = "mongodb+srv://user:canary@db.example/?tlsInsecure=true";

/// A password on the command line.
const WITH_PASSWORD: &str = "mongodb://user:canary@127.0.0.1:1";

/// A change that is recorded, with its name and its scope.
const ADD: &str = "gateway subscriptions add ward-7 --scope=patient:read";

/// The programs, each with the settings that it needs, and the secrets that these name. A program is
/// named with its subcommand and whatever else comes before settings.
struct Desk {
    folder: TempDir,
}

fn binary(program: &str) -> &str {
    program.split(' ').next().unwrap_or_default()
}

impl Desk {
    fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        for name in ["key", "pepper", "command", "kek", "seal"] {
            desk.write(name, &runtime::secrets::random_key_hex());
        }
        desk.write("zero", &"0".repeat(64));
        desk.write("default", "changeme-changeme");
        desk.write("open-store", OPEN_STORE);
        desk.write("plain-store", PLAIN_STORE);
        desk.write("unchecked-store", UNCHECKED_STORE);
        desk.write_signing_key("signing", &rand::random());
        desk.write_signing_key("zero-signing", &[0; 32]);
        desk
    }

    fn write_signing_key(&self, name: &str, seed: &[u8; 32]) {
        let secret = LedgerSecret::new("ledger".parse().unwrap(), seed);
        self.write(name, &secret.to_text());
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn file(&self, name: &str) -> String {
        format!("file:{}", self.folder.path().join(name).display())
    }

    /// Settings under which a program gets past the look at them.
    fn secure(&self, program: &str) -> Vec<(String, String)> {
        let sqlite = |name: &str| format!("sqlite:{}", self.folder.path().join(name).display());
        let (key, path) = (self.file("key"), |name| self.folder.path().join(name));
        let settings: Vec<(&str, String)> = match program {
            "gateway" => vec![
                ("--listen", "127.0.0.1:0".into()),
                ("--subscriptions", path("subscriptions.toml").display().to_string()),
                ("--pepper", self.file("pepper")),
                ("--patient-key", key.clone()),
                ("--audit-key", key),
            ],
            "patient-service" => vec![
                ("--listen", "127.0.0.1:0".into()),
                ("--audit-key", key.clone()),
                ("--caller", format!("gateway={key}")),
                ("--store", sqlite("patients.db")),
                ("--keys", sqlite("keys.db")),
                ("--kek", self.file("kek")),
                ("--command-key", self.file("command")),
            ],
            "patient-service keys status" => {
                vec![("--keys", sqlite("keys.db")), ("--kek", self.file("kek"))]
            }
            ADD => vec![
                ("--subscriptions", path("subscriptions.toml").display().to_string()),
                ("--pepper", self.file("pepper")),
                ("--caller-key", key),
                ("--audit-url", "http://127.0.0.1:1".into()),
            ],
            "gateway subscriptions list" => {
                vec![("--subscriptions", path("subscriptions.toml").display().to_string())]
            }
            "audit-service rotate-key" => vec![
                ("--url", "http://127.0.0.1:1".into()),
                ("--caller-key", key),
                ("--signing-key", self.file("signing")),
                ("--next", self.file("signing")),
            ],
            "audit verify" => vec![("--store", sqlite("ledger.db"))],
            "audit checkpoint" => vec![
                ("--url", "http://127.0.0.1:1".into()),
                ("--key-file", path("key").display().to_string()),
            ],
            "audit-service serve" => vec![
                ("--listen", "127.0.0.1:0".into()),
                ("--store", sqlite("ledger.db")),
                ("--signing-key", self.file("signing")),
                ("--seal-key", self.file("seal")),
                ("--checkpoint-file", path("checkpoint").display().to_string()),
                ("--caller", format!("gateway={key}")),
            ],
            _ => vec![
                ("--listen", "127.0.0.1:0".into()),
                ("--audit-key", key),
                ("--store", sqlite("patients.db")),
                ("--keys", sqlite("keys.db")),
                ("--kek", self.file("kek")),
            ],
        };
        settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn arguments(&self, program: &str, changed: &[(&str, &str)]) -> Vec<String> {
        let mut settings = self.secure(program);
        for (name, value) in changed {
            settings.retain(|(known, _)| known != name);
            settings.push(((*name).to_owned(), (*value).to_owned()));
        }
        let options = settings.into_iter().map(|(name, value)| match value.as_str() {
            "" => name,
            value => format!("{name}={value}"),
        });
        program.split(' ').skip(1).map(str::to_owned).chain(options).collect()
    }

    /// Starts a program with changed settings; it must end and name the setting.
    async fn refuses(&self, program: &str, changed: &[(&str, &str)], said: &[&str]) {
        let arguments = self.arguments(program, changed);
        let output = programs::run(binary(program), &arguments, self.folder.path(), PATIENCE).await;
        let output = output.unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{program} {changed:?}");
        for said in said {
            assert!(log.contains(said), "{program} {changed:?} does not say {said}: {log}");
        }
        assert!(!log.contains("canary"), "{log}");
    }

    /// Starts a program with changed settings and an override, which it must log.
    async fn warns(&self, program: &str, changed: &[(&str, &str)], over: &str, log: &Path) {
        let changed: Vec<_> = changed.iter().copied().chain([(over, "")]).collect();
        let arguments = self.arguments(program, &changed);
        let mut running =
            Program::start(&programs::built(binary(program)).unwrap(), &arguments, "", log)
                .unwrap();
        let deadline = std::time::Instant::now() + PATIENCE;
        while !running.log().contains("started though it is insecure") {
            // It may end because of what is not there; it has warned before that.
            let ended = running.ended().unwrap().is_some();
            let warned = running.log().contains("started though it is insecure");
            assert!(warned || !ended, "{program}: {}", running.last_words());
            assert!(std::time::Instant::now() < deadline, "{program}: {}", running.last_words());
            tokio::time::sleep(programs::POLL_PAUSE).await;
        }
        assert!(running.log().contains("\"level\":\"WARN\""));
        assert!(running.log().contains(over), "{}", running.last_words());
        assert!(!running.log().contains("canary"), "{}", running.last_words());
        running.kill().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_insecure_setting_is_refused_by_name_and_taken_only_with_its_override() {
    let desk = Desk::new();
    let (zero, default) = (desk.file("zero"), desk.file("default"));
    let (open, caller) = (desk.file("open-store"), format!("gateway={default}"));
    let (plain_store, unchecked) = (desk.file("plain-store"), desk.file("unchecked-store"));
    let zero_signing = desk.file("zero-signing");
    let zero_file = desk.folder.path().join("zero").display().to_string();
    let (plain, any) = ("http://patients.example:7071", "0.0.0.0:0");
    let keys = "--insecure-allow-known-keys";
    let stores = "--insecure-allow-open-stores";
    let in_clear = "--insecure-allow-plain-stores";
    let secrets = "--insecure-allow-plaintext-secrets";
    let listener = "--insecure-allow-plain-listener";
    let http = "--insecure-allow-plain-http";
    let network = "--insecure-allow-any-network";
    let cases = [
        ("gateway", "--pepper", zero.as_str(), "--pepper", keys),
        ("gateway", "--audit-key", &default, "--audit-key", keys),
        ("gateway", "--patient-key", &default, "--patient-key", keys),
        ("gateway", "--patient-url", plain, "--patient-url", http),
        ("gateway", "--audit-url", plain, "--audit-url", http),
        ("gateway", "--patient-url", "http://user:canary@127.0.0.1:1", "--patient-url", secrets),
        ("gateway", "--listen", any, "--listen", listener),
        ("gateway", "--subscriptions", OPEN_STORE, "--subscriptions", stores),
        ("gateway", "--subscriptions", WITH_PASSWORD, "--subscriptions", secrets),
        ("gateway", "--subscriptions", &plain_store, "--subscriptions", in_clear),
        (ADD, "--pepper", &zero, "--pepper", keys),
        (ADD, "--caller-key", &default, "--caller-key", keys),
        (ADD, "--audit-url", plain, "--audit-url", http),
        (ADD, "--subscriptions", OPEN_STORE, "--subscriptions", stores),
        ("gateway subscriptions list", "--subscriptions", OPEN_STORE, "--subscriptions", stores),
        ("gateway subscriptions list", "--subscriptions", &unchecked, "--subscriptions", in_clear),
        ("patient-service keys status", "--kek", &zero, "--kek", keys),
        ("patient-service keys status", "--keys", OPEN_STORE, "--keys", stores),
        ("patient-service keys status", "--keys", WITH_PASSWORD, "--keys", secrets),
        ("audit-service rotate-key", "--url", plain, "--url", http),
        ("audit-service rotate-key", "--caller-key", &default, "--caller-key", keys),
        ("audit-service rotate-key", "--signing-key", &zero_signing, "--signing-key", keys),
        ("audit-service rotate-key", "--next", &zero_signing, "--next", keys),
        ("audit verify", "--store", OPEN_STORE, "--store", stores),
        ("audit verify", "--store", WITH_PASSWORD, "--store", secrets),
        ("audit verify", "--seal-key", &zero, "--seal-key", keys),
        ("audit checkpoint", "--url", plain, "--url", http),
        ("audit checkpoint", "--key-file", &zero_file, "--key-file", keys),
        ("audit-service serve", "--signing-key", &zero_signing, "--signing-key", keys),
        ("audit-service serve", "--store", &plain_store, "--store", in_clear),
        ("patient-service", "--store", &unchecked, "--store", in_clear),
        ("projections follow", "--keys", &plain_store, "--keys", in_clear),
        ("patient-service", "--kek", &zero, "--kek", keys),
        ("patient-service", "--command-key", &zero, "--command-key", keys),
        ("patient-service", "--audit-key", &default, "--audit-key", keys),
        ("patient-service", "--caller", &caller, "--caller", keys),
        ("patient-service", "--audit-url", plain, "--audit-url", http),
        ("patient-service", "--store", OPEN_STORE, "--store", stores),
        ("patient-service", "--keys", &open, "--keys", stores),
        ("patient-service", "--store", WITH_PASSWORD, "--store", secrets),
        ("patient-service", "--listen", any, "--allow-network", network),
        ("audit-service serve", "--seal-key", &zero, "--seal-key", keys),
        ("audit-service serve", "--caller", &caller, "--caller", keys),
        ("audit-service serve", "--store", OPEN_STORE, "--store", stores),
        ("audit-service serve", "--store", WITH_PASSWORD, "--store", secrets),
        ("audit-service serve", "--listen", any, "--allow-network", network),
        ("projections follow", "--kek", &zero, "--kek", keys),
        ("projections follow", "--audit-key", &default, "--audit-key", keys),
        ("projections follow", "--audit-url", plain, "--audit-url", http),
        ("projections follow", "--store", OPEN_STORE, "--store", stores),
        ("projections follow", "--keys", WITH_PASSWORD, "--keys", secrets),
        ("projections follow", "--listen", any, "--allow-network", network),
    ];
    for (number, (program, setting, value, named, over)) in cases.into_iter().enumerate() {
        let changed = [(setting, value)];
        desk.refuses(program, &changed, &[named, over]).await;
        let log = desk.folder.path().join(format!("{number}.override.log"));
        desk.warns(program, &changed, over, &log).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_themselves_and_networks_of_everybody_are_no_settings() {
    let desk = Desk::new();
    for (program, setting) in [
        ("gateway", "--pepper"),
        ("audit-service serve", "--seal-key"),
        ("projections follow", "--kek"),
    ] {
        let canary = "canary-0123456789abcdef-canary-0123456789abcdef";
        desk.refuses(program, &[(setting, canary)], &[setting, "not a secret reference"]).await;
    }
    for program in ["patient-service", "audit-service serve", "projections follow"] {
        for network in ["0.0.0.0/0", "::/0"] {
            let changed = [("--listen", "0.0.0.0:0"), ("--allow-network", network)];
            desk.refuses(program, &changed, &["--allow-network", "everybody"]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_looks_like_a_url_is_no_path_and_is_not_repeated() {
    let desk = Desk::new();
    desk.write("toml", "[[subscription]]\nname = \"canary\"\n");
    let toml = desk.file("toml");
    for (program, setting, value, said) in [
        ("gateway", "--subscriptions", "mongo://user:canary@db.example/", "a TOML file"),
        ("gateway", "--subscriptions", "mongodb:/user:canary@db.example/", "a TOML file"),
        ("gateway", "--subscriptions", &toml, "holds no MongoDB URI"),
        ("gateway", "--patient-url", "user:canary@db.example", "no address of a service"),
        (ADD, "--subscriptions", "mongo://user:canary@db.example/", "a TOML file"),
        (
            "audit-service serve",
            "--store",
            "sqlite:mongodb://user:canary@db.example/",
            "a store is",
        ),
        ("audit-service serve", "--anchor", "dir:https://canary@db.example/", "an anchor is"),
        ("patient-service keys status", "--keys", "mongo://user:canary@db.example/", "a store is"),
        ("audit verify", "--store", "mongo://user:canary@db.example/", "a store is"),
        ("audit checkpoint", "--url", "https://user:canary@db.example/", "without user"),
    ] {
        desk.refuses(program, &[(setting, value)], &[setting, said]).await;
    }
}
