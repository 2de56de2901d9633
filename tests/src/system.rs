//! The whole system as processes, on stores of its own.

mod layout;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    http::Api,
    mongod,
    programs::{self, POLL_PAUSE, Program},
    proxy::{Balancer, TcpProxy},
};

pub use layout::{Layout, ServiceKey, free_address};
use layout::{Recipe, strings};

/// How long a system may take to be ready. Far more than it needs, because the machine may be
/// busy with compiling and other tests.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Where a system keeps its data.
#[derive(Debug, Clone)]
pub enum Store {
    /// Files in the data directory.
    Sqlite,
    /// Databases on a MongoDB.
    Mongo(String),
}

impl Store {
    /// Databases on the MongoDB that all tests share.
    pub async fn shared_mongo() -> Self {
        Self::Mongo(mongod::uri().await.to_owned())
    }
}

/// A running system. It ends when it is dropped; what its processes said is shown when a test
/// fails.
#[derive(Debug)]
pub struct System {
    folder: TempDir,
    prefix: String,
    store: Store,
    rust_log: String,
    environment: Vec<(String, String)>,
    recipes: BTreeMap<String, Recipe>,
    programs: BTreeMap<String, Program>,
    addresses: Addresses,
    /// Between each replica of patient-service and its replica of audit-service.
    pub to_audit: Vec<TcpProxy>,
    /// By the service behind each.
    balancers: BTreeMap<&'static str, Balancer>,
}

/// Where the parts of a system are.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// The public door.
    pub gateway: String,
    /// Internal: patients and tests; one of the replicas.
    pub patient_service: String,
    /// Internal: the ledger; one of the replicas.
    pub audit_service: String,
}

impl System {
    /// Everything in one process, ready to use.
    pub async fn standalone(store: Store) -> Self {
        Self::standalone_logging(store, "").await
    }

    /// As [`System::standalone`], with `RUST_LOG`.
    pub async fn standalone_logging(store: Store, rust_log: &str) -> Self {
        let mut system = Self::prepare(store).expect("a folder");
        rust_log.clone_into(&mut system.rust_log);
        system.recipes.insert("standalone".to_owned(), system.standalone_recipe());
        system.start("standalone").await.expect("the system starts");
        system
    }

    /// As [`System::standalone`], told more.
    pub async fn standalone_told(store: Store, more: &[&str]) -> Self {
        let mut system = Self::prepare(store).expect("a folder");
        let mut recipe = system.standalone_recipe();
        recipe.arguments.extend(strings(more));
        system.recipes.insert("standalone".to_owned(), recipe);
        system.start("standalone").await.expect("the system starts");
        system
    }

    /// Every service as a process of its own, ready to use.
    pub async fn four_processes(layout: Layout) -> Self {
        let system = Self::four_processes_started(layout).await;
        system.ready().await.expect("the system becomes ready");
        system
    }

    /// As [`System::four_processes`], not yet ready.
    pub async fn four_processes_started(layout: Layout) -> Self {
        let mut system = Self::prepare(Store::Mongo(layout.mongo.clone())).expect("a folder");
        system.prefix.clone_from(&layout.prefix);
        system.lay_out(&layout).await.expect("processes are laid out");
        for name in system.recipes.keys().cloned().collect::<Vec<_>>() {
            system.spawn(&name).expect("a process starts");
        }
        system
    }

    fn prepare(store: Store) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("vitalog-test-").tempdir()?;
        Ok(Self {
            folder,
            prefix: mongod::database("system"),
            store,
            rust_log: String::new(),
            environment: Vec::new(),
            recipes: BTreeMap::new(),
            programs: BTreeMap::new(),
            addresses: Addresses::default(),
            to_audit: Vec::new(),
            balancers: BTreeMap::new(),
        })
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Where it keeps its data.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What the names of its databases on a MongoDB begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Where its parts are.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The public API without a key.
    pub fn api(&self) -> Api {
        Api::new(&self.addresses.gateway)
    }

