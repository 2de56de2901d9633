//! The four services over loopback HTTP, started and stopped in order.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use audit_client::AuditClient;
use audit_service::{Parts, checkpoint::CheckpointFile, seal::SealKeys, service::system_clock};
use domain::time::Timestamp;
use gateway::{
    Listeners,
    config::{ServiceKey, Settings, UpstreamSettings},
};
use patient_service::Door;
use projections::{
    follower::{self, Progress},
    key_ring::{KeyRing, keks::Keks},
    metrics,
};
use runtime::{health::Readiness, serve::serve, service_keys::Callers};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{config::Options, data_dir::DataDir, stores::Stores};

/// How often the door is asked whether it is ready, until it is.
const READY_POLL: Duration = Duration::from_millis(50);

/// Where the parts of a running system are.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// The public door.
    pub gateway: SocketAddr,
    /// Internal: patients and tests.
    pub patient_service: SocketAddr,
    /// Internal: the ledger.
    pub audit_service: SocketAddr,
    /// Internal: `/metrics`.
    pub metrics: SocketAddr,
}

/// Runs until `shutdown`, then drains from the door inwards. `ready` is called once, when the
/// system answers requests.
pub async fn run(
    options: Options,
    shutdown: CancellationToken,
    ready: impl FnOnce(Addresses) + Send + 'static,
) -> anyhow::Result<()> {
    let data = DataDir::open(&options.data_dir)?;
    let readiness = Readiness::default();
    let stores = match Stores::open(&options, &data, &readiness, &shutdown).await {
        Err(_) if shutdown.is_cancelled() => return Ok(()),
        stores => stores?,
    };
    // Opened only now: nobody would answer before.
    let door = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("cannot listen on {}", options.listen))?;
    data.complete(stores.are_empty().await?)?;

    let (patient_listener, audit_listener) = (loopback().await?, loopback().await?);
    let metrics_listener = TcpListener::bind(options.metrics_listen)
        .await
        .with_context(|| format!("cannot listen on {}", options.metrics_listen))?;
    let addresses = Addresses {
        gateway: door.local_addr()?,
        patient_service: patient_listener.local_addr()?,
        audit_service: audit_listener.local_addr()?,
        metrics: metrics_listener.local_addr()?,
    };
    let door_url = format!("{}://{}", options.door.scheme(), addresses.gateway);
    write_addresses(&data, &door_url, addresses)?;

    let mut system = System::default();
    let audit = audit_client(&data, addresses, "patient-service")?;
    let follower_audit = audit_client(&data, addresses, "projections")?;
    let ring = KeyRing::new(stores.keys.clone(), keks(&data)?);
    ring.check().await?;

    let stop = system.layer();
    let audit_clock = system_clock();
    let parts = Parts {
        store: stores.ledger.clone(),
        signer: data.signer()?,
        seal_keys: SealKeys::new(*data.seal_key()?.key32()?),
        checkpoint_file: CheckpointFile::new(data.checkpoint_file()),
        outside: options.outside.outside(&audit_clock),
        clock: audit_clock,
    };
    let callers = callers(
        &data,
        &["gateway", "patient-service", "projections", "audit", "external", "operator"],
    )?;
    system.spawn("audit-service", async move {
        let parts = async { Ok(parts) };
        Ok(audit_service::run(audit_listener, callers, Readiness::default(), stop, parts).await?)
    });

    let stop = system.layer();
    let deps = follower::Deps {
        store: stores.patients.clone(),
        audit: follower_audit,
        ring: ring.clone(),
        ledger_key: None,
        clock,
    };
    let component = readiness.component("follower");
    let keep_search_criteria = options.keep_search_criteria;
    let following = follower::Options { keep_search_criteria, ..follower::Options::default() };
    let (progress, shown) = watch::channel(Progress::default());
    let showing = metrics::show(shown, deps.audit.clone(), clock);
    system.spawn("follower", async move {
        let follow = follower::follow(deps, following, progress, stop.clone(), component);
        let told = runtime::metrics::process().routes();
        let showing = stop.clone().run_until_cancelled_owned(showing);
        let ((), _, served) = tokio::join!(follow, showing, serve(metrics_listener, told, stop));
        Ok(served?)
    });

    let stop = system.layer();
    let deps = patient_service::Deps {
        audit,
        store: stores.patients,
        ring,
        command_key: data.command_key()?,
        older_command_keys: Vec::new(),
        clock,
    };
    let callers = Arc::new(self::callers(&data, &["gateway"])?);
    system.spawn("patient-service", async move {
        Ok(patient_service::run(patient_listener, Door { callers, readiness }, deps, stop).await?)
    });

    let stop = system.layer();
    let mut settings = gateway_settings(&data, addresses)?;
    settings.edge = options.door.settings();
    settings.oidc = options.oidc.settings();
    let listeners =
        Listeners { public: door, metrics: None, meters: runtime::metrics::process().clone() };
    system.spawn("gateway", async move { Ok(gateway::run(listeners, settings, stop).await?) });

    let announce = announce(door_url, move || ready(addresses));
    system.run(announce, shutdown).await
}

