//! The audit service as a program.

use anyhow::Context;
use audit_service::{
    config::{Cli, Command, ServeArgs},
    rotate_key::{RotateKeyArgs, Rotated},
};
use runtime::{crypto, hardening::Overrides, health::Readiness, settings, shutdown, telemetry};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli: Cli = settings::parse();
    telemetry::init("audit-service");
    match cli.command {
        Command::Keygen(args) => Ok(args.run()?),
        Command::RotateKey(args) => rotate_key(&args, &cli.overrides).await,
        Command::Serve(args) => serve(*args, &cli.overrides).await,
    }
}

async fn serve(args: ServeArgs, overrides: &Overrides) -> anyhow::Result<()> {
    crypto::install_tls_provider();
    let shutdown = shutdown::on_signals();
    let peers = args.harden(overrides)?;
    let readiness = Readiness::default();
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let listener = args.peers.listener(listener, peers)?;
    let callers = args.callers(&shutdown)?;
    let parts = args.parts(&readiness, &shutdown);
    Ok(audit_service::run(listener, callers, readiness.clone(), shutdown.clone(), parts).await?)
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
