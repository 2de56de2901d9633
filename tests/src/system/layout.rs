//! Which processes a system has, and what each is told.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use standalone::data_dir::DataDir;

use super::{Addresses, Store, System};
use crate::{
    mongod,
    proxy::{Balancer, TcpProxy},
};

/// Ports below those that the system hands out to connections, so that none is taken between
/// choosing it and listening on it.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// How to run a system as processes of their own.
#[derive(Debug)]
pub struct Layout {
    /// The MongoDB of the ledger, the keys and the follower.
    pub mongo: String,
    /// Another way to the read models, for patient-service alone.
    pub patients_store: Option<String>,
    /// Another way to the ledger, for audit-service alone.
    pub ledger_store: Option<String>,
    /// Replicas of patient-service, and as many of audit-service, each for one of the other.
    pub replicas: usize,
    /// Whether `projections follow` runs from the start.
    pub follower: bool,
    /// Whether there are as many replicas of everything, all behind balancers, and gateways that
    /// share their subscriptions on the MongoDB: whatever is restarted, another one is there.
    pub balanced: bool,
    /// What the names of the databases begin with.
    pub prefix: String,
    /// What every process of a program, such as `gateway`, is told besides.
    pub told: BTreeMap<&'static str, Vec<String>>,
    /// What every process finds in its environment besides `RUST_LOG`.
    pub environment: Vec<(String, String)>,
}

/// The programs of a system of processes.
const PROGRAMS: [&str; 4] = ["gateway", "patient-service", "audit-service", "projections"];

impl Layout {
    /// Two replicas on a MongoDB.
    pub fn on(mongo: impl Into<String>) -> Self {
        Self {
            mongo: mongo.into(),
            patients_store: None,
            ledger_store: None,
            replicas: 2,
            follower: true,
            balanced: false,
            prefix: mongod::database("system"),
            told: BTreeMap::new(),
            environment: Vec::new(),
        }
    }

    /// Two replicas on the MongoDB that all tests share.
    pub async fn shared() -> Self {
        Self::on(mongod::uri().await)
    }

    /// The same, with every process told this besides.
    #[must_use]
    pub fn telling_all(mut self, more: &[String]) -> Self {
        for program in PROGRAMS {
            self.told.entry(program).or_default().extend_from_slice(more);
        }
        self
    }
}

/// Where the key by which one service knows another stands: three places, because only so it can be
/// rotated without a pause.
#[derive(Debug)]
pub struct ServiceKey {
    /// What the caller shows.
    pub shown: PathBuf,
    /// What the callee takes.
    pub current: PathBuf,
    /// What the callee takes, too.
    pub next: PathBuf,
}

/// How to start a program again.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    pub(super) program: &'static str,
    pub(super) arguments: Vec<String>,
    /// Where it says whether it is ready; standalone says where that is in its data directory.
    pub(super) url: Option<String>,
}

impl System {
    pub(super) fn standalone_recipe(&self) -> Recipe {
        let data = self.data().display().to_string();
        let mut arguments = strings(&["--listen", "127.0.0.1:0", "--data-dir", &data]);
        if let Store::Mongo(uri) = &self.store {
            arguments.extend(strings(&["--store", uri, "--database-prefix", &self.prefix]));
        }
        Recipe { program: "standalone", arguments, url: None }
    }

