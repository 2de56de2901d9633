//! The read models as a program.

mod commands;

use std::process::ExitCode;

use projections::config::{Cli, Command};
use runtime::{
    crypto, settings, shutdown,
    telemetry::{self, Telemetry},
};

/// A failure; 1 is the answer that something is not as it was asked for.
const FAILED: u8 = 2;

#[tokio::main]
#[allow(clippy::print_stderr)]
async fn main() -> ExitCode {
    let cli: Cli = settings::parse();
    crypto::install_tls_provider();
    let telemetry = if let Command::Follow(args) = &cli.command {
        telemetry::init("projections", &args.telemetry)
    } else {
        telemetry::logs("projections");
        Telemetry::default()
    };
    let code = run(cli).await.unwrap_or_else(|error| {
        eprintln!("Error: {error:?}");
        FAILED.into()
    });
    telemetry.finish().await;
    code
}

async fn run(Cli { command, overrides }: Cli) -> anyhow::Result<ExitCode> {
    // The follower looks at its settings when its health can be asked for.
    if !matches!(command, Command::Follow(_)) {
        command.harden(&overrides)?;
    }
    let shutdown = shutdown::on_signals();
    match command {
        Command::Follow(args) => commands::follow(args.into(), overrides, shutdown).await?,
        Command::Rebuild(args) => return commands::rebuild(*args, shutdown).await,
        Command::Status(args) => commands::status(*args).await?,
        Command::Digest(args) => commands::digest(args).await?,
        Command::Generations(command) => commands::generations(command, shutdown).await?,
        Command::Park(command) => return commands::park::park(command).await,
    }
    Ok(ExitCode::SUCCESS)
}
