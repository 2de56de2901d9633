//! Adds a client, or gives it another key, and puts the key into the vault; see `terraform/README.md`.

use clap::{Args, Parser, Subcommand};
use domain::ids::Name;
use operator::{
    deployment::VaultOptions,
    subscription::{Change, keep},
};

/// Adds a client, or gives it another key, and puts the key into the vault, where nobody sees it on the way.
#[derive(Debug, Parser)]
#[command(name = "azure-subscription", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Adds a client; its key becomes the secret `subscription-NAME`
    Add(Client),
    /// Gives a client another key, as a new version of the secret
    Rotate(Client),
}

#[derive(Debug, Args)]
struct Client {
    /// The client's name
    name: Name,
    #[command(flatten)]
    vault: VaultOptions,
    /// Passed on to `gateway subscriptions`, such as `-- --scope patient:read`
    #[arg(last = true)]
    rest: Vec<String>,
}

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout)]
async fn main() -> anyhow::Result<()> {
    let cli: Cli = runtime::settings::parse();
    let (change, client) = match cli.command {
        Command::Add(client) => (Change::Add, client),
        Command::Rotate(client) => (Change::Rotate, client),
    };
    let azure = client.vault.azure()?;
    let secret = keep(&azure, change, client.name.as_str(), &client.rest).await?;
    println!("the key is in the vault as {secret}");
    Ok(())
}