fn gateway_settings(data: &DataDir, addresses: Addresses) -> anyhow::Result<Settings> {
    let upstream = |address: SocketAddr| -> anyhow::Result<UpstreamSettings> {
        let key = ServiceKey::Fixed(data.service_key("gateway")?);
        Ok(UpstreamSettings { url: format!("http://{address}"), key })
    };
    Ok(Settings::new(
        upstream(addresses.patient_service)?,
        upstream(addresses.audit_service)?,
        data.subscriptions(),
        data.pepper()?,
    ))
}

/// The key-encryption key, and the one before while it is rotated.
fn keks(data: &DataDir) -> anyhow::Result<Keks> {
    let previous: Vec<_> = data.previous_kek()?.into_iter().collect();
    Ok(Keks::from_secrets(&data.kek()?, &previous)?)
}

fn callers(data: &DataDir, names: &[&str]) -> anyhow::Result<Callers> {
    let mut keys = Vec::new();
    for name in names {
        keys.push(((*name).to_owned(), data.service_key(name)?));
    }
    Ok(Callers::from_keys(keys)?)
}

fn audit_client(data: &DataDir, addresses: Addresses, name: &str) -> anyhow::Result<AuditClient> {
    let url = format!("http://{}", addresses.audit_service);
    Ok(AuditClient::start(audit_client::Options::new(url, data.service_key(name)?)))
}

/// Internal listeners take free loopback ports; this says which, for the operator's tools.
fn write_addresses(data: &DataDir, door_url: &str, addresses: Addresses) -> anyhow::Result<()> {
    let json = serde_json::json!({
        "gateway": door_url,
        "patientService": format!("http://{}", addresses.patient_service),
        "auditService": format!("http://{}", addresses.audit_service),
        "metrics": format!("http://{}/metrics", addresses.metrics),
    });
    let path = data.path("addresses.json");
    std::fs::write(&path, format!("{json:#}\n"))
        .with_context(|| format!("cannot write {}", path.display()))
}

async fn loopback() -> anyhow::Result<TcpListener> {
    TcpListener::bind("127.0.0.1:0").await.context("no free loopback port")
}

async fn announce(door_url: String, ready: impl FnOnce()) {
    let url = format!("{door_url}/readyz");
    let client = runtime::client::probe_client();
    loop {
        let answer = client.get(&url).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            return ready();
        }
        tokio::time::sleep(READY_POLL).await;
    }
}

/// The machine's clock.
#[allow(clippy::disallowed_methods)]
fn clock() -> Timestamp {
    Timestamp::from(chrono::Utc::now())
}

/// Parts that stop in the reverse order of their start, each only when those that use it have
/// stopped.
#[derive(Default)]
struct System {
    layers: Vec<CancellationToken>,
    parts: Vec<(&'static str, JoinSet<anyhow::Result<()>>)>,
}

impl System {
    /// The token that stops the part spawned next.
    fn layer(&mut self) -> CancellationToken {
        let token = CancellationToken::new();
        self.layers.push(token.clone());
        token
    }

    fn spawn(
        &mut self,
        name: &'static str,
        part: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let mut tasks = JoinSet::new();
        tasks.spawn(part);
        self.parts.push((name, tasks));
    }

    async fn run(
        mut self,
        announce: impl Future<Output = ()> + Send + 'static,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let announcing = tokio::spawn(announce);
        let early = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            ended = first_to_end(&mut self.parts) => ended,
        };
        announcing.abort();
        let mut result = early;
        while let (Some((name, mut tasks)), Some(stop)) = (self.parts.pop(), self.layers.pop()) {
            stop.cancel();
            while let Some(ended) = tasks.join_next().await {
                let ended = ended.context("a task panicked").and_then(|ended| ended);
                result = result.and(ended.with_context(|| format!("{name} failed")));
            }
        }
        result
    }
}

