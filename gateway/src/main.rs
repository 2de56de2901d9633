//! The gateway's program: composition only.

use std::net::SocketAddr;

use anyhow::Context;
use gateway::config::{Cli, Command, Done};
use gateway::{Listeners, run_once_loaded};
use runtime::health::Readiness;
use runtime::listener::Listener;
use runtime::metrics;
use runtime::secrets::loading;
use runtime::telemetry;
use tokio::net::TcpListener;

/// Each request allocates some hundred times; the system's allocator takes a tenth of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    runtime::crypto::install_tls_provider();
    let cli: Cli = runtime::settings::parse();
    if let Some(Command::Subscriptions(command)) = cli.command {
        telemetry::logs("gateway");
        command.harden(cli.options.overrides())?;
        let done = command.run().await?;
        show(&done);
        return Ok(());
    }
    let telemetry = telemetry::init("gateway", &cli.options.telemetry);
    let shutdown = runtime::shutdown::on_signals();
    let metrics_listen = cli.options.metrics_listen()?;
    let (address, edge) = cli.options.door();
    let public = listen(address).await?;
    let scraped = match metrics_listen {
        Some((address, peers)) => Some(Listener::new(listen(address).await?, peers)),
        None => None,
    };
    tracing::info!(address = %public.local_addr()?, "gateway is listening");
    let meters = metrics::process().clone();
    let (listeners, readiness) =
        (Listeners { public, metrics: scraped, meters }, Readiness::default());
    let (loaded, told) = (readiness.clone(), shutdown.clone());
    let settings = loading(&loaded, &told, move || cli.options.settings());
    let served = run_once_loaded(listeners, edge, readiness, settings, shutdown).await;
    telemetry.finish().await;
    Ok(served?)
}

/// The one place where a key is shown, and only once: the store holds its digest alone.
#[allow(clippy::print_stdout, clippy::print_stderr)]
fn show(done: &Done) {
    if !done.note.is_empty() {
        eprintln!("{}", done.note);
    }
    if !done.output.is_empty() {
        println!("{}", done.output);
    }
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}
