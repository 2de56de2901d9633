//! Makes and rotates the secrets of a deployment on Azure; see `terraform/README.md`.

use std::time::Duration;

use clap::{Parser, Subcommand};
use operator::{
    deployment::{DeploymentOptions, VaultOptions},
    make,
    names::{self, Rotated, Successor},
    rotate,
};

/// Makes and rotates the secrets of a deployment on Azure. Values go to the vault and nowhere else.
#[derive(Debug, Parser)]
#[command(name = "azure-secrets", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The names of all secrets that `ensure` makes
    Names,
    /// The secrets that there are: name, whether it can be read, when it is to be replaced
    List {
        #[command(flatten)]
        vault: VaultOptions,
    },
    /// Makes every secret that is missing; what is there stays
    Ensure {
        #[command(flatten)]
        vault: VaultOptions,
        #[command(flatten)]
        deployment: DeploymentOptions,
    },
    /// Makes the next key of a kind (such as kek-2 or ledger-key-2), beside the one in use
    Make {
        /// kek-N, seal-key-N, command-key-N, pepper-N or ledger-key-N
        name: Successor,
        #[command(flatten)]
        vault: VaultOptions,
        #[command(flatten)]
        deployment: DeploymentOptions,
    },
    /// Replaces a service key (such as gateway-to-audit) or a database's password (such as ledger-store)
    Rotate {
        /// The secret
        name: Rotated,
        #[command(flatten)]
        vault: VaultOptions,
        #[command(flatten)]
        deployment: DeploymentOptions,
        /// Seconds until each service has certainly read what was written: it looks each minute
        #[arg(long, value_name = "SECONDS", default_value_t = 180, value_parser = clap::value_parser!(u64).range(..=3600))]
        pause: u64,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let cli: Cli = runtime::settings::parse();
    let lines = match cli.command {
        Command::Names => names::ensured(),
        Command::List { vault } => {
            let line = |it: operator::azure::Listed| {
                let state = if it.enabled { "enabled" } else { "disabled" };
                format!("{}\t{state}\t{}", it.name, it.expires.as_deref().unwrap_or("-"))
            };
            vault.azure()?.list().await?.into_iter().map(line).collect()
        }
        Command::Ensure { vault, deployment } => {
            let made = make::ensure(&vault.azure()?, &deployment).await?;
            let done = format!("{} made, the others were there", made.len());
            made.iter().map(|name| format!("made {name}")).chain([done]).collect()
        }
        Command::Make { name, vault, deployment } => {
            let made = make::successor(&vault.azure()?, &deployment.ledger_origin, &name).await?;
            made.iter().map(|name| format!("made {name}")).collect()
        }
        Command::Rotate { name, vault, deployment, pause } => {
            let pause = Duration::from_secs(pause);
            let written = rotate::rotate(&vault.azure()?, &deployment, name, pause).await?;
            written.iter().map(|name| format!("wrote {name}")).collect()
        }
    };
    say(&lines);
    Ok(())
}

/// Names, never values.
#[allow(clippy::print_stdout)]
fn say(lines: &[String]) {
    for line in lines {
        println!("{line}");
    }
}
