//! The services and the Prometheus of the compose file without containers: the same settings, with
//! addresses and folders of this machine.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use audit_verify::cosignature::WitnessSecret;
use serde_json::Value;
use tempfile::TempDir;
use tests::{
    http::{Answer, Api},
    mongod,
    programs::{self, Program},
    system::{PATIENCE, free_address, wait_for_ready},
};

use super::files;

/// What of ours runs, in the order in which the compose file starts it.
const STARTED: [&str; 6] =
    ["keys", "audit-service", "patient-service", "projections", "clients", "gateway"];

/// It all ends when this is dropped.
pub(super) struct Stack {
    folder: TempDir,
    /// What stands in the compose file, and what it is here; those that begin like others come first.
    here: Vec<(String, String)>,
    compose: Value,
    programs: BTreeMap<&'static str, Program>,
}

impl Stack {
    pub(super) async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("vitalog-ops-").tempdir().unwrap();
        let mut here = vec![(
            "mongodb://mongo:27017/?replicaSet=rs0".to_owned(),
            mongod::uri().await.to_owned(),
        )];
        for place in ["secrets", "state", "anchors", "clients"] {
            let path = folder.path().join(place);
            fs::create_dir(&path).unwrap();
            here.push((format!("/{place}"), path.display().to_string()));
        }
        for (service, port) in [
            ("gateway", 8080),
            ("gateway", 7070),
            ("patient-service", 7071),
            ("audit-service", 7072),
            ("projections", 7073),
            ("otel-collector", 4318),
            ("otel-collector", 8888),
            ("localhost", 9090),
        ] {
            let (address, _) = free_address().unwrap();
            here.push((format!("{service}:{port}"), address.clone()));
            here.push((format!("0.0.0.0:{port}"), address));
        }
        let compose = files::compose();
        let mut stack = Self { folder, here, compose, programs: BTreeMap::new() };
        let prefix = mongod::database("ops");
        for service in STARTED {
            stack.spawn(service, &prefix).await;
        }
        stack.prometheus();
        stack
    }

    /// What stands in the compose file, for this machine.
    fn localised(&self, text: &str) -> String {
        let replace = |text: String, (from, to): &(String, String)| text.replace(from, to);
        self.here.iter().fold(text.to_owned(), replace)
    }

    /// The address here of one that stands in the compose file.
    fn url(&self, address: &str) -> String {
        format!("http://{}", self.localised(address))
    }

    async fn spawn(&mut self, service: &'static str, prefix: &str) {
        let told = &self.compose["services"][service];
        let command = files::command(told).unwrap();
        let command: Vec<String> = command.iter().map(|word| self.localised(word)).collect();
        let mut environment =
            BTreeMap::from([("VITALOG_DATABASE_PREFIX".to_owned(), prefix.to_owned())]);
        for (name, value) in told["environment"].as_object().into_iter().flatten() {
            environment.insert(name.clone(), self.localised(value.as_str().unwrap()));
        }
        if service == "audit-service" {
            // None runs beside the others; this one is away.
            let key = WitnessSecret::new("witness.example", &[7; 32]).unwrap().public();
            let (_, url) = free_address().unwrap();
            environment.insert("VITALOG_WITNESSES".to_owned(), format!("{url},{key}"));
        }
        let script = files::folder().join(&command[0]);
        let program = if script.exists() {
            let own = programs::built("gateway").unwrap();
            let path = format!("{}:/usr/bin:/bin", own.parent().unwrap().display());
            environment.insert("PATH".to_owned(), path);
            script
        } else {
            programs::built(&command[0]).unwrap()
        };
        let log = self.folder.path().join(format!("{service}.log"));
        let mut started = Program::start_in(&program, &command[1..], environment, &log).unwrap();
        let mut variables = told["environment"].as_object().into_iter().flatten();
        // Where it serves; jobs end.
        let is_listen = |name: &str| name.ends_with("_LISTEN") && !name.contains("METRICS");
        if let Some((_, listen)) = variables.find(|it| is_listen(it.0)) {
            let url = self.url(listen.as_str().unwrap());
            let ready = wait_for_ready(&url, PATIENCE).await;
            ready.unwrap_or_else(|error| panic!("{service}: {error}: {}", started.last_words()));
            self.programs.insert(service, started);
        } else {
            let status = started.wait(PATIENCE).await.unwrap();
            assert!(status.success(), "{service}: {}", started.last_words());
        }
    }

    fn prometheus(&mut self) {
        let folder = self.folder.path().join("prometheus");
        fs::create_dir(&folder).unwrap();
        for file in ["rules.yaml", "alerts.yaml"] {
            fs::copy(files::folder().join("prometheus").join(file), folder.join(file)).unwrap();
        }
        let config = self.localised(&files::text("prometheus/prometheus.yaml"));
        assert!(config.contains("interval: 15s"));
        let file = folder.join("prometheus.yaml");
        fs::write(&file, config.replace("interval: 15s", "interval: 1s")).unwrap();
        let arguments = [
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", folder.join("data").display()),
            format!("--web.listen-address={}", self.localised("localhost:9090")),
        ];
        let program = runtime::settings::env("VITALOG_PROMETHEUS").unwrap_or("prometheus".into());
        let program = PathBuf::from(program);
        let log = self.folder.path().join("prometheus.log");
        let started = Program::start(&program, &arguments, "", &log)
            .expect("Prometheus: tests/run fetches it, VITALOG_PROMETHEUS names another");
        self.programs.insert("prometheus", started);
    }

    /// The public API with the key of a subscription that was made for the compose file.
    pub(super) fn api(&self, subscription: &str) -> Api {
        let key = self.folder.path().join("clients").join(format!("{subscription}.key"));
        let key = fs::read_to_string(key).unwrap();
        Api::new(self.url("gateway:8080")).with_key(key.trim())
    }

    /// What Prometheus answers; `None` while it does not listen yet.
    pub(super) async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Option<Answer> {
        let url = format!("{}/api/v1/{path}", self.url("localhost:9090"));
        let url = reqwest::Url::parse_with_params(&url, parameters).unwrap();
        tests::http::try_send(reqwest::Client::new().get(url)).await.ok()
    }
}

/// Exits with 0 only if the shell takes them.
#[test]
fn the_scripts_parse() {
    for script in ["make-keys", "make-clients"] {
        let status = Command::new("sh").arg("-n").arg(files::folder().join(script)).status();
        assert!(status.unwrap().success(), "{script}");
    }
}
