//! The gateway's program: composition only.

use std::net::SocketAddr;

use anyhow::Context;
use gateway::Listeners;
use gateway::config::{Cli, Command, Done};
use runtime::listener::Listener;
use tokio::net::TcpListener;

/// Each request allocates some hundred times; the system's allocator takes a tenth of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    runtime::crypto::install_tls_provider();
    let cli: Cli = runtime::settings::parse();
    runtime::telemetry::init("gateway");
    if let Some(Command::Subscriptions(command)) = cli.command {
        command.harden(cli.options.overrides())?;
        let done = command.run().await?;
        show(&done);
        return Ok(());
    }
    let shutdown = runtime::shutdown::on_signals();
    let metrics = cli.options.metrics_listen()?;
    let (address, settings) = cli.options.settings()?;
    let public = listen(address).await?;
    let metrics = match metrics {
        Some((address, peers)) => Some(Listener::new(listen(address).await?, peers)),
        None => None,
    };
    tracing::info!(address = %public.local_addr()?, "gateway is listening");
    gateway::run(Listeners { public, metrics }, settings, shutdown).await?;
    Ok(())
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