    /// The public API with `patient:read` and `patient:write`.
    pub fn clinic(&self) -> Api {
        self.api().with_key(self.key("clinic"))
    }

    /// The public API with `audit:read`.
    pub fn compliance(&self) -> Api {
        self.api().with_key(self.key("compliance"))
    }

    /// The public API with `patient:erase`.
    pub fn privacy(&self) -> Api {
        self.api().with_key(self.key("privacy"))
    }

    /// A key that was made at the first start.
    pub fn key(&self, name: &str) -> String {
        let file = self.data().join("keys").join(format!("{name}.key"));
        fs::read_to_string(file).expect("a key").trim().to_owned()
    }

    /// One of its processes, such as `audit-service-0`.
    pub fn program(&mut self, name: &str) -> &mut Program {
        self.programs.get_mut(name).expect("a process of this system")
    }

    /// What all processes have written, by name.
    pub fn logs(&self) -> BTreeMap<String, String> {
        self.programs.iter().map(|(name, program)| (name.clone(), program.log())).collect()
    }

    /// Starts a process that does not run, and waits until it is ready.
    pub async fn start(&mut self, name: &str) -> anyhow::Result<()> {
        self.spawn(name)?;
        if name == "standalone" {
            self.addresses = self.announced().await?;
        }
        self.ready().await
    }

    /// Starts a process and does not wait.
    pub fn spawn(&mut self, name: &str) -> anyhow::Result<()> {
        let recipe = self.recipes.get(name).context("a process of this system")?;
        if recipe.url.is_none() {
            // It says where the system was at the last start.
            let _ = fs::remove_file(self.data().join("addresses.json"));
        }
        let log = self.folder.path().join(format!("{name}.log"));
        let program = programs::built(recipe.program)?;
        let mut environment = vec![("RUST_LOG".to_owned(), self.rust_log.clone())];
        environment.extend_from_slice(&self.environment);
        let program = Program::start_in(&program, &recipe.arguments, environment, &log)?;
        self.programs.insert(name.to_owned(), program);
        Ok(())
    }

    /// Restarts a replica behind a balancer as an operator does who must not lose a request: it
    /// gets no more, is told to stop, and gets some again once it is ready.
    pub async fn roll(&mut self, name: &str) -> anyhow::Result<()> {
        let (service, number) = name.rsplit_once('-').context("a replica")?;
        let number = number.parse()?;
        self.let_in(service, number, false);
        self.stop(name).await?;
        self.spawn(name)?;
        wait_for_ready(&self.health_url(name), PATIENCE).await?;
        self.let_in(service, number, true);
        Ok(())
    }

    /// Gives all replicas of a service another value of an option, from their next start on.
    pub fn retell(&mut self, service: &str, option: &str, value: &str) {
        let prefix = format!("{option}=");
        for recipe in self.recipes.values_mut().filter(|recipe| recipe.program == service) {
            let told = recipe.arguments.iter_mut().find(|it| it.starts_with(&prefix));
            *told.expect("an option of the service") = format!("{prefix}{value}");
        }
    }

    fn let_in(&self, service: &str, replica: usize, is_in: bool) {
        if let Some(balancer) = self.balancers.get(service) {
            balancer.let_in(replica, is_in);
        }
    }

    /// The process ids of what runs, by name.
    pub fn pids(&self) -> BTreeMap<String, u32> {
        self.programs.iter().map(|(name, program)| (name.clone(), program.pid())).collect()
    }

    /// The names of the processes that run, such as `audit-service-0`.
    pub fn running(&self) -> Vec<String> {
        self.programs.keys().cloned().collect()
    }

