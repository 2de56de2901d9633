//! The read models as a program.

mod commands;

use std::process::ExitCode;

use projections::config::{Cli, Command};
use runtime::{crypto, settings, shutdown, telemetry};

/// A failure; 1 is the answer that something is not as it was asked for.
const FAILED: u8 = 2;

#[tokio::main]
#[allow(clippy::print_stderr)]
async fn main() -> ExitCode {
    let cli: Cli = settings::parse();
    telemetry::init("projections");
    crypto::install_tls_provider();
    run(cli).await.unwrap_or_else(|error| {
        eprintln!("Error: {error:?}");
        FAILED.into()
    })
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
