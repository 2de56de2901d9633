//! Which processes a system has, and what each is told.

use std::net::TcpListener;

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
    /// Replicas of patient-service, and as many of audit-service, each for one of the other.
    pub replicas: usize,
    /// Whether `projections follow` runs from the start.
    pub follower: bool,
}

impl Layout {
    /// Two replicas on the MongoDB that all tests share.
    pub async fn shared() -> Self {
        let mongo = mongod::uri().await.to_owned();
        Self { mongo, patients_store: None, replicas: 2, follower: true }
    }
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
        let mut patient_urls = Vec::new();
        let mut audit_urls = Vec::new();
        for number in 0..layout.replicas {
            let (recipe, url) = self.audit_service(number, layout)?;
            self.recipes.insert(format!("audit-service-{number}"), recipe);
            let proxy = TcpProxy::start(url.trim_start_matches("http://")).await?;
            let through_proxy = format!("http://{}", proxy.address());
            audit_urls.push(url);
            self.to_audit.push(proxy);
            let (recipe, url) = self.patient_service(&through_proxy, layout)?;
            self.recipes.insert(format!("patient-service-{number}"), recipe);
            patient_urls.push(url);
        }
        let balancer = Balancer::start(patient_urls.clone()).await?;
        let subscriptions = self.data().join("subscriptions.toml").display().to_string();
        let (recipe, url) = self.gateway(&balancer.url(), &audit_urls[0], &subscriptions)?;
        self.recipes.insert("gateway".to_owned(), recipe);
        // The last replica, so that the door and the follower ask different ones.
        let audit_of_follower = audit_urls.last().context("a replica")?;
        if layout.follower {
            let recipe = self.follower(audit_of_follower)?;
            self.recipes.insert("projections".to_owned(), recipe);
        }
        self.addresses = Addresses {
            gateway: url,
            patient_service: patient_urls[0].clone(),
            audit_service: audit_urls[0].clone(),
        };
        self.balancer = Some(balancer);
        Ok(())
    }

    fn audit_service(&self, number: usize, layout: &Layout) -> anyhow::Result<(Recipe, String)> {
        let (listen, url) = free_address()?;
        // Each replica remembers the ledger's end for itself, as on a machine of its own.
        let checkpoint = self.data().join(format!("audit-service-{number}.checkpoint"));
        let checkpoint = checkpoint.display().to_string();
        let mut arguments = strings(&["serve", "--listen", &listen, "--store", &layout.mongo]);
        arguments.extend(strings(&["--checkpoint-file", &checkpoint]));
        arguments.extend(strings(&["--database-prefix", &self.prefix]));
        arguments.extend([format!("--signing-key={}", self.secret("ledger"))]);
        arguments.extend([format!("--seal-key={}", self.secret("seal"))]);
        for caller in ["gateway", "patient-service", "projections", "external", "operator"] {
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
        arguments.push(format!("--caller=gateway={}", self.secret("service-gateway")));
        arguments.push(format!("--audit-key={}", self.secret("service-patient-service")));
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
        let key = self.secret("service-gateway");
        let mut arguments = strings(&["--listen", &listen, "--subscriptions", subscriptions]);
        arguments.extend(strings(&["--database-prefix", &self.prefix]));
        arguments.extend(strings(&["--patient-url", patient, "--patient-key", &key]));
        arguments.extend(strings(&["--audit-url", audit, "--audit-key", &key]));
        arguments.push(format!("--pepper={}", self.secret("pepper")));
        Ok((Recipe { program: "gateway", arguments, url: Some(url.clone()) }, url))
    }

    pub(super) fn follower(&self, audit: &str) -> anyhow::Result<Recipe> {
        let (listen, url) = free_address()?;
        let mut arguments = strings(&["follow", "--listen", &listen]);
        arguments.extend(self.sources(audit));
        Ok(Recipe { program: "projections", arguments, url: Some(url) })
    }

    /// What `projections` is told about ledger, read models and keys.
    pub(super) fn sources(&self, audit: &str) -> Vec<String> {
        let mut arguments = strings(&["--audit-url", audit]);
        arguments.push(format!("--audit-key={}", self.secret("service-projections")));
        arguments.push(format!("--keys={}", self.location("keys.db")));
        arguments.push(format!("--kek={}", self.secret("kek")));
        arguments.extend(self.read_models());
        arguments
    }

    pub(super) fn read_models(&self) -> Vec<String> {
        let store = self.location("patients.db");
        strings(&["--store", &store, "--database-prefix", &self.prefix])
    }

    fn location(&self, file: &str) -> String {
        match &self.store {
            Store::Sqlite => format!("sqlite:{}", self.data().join(file).display()),
            Store::Mongo(uri) => uri.clone(),
        }
    }

    pub(super) fn secret(&self, name: &str) -> String {
        format!("file:{}", self.data().join("secrets").join(format!("{name}.key")).display())
    }
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
