//! What each subcommand composes. Results go to standard output as one line of JSON.

pub(crate) mod park;

use std::{fs, process::ExitCode, sync::Arc};

use anyhow::Context;
use audit_client::{AuditClient, Options};
use audit_verify::checkpoint::LedgerKey;
use axum::Router;
use domain::time::Timestamp;
use projections::{
    config::{
        ActivateArgs, DigestArgs, FollowArgs, GenerationsCommand, LedgerArgs, RebuildArgs,
        SourceArgs, StatusArgs, StoreArgs,
    },
    digest,
    documents::Generation,
    follower::{self, Deps, Progress},
    generations, metrics,
    open::{inspect_projection_store, open_key_ring, open_projection_store, until_open},
    rebuild::{self, Pace, Then, Until},
    status,
    store::ProjectionStore,
};
use runtime::{
    gate::Gate, hardening::Overrides, health::Readiness, secrets::loading, serve::serve,
};
use serde::Serialize;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

/// The answer that documents differ; failures have another code.
const DIFFERENT: u8 = 1;

pub(crate) async fn follow(
    args: Arc<FollowArgs>,
    overrides: Overrides,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let peers = args.peers(&overrides)?;
    let (readiness, gate) = (Readiness::default(), Gate::new("projections"));
    let component = readiness.component("follower");
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let tls = Arc::clone(&args);
    let listener = move || tls.peers.listener(listener, peers);
    // Nobody can ask for readiness yet.
    let listener = loading(&Readiness::default(), &shutdown, listener).await?;
    let Some(listener) = listener else { return Ok(()) };
    let health = gate.router(readiness.clone());
    let serving = tokio::spawn(serve(listener, health, shutdown.clone()));
    let secrets = Arc::clone(&args);
    let load = move || {
        secrets.harden(&overrides)?;
        // What is loaded again below is at hand then.
        anyhow::Ok(secrets.sources.ledger.client_tls.client().map(drop)?)
    };
    if loading(&readiness, &shutdown, load).await?.is_none() {
        return Ok(serving.await??);
    }
    let (progress, shown) = watch::channel(Progress::default());
    let (audit, _) = ledger(&args.sources.ledger)?;
    gate.open(Router::new());
    let showing = CancellationToken::new();
    let _shown = showing.clone().drop_guard();
    tokio::spawn(showing.run_until_cancelled_owned(metrics::show(shown, audit, now)));
    let keep_search_criteria = args.keep_search_criteria;
    let options = follower::Options { keep_search_criteria, ..follower::Options::default() };
    match deps(&args.sources, &readiness, &shutdown).await {
        Ok(deps) => follower::follow(deps, options, progress, shutdown.clone(), component).await,
        Err(_) if shutdown.is_cancelled() => {}
        Err(error) => return Err(error),
    }
    // A follower that stopped for good leaves the process alive and not ready, for all to see.
    serving.await??;
    Ok(())
}

/// Exit code 1 where documents differ and that was the question.
pub(crate) async fn rebuild(
    args: RebuildArgs,
    shutdown: CancellationToken,
) -> anyhow::Result<ExitCode> {
    let deps = deps(&args.sources, &Readiness::default(), &shutdown).await?;
    let then = match (args.dry_run, args.require_equal) {
        (true, _) => Then::Drop,
        (_, true) => Then::ServeIfEqual,
        _ => Then::Serve,
    };
    let options = rebuild::Options {
        until: args.until_seq.map(Until::Seq).or(args.until_time.map(Until::Time)),
        fresh: args.fresh,
        then,
        bar: true,
        ..rebuild::Options::default()
    };
    let summary = rebuild::rebuild(&deps, &options, &shutdown).await?;
    show(&summary)?;
    Ok(if then != Then::Serve && !summary.differences.is_empty() {
        DIFFERENT.into()
    } else {
        ExitCode::SUCCESS
    })
}

pub(crate) async fn status(args: StatusArgs) -> anyhow::Result<()> {
    let store = open(&args.store).await?;
    let (audit, key) = ledger(&args.ledger)?;
    let size = status::ledger_size(&audit, key).await;
    // What the store says is worth seeing just where the ledger says nothing.
    show(&status::status(store.as_ref(), size.as_ref().ok().copied(), now()).await?)?;
    size.map(|_| ()).context("the ledger")
}

pub(crate) async fn digest(args: DigestArgs) -> anyhow::Result<()> {
    let store = open(&args.store).await?;
    let generation = match args.generation {
        Some(number) => Generation(number),
        None => store.serving().await?,
    };
    let digest = digest::digest(store.as_ref(), generation).await?;
    let up_to = store.position(generation).await?.map_or(0, |position| position.next_seq);
    let activity = digest::activity_digest(store.as_ref(), generation, up_to).await?;
    show(&serde_json::json!({
        "generation": generation.0,
        "digest": digest.hash,
        "patients": digest.patients,
        "tests": digest.tests,
        "erasures": digest.erasures,
        "activity": activity,
    }))
}

pub(crate) async fn generations(
    command: GenerationsCommand,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let pace = Pace::default();
    match command {
        GenerationsCommand::List(args) => {
            let store = open(&args).await?;
            status::list(store.as_ref(), None, now()).await?.iter().try_for_each(show)
        }
        GenerationsCommand::Activate(args) => {
            let ActivateArgs { generation, now, sources } = *args;
            let deps = deps(&sources, &Readiness::default(), &shutdown).await?;
            let generation = Generation(generation);
            show(&generations::activate(&deps, generation, now, &pace, &shutdown).await?)
        }
        GenerationsCommand::Drop(args) => {
            let store = open(&args.store).await?;
            generations::drop(store.as_ref(), Generation(args.generation), &pace, &shutdown)
                .await?;
            show(&serde_json::json!({ "dropped": args.generation }))
        }
    }
}

async fn open(args: &StoreArgs) -> anyhow::Result<Arc<dyn ProjectionStore>> {
    Ok(inspect_projection_store(&args.store, &args.database_prefix).await?)
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
    let http = args.client_tls.client()?;
    let options = Options { http, ..Options::new(args.audit_url.as_str(), key) };
    let client = AuditClient::start(options);
    client.keep_reading_key(args.audit_key.clone());
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