    pub(super) async fn lay_out(&mut self, layout: &Layout) -> anyhow::Result<()> {
        DataDir::open(&self.data())?.complete(true)?;
        let mut audit_urls = Vec::new();
        for number in 0..layout.replicas {
            let (recipe, url) = self.audit_service(number, layout)?;
            self.recipes.insert(format!("audit-service-{number}"), recipe);
            audit_urls.push(url);
        }
        let all = if layout.balanced {
            Some(self.balance("audit-service", audit_urls.clone()).await?)
        } else {
            None
        };
        let mut patient_urls = Vec::new();
        for (number, url) in audit_urls.iter().enumerate() {
            let audit = match &all {
                Some(all) => all.clone(),
                None => self.proxy_to_audit(url).await?,
            };
            let (recipe, url) = self.patient_service(&audit, layout)?;
            self.recipes.insert(format!("patient-service-{number}"), recipe);
            patient_urls.push(url);
        }
        let patients = self.balance("patient-service", patient_urls.clone()).await?;
        // Different replicas, unless it is the same balancer.
        let audit_of_door = all.clone().unwrap_or_else(|| audit_urls[0].clone());
        let audit_of_follower = all.or_else(|| audit_urls.last().cloned()).context("a replica")?;
        let gateway = if layout.balanced {
            let mut urls = Vec::new();
            for number in 0..layout.replicas {
                let (recipe, url) = self.gateway(&patients, &audit_of_door, &layout.mongo)?;
                self.recipes.insert(format!("gateway-{number}"), recipe);
                let recipe = self.follower(&audit_of_follower)?;
                self.recipes.insert(format!("projections-{number}"), recipe);
                urls.push(url);
            }
            self.balance("gateway", urls).await?
        } else {
            let subscriptions = self.data().join("subscriptions.toml").display().to_string();
            let (recipe, url) = self.gateway(&patients, &audit_of_door, &subscriptions)?;
            self.recipes.insert("gateway".to_owned(), recipe);
            if layout.follower {
                let recipe = self.follower(&audit_of_follower)?;
                self.recipes.insert("projections".to_owned(), recipe);
            }
            url
        };
        self.addresses = Addresses {
            gateway,
            patient_service: patient_urls[0].clone(),
            audit_service: audit_of_door,
        };
        self.environment.clone_from(&layout.environment);
        for recipe in self.recipes.values_mut() {
            let told = layout.told.get(recipe.program).into_iter().flatten();
            recipe.arguments.extend(told.cloned());
        }
        Ok(())
    }

    async fn balance(&mut self, name: &'static str, urls: Vec<String>) -> anyhow::Result<String> {
        let balancer = Balancer::start(urls).await?;
        let url = balancer.url();
        self.balancers.insert(name, balancer);
        Ok(url)
    }

    async fn proxy_to_audit(&mut self, url: &str) -> anyhow::Result<String> {
        let proxy = TcpProxy::start(url.trim_start_matches("http://")).await?;
        let url = format!("http://{}", proxy.address());
        self.to_audit.push(proxy);
        Ok(url)
    }

    fn audit_service(&self, number: usize, layout: &Layout) -> anyhow::Result<(Recipe, String)> {
        let (listen, url) = free_address()?;
        // Each replica remembers the ledger's end for itself, as on a machine of its own.
        let checkpoint = self.data().join(format!("audit-service-{number}.checkpoint"));
        let checkpoint = checkpoint.display().to_string();
        let store = layout.ledger_store.as_ref().unwrap_or(&layout.mongo);
        let mut arguments = strings(&["serve", "--listen", &listen, "--store", store]);
        arguments.extend(strings(&["--checkpoint-file", &checkpoint]));
        arguments.extend(strings(&["--database-prefix", &self.prefix]));
        arguments.extend([format!("--signing-key={}", self.secret("ledger"))]);
        arguments.extend([format!("--seal-key={}", self.secret("seal"))]);
        for caller in ["gateway", "patient-service", "projections"] {
            arguments.push(self.caller(caller, "audit-service")?);
        }
        for caller in ["external", "operator"] {
            let key = self.secret(&format!("service-{caller}"));
            arguments.push(format!("--caller={caller}={key}"));
        }
        Ok((Recipe { program: "audit-service", arguments, url: Some(url.clone()) }, url))
    }

    fn patient_service(&self, audit: &str, layout: &Layout) -> anyhow::Result<(Recipe, String)> {
        let (listen, url) = free_address()?;
        let store = layout.patients_store.as_ref().unwrap_or(&layout.mongo);
        let mut arguments = strings(&["--listen", &listen, "--audit-url", audit]);
        arguments.extend(strings(&["--store", store, "--keys", &layout.mongo]));
        arguments.extend(strings(&["--database-prefix", &self.prefix]));
        arguments.push(self.caller("gateway", "patient-service")?);
        let key = self.service_key("patient-service", "audit-service")?;
        arguments.push(format!("--audit-key={}", reference(&key.shown)));
        arguments.push(format!("--kek={}", self.secret("kek")));
        arguments.push(format!("--command-key={}", self.secret("command")));
        Ok((Recipe { program: "patient-service", arguments, url: Some(url.clone()) }, url))
    }

