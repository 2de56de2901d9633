//! The audit service as a program.

use std::sync::Arc;

use anyhow::Context;
use audit_service::{
    config::{Cli, Command, ServeArgs},
    rotate_key::{RotateKeyArgs, Rotated},
};
use runtime::{
    crypto, hardening::Overrides, health::Readiness, secrets, service_keys::Callers, settings,
    shutdown, telemetry,
};
use tokio::net::TcpListener;

/// The name of the service in logs, traces and metrics.
const NAME: &str = "audit-service";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli: Cli = settings::parse();
    match cli.command {
        Command::Keygen(args) => {
            telemetry::logs(NAME);
            Ok(args.run()?)
        }
        Command::RotateKey(args) => {
            telemetry::logs(NAME);
            rotate_key(&args, &cli.overrides).await
        }
        Command::Serve(args) => {
            crypto::install_tls_provider();
            let telemetry = telemetry::init(NAME, &args.telemetry);
            let served = serve(*args, cli.overrides).await;
            telemetry.finish().await;
            served
        }
    }
}

async fn serve(args: ServeArgs, overrides: Overrides) -> anyhow::Result<()> {
    let shutdown = shutdown::on_signals();
    let args = Arc::new(args);
    let peers = args.peers(&overrides)?;
    let (readiness, callers) = (Readiness::default(), Callers::default());
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let tls = Arc::clone(&args);
    let listener = move || tls.peers.listener(listener, peers);
    // Nobody can ask for readiness yet.
    let listener = secrets::loading(&Readiness::default(), &shutdown, listener).await?;
    let Some(listener) = listener else { return Ok(()) };
    let (parts, stop) = (args.parts(overrides, &callers, &readiness, &shutdown), shutdown.clone());
    Ok(audit_service::run(listener, callers.clone(), readiness.clone(), stop, parts).await?)
}

#[allow(clippy::print_stdout)]
async fn rotate_key(args: &RotateKeyArgs, overrides: &Overrides) -> anyhow::Result<()> {
    crypto::install_tls_provider();
    args.harden(overrides)?;
    let Rotated { key, receipt } = args.run().await?;
    match receipt {
        Some(receipt) => println!("rotated: {}", receipt.header_value()),
        None => println!("nothing to do: this key signs already"),
    }
    println!("{key}");
    Ok(())
}
