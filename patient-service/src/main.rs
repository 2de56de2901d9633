//! The patient service as a program.

use std::sync::Arc;

use anyhow::{Context, ensure};
use patient_service::{
    Door,
    config::{Cli, Settings},
    keys::KeysCommand,
    run_once_connected,
};
use runtime::{
    crypto, hardening::Overrides, health::Readiness, secrets, settings, shutdown, telemetry,
};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match settings::parse() {
        Cli::Serve(settings) => serve(*settings).await,
        Cli::Keys(command, overrides) => keys(&command, &overrides).await,
    }
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    crypto::install_tls_provider();
    let telemetry = telemetry::init("patient-service", &settings.telemetry);
    let served = listen(settings).await;
    telemetry.finish().await;
    served
}

async fn listen(settings: Settings) -> anyhow::Result<()> {
    let shutdown = shutdown::on_signals();
    let (settings, door) = (Arc::new(settings), Door::default());
    let peers = settings.peers()?;
    let listener = TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("cannot listen on {}", settings.listen))?;
    tracing::info!(address = %listener.local_addr()?, "patient-service is listening");
    let tls = Arc::clone(&settings);
    let listener = move || tls.peers.listener(listener, peers);
    // Nobody can ask for readiness yet.
    let listener = secrets::loading(&Readiness::default(), &shutdown, listener).await?;
    let Some(listener) = listener else { return Ok(()) };
    let connect = settings.connect(&door, &shutdown);
    Ok(run_once_connected(listener, door.clone(), connect, shutdown.clone()).await?)
}

/// The result goes to standard output, the progress to standard error.
#[allow(clippy::print_stdout, clippy::print_stderr)]
async fn keys(command: &KeysCommand, overrides: &Overrides) -> anyhow::Result<()> {
    telemetry::logs("patient-service");
    crypto::install_tls_provider();
    command.harden(overrides)?;
    let show = |progress: &projections::key_ring::rotation::Progress| {
        eprintln!("{} of {} keys wrapped anew", progress.rewrapped, progress.found);
    };
    let shown = command.run(show).await?;
    println!("{}", serde_json::to_string(&shown)?);
    let corrupt = shown.corrupt();
    ensure!(corrupt == 0, "{corrupt} keys do not unwrap: they were changed in the key store");
    Ok(())
}
