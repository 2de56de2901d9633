//! What each subcommand composes. Results go to standard output as one line of JSON.

use std::fs;

use anyhow::Context;
use audit_client::{AuditClient, Options};
use audit_verify::checkpoint::LedgerKey;
use domain::time::Timestamp;
use projections::{
    config::{FollowArgs, LedgerArgs, SourceArgs, StatusArgs, StoreArgs},
    digest,
    follower::{self, Deps, Progress},
    open::{open_key_ring, open_projection_store, until_open},
    status,
};
use runtime::{
    health::{self, Readiness},
    serve::serve,
};
use serde::Serialize;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

pub(crate) async fn follow(args: FollowArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let readiness = Readiness::default();
    let component = readiness.component("follower");
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let serving =
        tokio::spawn(serve(listener, health::routes(readiness.clone()), shutdown.clone()));
    match deps(&args.sources, &readiness, &shutdown).await {
        Ok(deps) => {
            let (progress, _) = watch::channel(Progress::default());
            follower::follow(deps, progress, shutdown.clone(), component).await;
        }
        Err(_) if shutdown.is_cancelled() => {}
        Err(error) => return Err(error),
    }
    // A follower that stopped for good leaves the process alive and not ready, for all to see.
    serving.await??;
    Ok(())
}

pub(crate) async fn rebuild(args: SourceArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let deps = deps(&args, &Readiness::default(), &shutdown).await?;
    show(&projections::rebuild::rebuild(&deps, &shutdown).await?)
}

pub(crate) async fn status(args: StatusArgs) -> anyhow::Result<()> {
    let store = open_projection_store(&args.store.store, &args.store.database_prefix).await?;
    let (audit, key) = ledger(&args.ledger)?;
    show(&status::status(store.as_ref(), &audit, key, now()).await?)
}

pub(crate) async fn digest(args: StoreArgs) -> anyhow::Result<()> {
    let store = open_projection_store(&args.store, &args.database_prefix).await?;
    let generation = store.serving().await?;
    let digest = digest::digest(store.as_ref(), generation).await?;
    show(&serde_json::json!({
        "generation": generation.0,
        "digest": digest.hash,
        "patients": digest.patients,
        "tests": digest.tests,
        "erasures": digest.erasures,
    }))
}

async fn deps(
    args: &SourceArgs,
    readiness: &Readiness,
    shutdown: &CancellationToken,
) -> anyhow::Result<Deps> {
    let StoreArgs { store, database_prefix: prefix } = &args.store;
    let (audit, ledger_key) = ledger(&args.ledger)?;
    let (models, keys) = ("projection store", "key store");
    let (models_ready, keys_ready) = (readiness.component(models), readiness.component(keys));
    let opened =
        until_open(models, &models_ready, shutdown, || open_projection_store(store, prefix));
    let opened = opened.await.with_context(|| format!("{models} {store}"))?;
    let ring =
        until_open(keys, &keys_ready, shutdown, || open_key_ring(&args.keys, prefix, &args.kek));
    let ring = ring.await.with_context(|| format!("{keys} {}", args.keys))?;
    Ok(Deps { store: opened, audit, ring, ledger_key, clock: now })
}

fn ledger(args: &LedgerArgs) -> anyhow::Result<(AuditClient, Option<LedgerKey>)> {
    let key = args.audit_key.load().context("--audit-key")?;
    let pinned = args.ledger_pub.as_ref().map(|path| {
        let text = fs::read_to_string(path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        text.parse().with_context(|| path.display().to_string())
    });
    let client = AuditClient::start(Options::new(args.audit_url.as_str(), key));
    Ok((client, pinned.transpose()?))
}

#[allow(clippy::disallowed_methods)]
fn now() -> Timestamp {
    Timestamp::from(chrono::Utc::now())
}

#[allow(clippy::print_stdout)]
fn show(value: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}
