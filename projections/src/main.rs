//! The read models as a program.

mod commands;

use projections::config::{Cli, Command};
use runtime::{crypto, settings, shutdown, telemetry};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli: Cli = settings::parse();
    telemetry::init("projections");
    crypto::install_tls_provider();
    let shutdown = shutdown::on_signals();
    match cli.command {
        Command::Follow(args) => commands::follow(*args, shutdown).await,
        Command::Rebuild(args) => commands::rebuild(*args, shutdown).await,
        Command::Status(args) => commands::status(*args).await,
        Command::Digest(args) => commands::digest(args).await,
        Command::Park(command) => commands::park::park(command).await,
    }
}