    pub(super) fn gateway(
        &self,
        patient: &str,
        audit: &str,
        subscriptions: &str,
    ) -> anyhow::Result<(Recipe, String)> {
        let (listen, url) = free_address()?;
        let key = |at| Ok(reference(&self.service_key("gateway", at)?.shown));
        let keys: [anyhow::Result<String>; 2] = ["patient-service", "audit-service"].map(key);
        let [patient_key, audit_key] = keys;
        let mut arguments = strings(&["--listen", &listen, "--subscriptions", subscriptions]);
        arguments.extend(strings(&["--database-prefix", &self.prefix]));
        arguments.extend(strings(&["--patient-url", patient, "--patient-key", &patient_key?]));
        arguments.extend(strings(&["--audit-url", audit, "--audit-key", &audit_key?]));
        arguments.push(format!("--pepper={}", self.secret("pepper")));
        Ok((Recipe { program: "gateway", arguments, url: Some(url.clone()) }, url))
    }

    pub(super) fn follower(&self, audit: &str) -> anyhow::Result<Recipe> {
        let (listen, url) = free_address()?;
        let mut arguments = strings(&["follow", "--listen", &listen]);
        let key = self.service_key("projections", "audit-service")?;
        arguments.extend(self.sources(audit, &reference(&key.shown)));
        Ok(Recipe { program: "projections", arguments, url: Some(url) })
    }

    /// What `projections` is told about ledger, read models and keys.
    pub(super) fn sources(&self, audit: &str, key: &str) -> Vec<String> {
        let mut arguments = strings(&["--audit-url", audit, "--audit-key", key]);
        arguments.push(format!("--keys={}", self.location("keys.db")));
        arguments.push(format!("--kek={}", self.secret("kek")));
        arguments.extend(self.read_models());
        arguments
    }

    pub(super) fn read_models(&self) -> Vec<String> {
        let store = self.location("patients.db");
        strings(&["--store", &store, "--database-prefix", &self.prefix])
    }

    /// Where the key of one service at another stands. It is made at the first question, of the key
    /// that the caller has in the data directory.
    pub fn service_key(&self, of: &str, at: &str) -> anyhow::Result<ServiceKey> {
        let folder = self.data().join("secrets");
        let file = |place: &str| folder.join(format!("{of}.{at}.{place}.key"));
        let key = ServiceKey { shown: file("shown"), current: file("current"), next: file("next") };
        let first = folder.join(format!("service-{of}.key"));
        for place in [&key.shown, &key.current, &key.next] {
            if !place.exists() {
                fs::copy(&first, place)?;
            }
        }
        Ok(key)
    }

    fn caller(&self, name: &str, at: &str) -> anyhow::Result<String> {
        let ServiceKey { current, next, .. } = self.service_key(name, at)?;
        Ok(format!("--caller={name}={},{}", reference(&current), reference(&next)))
    }

    fn location(&self, file: &str) -> String {
        match &self.store {
            Store::Sqlite => format!("sqlite:{}", self.data().join(file).display()),
            Store::Mongo(uri) => uri.clone(),
        }
    }

    pub(super) fn secret(&self, name: &str) -> String {
        reference(&self.data().join("secrets").join(format!("{name}.key")))
    }
}

fn reference(file: &Path) -> String {
    format!("file:{}", file.display())
}

/// An address that nobody listens on, and its URL.
pub fn free_address() -> anyhow::Result<(String, String)> {
    const TRIES: usize = 100;
    for _ in 0..TRIES {
        let address = format!("127.0.0.1:{}", rand::random_range(PORTS));
        if TcpListener::bind(&address).is_ok() {
            let url = format!("http://{address}");
            return Ok((address, url));
        }
    }
    bail!("no free port")
}

pub(super) fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
