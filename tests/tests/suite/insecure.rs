//! The programs refuse to start with settings that are not secure, and say which.

use std::{fs, path::Path, time::Duration};

use tempfile::TempDir;
use tests::programs::{self, Program};

/// Far more than a refusal takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A store of another machine, with whoever can be let in.
const OPEN_STORE: &str = "mongodb://db.example:27017";

/// A password on the command line.
const WITH_PASSWORD: &str = "mongodb://user:canary@127.0.0.1:1";

/// The services, each with the settings that it needs, and the secrets that it names.
struct Desk {
    folder: TempDir,
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
        desk
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
            "audit-service" => vec![
                ("--listen", "127.0.0.1:0".into()),
                ("--store", sqlite("ledger.db")),
                ("--signing-key", key.clone()),
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
        let subcommand = match program {
            "audit-service" => Some("serve"),
            "projections" => Some("follow"),
            _ => None,
        };
        let options = settings.into_iter().map(|(name, value)| match value.as_str() {
            "" => name,
            value => format!("{name}={value}"),
        });
        subcommand.map(str::to_owned).into_iter().chain(options).collect()
    }

    /// Starts a program with changed settings; it must end and name the setting.
    async fn refuses(&self, program: &str, changed: &[(&str, &str)], said: &[&str]) {
        let arguments = self.arguments(program, changed);
        let output = programs::run(program, &arguments, self.folder.path(), PATIENCE).await;
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
            Program::start(&programs::built(program).unwrap(), &arguments, "", log).unwrap();
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
        running.kill().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_insecure_setting_is_refused_by_name_and_taken_only_with_its_override() {
    let desk = Desk::new();
    let (zero, default) = (desk.file("zero"), desk.file("default"));
    let (open, caller) = (desk.file("open-store"), format!("gateway={default}"));
    let (plain, any) = ("http://patients.example:7071", "0.0.0.0:0");
    let keys = "--insecure-allow-known-keys";
    let stores = "--insecure-allow-open-stores";
    let secrets = "--insecure-allow-plaintext-secrets";
    let http = "--insecure-allow-plain-http";
    let network = "--insecure-allow-any-network";
    let cases = [
        ("gateway", "--pepper", zero.as_str(), "--pepper", keys),
        ("gateway", "--audit-key", &default, "--audit-key", keys),
        ("gateway", "--patient-key", &default, "--patient-key", keys),
        ("gateway", "--patient-url", plain, "--patient-url", http),
        ("gateway", "--audit-url", plain, "--audit-url", http),
        ("patient-service", "--kek", &zero, "--kek", keys),
        ("patient-service", "--command-key", &zero, "--command-key", keys),
        ("patient-service", "--audit-key", &default, "--audit-key", keys),
        ("patient-service", "--caller", &caller, "--caller", keys),
        ("patient-service", "--audit-url", plain, "--audit-url", http),
        ("patient-service", "--store", OPEN_STORE, "--store", stores),
        ("patient-service", "--keys", &open, "--keys", stores),
        ("patient-service", "--store", WITH_PASSWORD, "--store", secrets),
        ("patient-service", "--listen", any, "--allow-network", network),
        ("audit-service", "--seal-key", &zero, "--seal-key", keys),
        ("audit-service", "--caller", &caller, "--caller", keys),
        ("audit-service", "--store", OPEN_STORE, "--store", stores),
        ("audit-service", "--store", WITH_PASSWORD, "--store", secrets),
        ("audit-service", "--listen", any, "--allow-network", network),
        ("projections", "--kek", &zero, "--kek", keys),
        ("projections", "--audit-key", &default, "--audit-key", keys),
        ("projections", "--audit-url", plain, "--audit-url", http),
        ("projections", "--store", OPEN_STORE, "--store", stores),
        ("projections", "--keys", WITH_PASSWORD, "--keys", secrets),
        ("projections", "--listen", any, "--allow-network", network),
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
    for (program, setting) in
        [("gateway", "--pepper"), ("audit-service", "--seal-key"), ("projections", "--kek")]
    {
        let canary = "canary-0123456789abcdef-canary-0123456789abcdef";
        desk.refuses(program, &[(setting, canary)], &[setting, "not a secret reference"]).await;
    }
    for program in ["patient-service", "audit-service", "projections"] {
        for network in ["0.0.0.0/0", "::/0"] {
            let changed = [("--listen", "0.0.0.0:0"), ("--allow-network", network)];
            desk.refuses(program, &changed, &["--allow-network", "everybody"]).await;
        }
    }
}