    /// Waits until standalone has written where its parts are.
    async fn announced(&mut self) -> anyhow::Result<Addresses> {
        let file = self.data().join("addresses.json");
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let text = fs::read(&file).unwrap_or_default();
            if let Ok(json) = serde_json::from_slice::<Value>(&text) {
                let address = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
                return Ok(Addresses {
                    gateway: address("gateway"),
                    patient_service: address("patientService"),
                    audit_service: address("auditService"),
                });
            }
            let program = self.program("standalone");
            if let Some(status) = program.ended()? {
                bail!("standalone ended ({status}): {}", program.last_words());
            }
            tokio::time::sleep(POLL_PAUSE).await;
        }
        bail!("standalone wrote no addresses in {PATIENCE:?}")
    }

    /// Waits until every process says that it is ready.
    pub async fn ready(&self) -> anyhow::Result<()> {
        for url in self.health_urls() {
            wait_for_ready(&url, PATIENCE).await?;
        }
        Ok(())
    }

    fn health_urls(&self) -> Vec<String> {
        let running = self.recipes.iter().filter(|(name, _)| self.programs.contains_key(*name));
        let urls = running.map(|(_, recipe)| recipe.url.as_ref());
        urls.map(|url| url.unwrap_or(&self.addresses.gateway).clone()).collect()
    }

    /// Where a process says whether it is ready.
    pub fn health_url(&self, name: &str) -> String {
        self.recipes[name].url.as_ref().unwrap_or(&self.addresses.gateway).clone()
    }

    /// Runs `projections` with one of its commands and returns what it prints, as JSON.
    pub async fn projections(&self, command: &str) -> anyhow::Result<Value> {
        self.projections_with(command, &[]).await
    }

    async fn projections_with(&self, command: &str, more: &[&str]) -> anyhow::Result<Value> {
        let mut arguments = vec![command.to_owned()];
        arguments.extend(strings(more));
        match command {
            "rebuild" => {
                let key = self.secret("service-projections");
                arguments.extend(self.sources(&self.addresses.audit_service, &key));
            }
            "status" => {
                arguments.extend(strings(&["--audit-url", &self.addresses.audit_service]));
                arguments.push(format!("--audit-key={}", self.secret("service-projections")));
                arguments.extend(self.read_models());
            }
            _ => arguments.extend(self.read_models()),
        }
        let output = programs::run("projections", &arguments, self.folder.path(), PATIENCE).await?;
        let log = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "projections {command} failed: {log}");
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("projections {command} printed no JSON: {log}"))
    }

    /// Lays out one more follower, which is not started yet.
    pub fn another_follower(&mut self, name: &str) -> anyhow::Result<()> {
        let recipe = self.follower(&self.addresses.audit_service)?;
        self.recipes.insert(name.to_owned(), recipe);
        Ok(())
    }

    /// Lays out one more gateway, with subscriptions of its own, which is not started yet.
    pub fn another_gateway(&mut self, name: &str, subscriptions: &str) -> anyhow::Result<Api> {
        let Addresses { patient_service, audit_service, .. } = &self.addresses;
        let (recipe, url) = self.gateway(patient_service, audit_service, subscriptions)?;
        self.recipes.insert(name.to_owned(), recipe);
        Ok(Api::new(url))
    }

    /// Runs `gateway subscriptions`, recording what it does unless `command` says otherwise; what it
    /// prints.
    pub async fn subscriptions(
        &self,
        subscriptions: Option<&str>,
        command: &[&str],
    ) -> anyhow::Result<String> {
        let file = self.data().join("subscriptions.toml").display().to_string();
        let mut arguments = strings(&["subscriptions"]);
        arguments.extend(strings(command));
        arguments.extend(strings(&["--subscriptions", subscriptions.unwrap_or(&file)]));
        arguments.extend(strings(&["--database-prefix", &self.prefix]));
        if command[0] != "list" && !command.contains(&"--unrecorded") {
            arguments.extend(strings(&["--audit-url", &self.addresses.audit_service]));
            arguments.push(format!("--caller-key={}", self.secret("service-operator")));
        }
        if ["add", "rotate"].contains(&command[0]) {
            arguments.push(format!("--pepper={}", self.secret("pepper")));
        }
        // Of its own, because several may run at once.
        let folder = tempfile::tempdir()?;
        let output = programs::run("gateway", &arguments, folder.path(), PATIENCE).await?;
        let log = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "gateway {command:?} failed: {log}");
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }

    /// Waits until the follower has followed the whole ledger.
    pub async fn followed(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.projections("status").await?["lagRecords"] == 0 {
                return Ok(());
            }
            tokio::time::sleep(POLL_PAUSE).await;
        }
        bail!("the follower has not caught up in {PATIENCE:?}")
    }

    /// Checks that the read models, activity included, say what a rebuild from the ledger says.
    pub async fn equals_its_rebuild(&self) {
        let compare = async {
            self.followed().await?;
            let live = self.projections("digest").await?;
            // Fails where documents differ.
            let summary = self.projections_with("rebuild", &["--dry-run"]).await?;
            ensure!(summary["differences"] == serde_json::json!([]), "{summary}");
            ensure!(live["digest"].is_string(), "no digest in {live}");
            ensure!(live["digest"] == summary["digest"], "live {live}, rebuilt {summary}");
            ensure!(live["activity"]["records"] == live["activity"]["upTo"], "{live}");
            let after = self.projections("digest").await?;
            ensure!(after["generation"] == live["generation"], "another serves: {after}");
            anyhow::Ok(())
        };
        compare.await.expect("live read models equal rebuilt ones");
    }

    /// As [`System::equals_its_rebuild`], of a rebuild that serves from then on. Takes the time
    /// that a flip waits for.
    pub async fn equals_its_rebuild_which_serves(&self) {
        let compare = async {
            self.followed().await?;
            let live = self.projections("digest").await?;
            let summary = self.projections("rebuild").await?;
            let rebuilt = self.projections("digest").await?;
            ensure!(live["digest"].is_string(), "no digest in {live}");
            ensure!(live["digest"] == rebuilt["digest"], "live {live}, rebuilt {rebuilt}");
            ensure!(summary["digest"] == rebuilt["digest"], "{summary} is not {rebuilt}");
            ensure!(live["generation"] != rebuilt["generation"], "the same generation: {live}");
            anyhow::Ok(())
        };
        compare.await.expect("live read models equal rebuilt ones");
    }

    /// Tells a process to stop and waits until it has; how long it took.
    pub async fn stop(&mut self, name: &str) -> anyhow::Result<Duration> {
        let program = self.program(name);
        let began = Instant::now();
        program.signal("TERM")?;
        let status = program.wait(PATIENCE).await?;
        ensure!(status.success(), "{name} ended with {status}");
        Ok(began.elapsed())
    }

    /// As [`System::stop`], of every process, those first that ask others.
    pub async fn stop_all(&mut self) -> anyhow::Result<()> {
        let mut names = self.running();
        // A gateway before the services behind it.
        let rank = |name: &String| {
            ["gateway", "projections", "patient"]
                .iter()
                .position(|first| name.starts_with(first))
                .unwrap_or(usize::MAX)
        };
        names.sort_by_key(rank);
        for name in names {
            self.stop(&name).await?;
        }
        Ok(())
    }

    /// Stops every process at once and drops its databases.
    pub async fn finish(mut self) {
        self.programs.clear();
        if matches!(self.store, Store::Mongo(_)) {
            mongod::drop_databases(&self.prefix).await;
        }
    }

    /// A folder for what else a test needs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for System {
    #[allow(clippy::print_stderr)]
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (name, program) in &self.programs {
                eprintln!("---- the last of {name}'s log:\n{}\n", program.last_words());
            }
        }
    }
}

/// Waits until a service says that it is ready.
pub async fn wait_for_ready(url: &str, patience: Duration) -> anyhow::Result<()> {
    let api = Api::new(url);
    let deadline = Instant::now() + patience;
    let mut last = String::from("no answer");
    while Instant::now() < deadline {
        match crate::http::try_send(api.request(reqwest::Method::GET, "/readyz")).await {
            Ok(answer) if answer.status == 200 => return Ok(()),
            Ok(answer) => last = format!("{answer:?}"),
            Err(error) => last = format!("{error:#}"),
        }
        tokio::time::sleep(POLL_PAUSE).await;
    }
    bail!("not ready after {patience:?}: {last}")
}