/// A part that ends before it was told to is an error, whatever it returned. A follower that
/// stopped at a broken link keeps the rest running: readiness shows it.
async fn first_to_end(
    parts: &mut [(&'static str, JoinSet<anyhow::Result<()>>)],
) -> anyhow::Result<()> {
    let ends = parts.iter_mut().filter(|(name, _)| *name != "follower").map(|(name, tasks)| {
        Box::pin(async move {
            let ended = tasks.join_next().await.context("nothing to wait for")?;
            ended.context("a task panicked")?.with_context(|| format!("{name} failed"))?;
            anyhow::bail!("{name} ended by itself")
        })
    });
    futures::future::select_all(ends).await.0
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;

    /// How long anything may take.
    const PATIENCE: Duration = Duration::from_mins(1);

    /// Waits until the follower has followed everything.
    async fn follows(door: SocketAddr, key: &str) {
        loop {
            let asked = runtime::client::internal_client()
                .get(format!("http://{door}/audit/activity"))
                .header("ocp-apim-subscription-key", key.trim())
                .send();
            // An accounting is complete, or unavailable.
            if asked.await.unwrap().status().as_u16() == 200 {
                return;
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_door_speaks_tls_when_it_has_a_certificate() {
        let data = tempfile::tempdir().unwrap();
        let names = ["127.0.0.1".to_owned()];
        let certified = rcgen::generate_simple_self_signed(names).unwrap();
        let (cert, key) = (data.path().join("cert.pem"), data.path().join("key.pem"));
        fs::write(&cert, certified.cert.pem()).unwrap();
        fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
        let options = Options::parse_from([
            "standalone".to_owned(),
            "--listen=127.0.0.1:0".to_owned(),
            format!("--data-dir={}", data.path().display()),
            format!("--tls-cert={}", cert.display()),
            format!("--tls-key=file:{}", key.display()),
        ]);
        let shutdown = CancellationToken::new();
        let (announced, addresses) = tokio::sync::oneshot::channel();
        let running = tokio::spawn(run(options, shutdown.clone(), |addresses| {
            announced.send(addresses).unwrap();
        }));
        let addresses = tokio::time::timeout(PATIENCE, addresses).await.unwrap().unwrap();
        let written = fs::read_to_string(data.path().join("addresses.json")).unwrap();
        let url = format!("https://{}", addresses.gateway);
        assert!(written.contains(&url), "{written}");
        let client = runtime::client::probe_client();
        let answer = client.get(format!("{url}/healthz")).send().await.unwrap();
        assert!(answer.headers().contains_key("strict-transport-security"));
        shutdown.cancel();
        tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_embedded_ledger_is_anchored() {
        let (data, anchor) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let location = format!("dir:{}", anchor.path().display());
        let data_dir = data.path().to_str().unwrap();
        let options = Options::parse_from([
            "standalone",
            "--listen=127.0.0.1:0",
            "--data-dir",
            data_dir,
            "--anchor",
            &location,
            "--anchor-every=3600",
        ]);
        let shutdown = CancellationToken::new();
        let (announced, addresses) = tokio::sync::oneshot::channel();
        let running = tokio::spawn(run(options, shutdown.clone(), |addresses| {
            announced.send(addresses).unwrap();
        }));
        let addresses = tokio::time::timeout(PATIENCE, addresses).await.unwrap().unwrap();
        let door = addresses.gateway;
        let key = fs::read_to_string(data.path().join("keys/clinic.key")).unwrap();
        let patient = serde_json::json!({
            "firstName": "JANE",
            "gender": "female",
            "dateOfBirth": "1980-07-01",
            "postCode": "1234",
        });
        let made = runtime::client::internal_client()
            .post(format!("http://{door}/patient"))
            .header("ocp-apim-subscription-key", key.trim())
            .header("content-type", "application/json")
            .body(patient.to_string())
            .send();
        assert_eq!(made.await.unwrap().status().as_u16(), 201);
        let compliance = fs::read_to_string(data.path().join("keys/compliance.key")).unwrap();
        tokio::time::timeout(PATIENCE, follows(door, &compliance)).await.unwrap();
        // What it shows is the process's, and so that of the other tests here, too.
        let url = format!("http://{}/metrics", addresses.metrics);
        let answer = runtime::client::internal_client().get(url).send().await.unwrap();
        let text = answer.text().await.unwrap();
        assert!(text.contains("\nvitalog_follower_in_office "), "{text}");
        shutdown.cancel();
        tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();

        let verifier = fs::read_to_string(data.path().join("ledger.pub")).unwrap();
        let origin = verifier.split('+').next().unwrap();
        let file = fs::read_dir(anchor.path()).unwrap().next().unwrap().unwrap().path();
        let note = fs::read_to_string(&file).unwrap();
        let size: u64 = file.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        assert!(size > 0 && note.starts_with(&format!("{origin}\n{size}\n")), "{note}");
    }
}
