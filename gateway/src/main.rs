//! The gateway's program: composition only.

use anyhow::Context;
use gateway::config::{Cli, Command, Done};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    runtime::crypto::install_tls_provider();
    let cli: Cli = runtime::settings::parse();
    if let Some(Command::Subscriptions(command)) = cli.command {
        let done = command.run().await?;
        show(&done);
        return Ok(());
    }
    runtime::telemetry::init("gateway");
    let shutdown = runtime::shutdown::on_signals();
    let (address, settings) = cli.options.settings()?;
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    tracing::info!(address = %listener.local_addr()?, "gateway is listening");
    gateway::run(listener, settings, shutdown).await?;
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
