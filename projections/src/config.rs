//! Settings of the `projections` program, from flags and environment; their only reader.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use domain::ids::Name;
use runtime::{secrets::SecretRef, store_location::StoreLocation};

/// The read models: follow the ledger, rebuild, inspect.
#[derive(Debug, Parser)]
#[command(name = "projections", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Follow the ledger into the read models that serve, until told to stop.
    Follow(Box<FollowArgs>),
    /// Make the read models anew from the ledger, verify it, and let them serve.
    Rebuild(Box<SourceArgs>),
    /// Show which generation serves and how far it is behind the ledger.
    Status(Box<StatusArgs>),
    /// Show the digest of the generation that serves.
    Digest(StoreArgs),
}

/// Options of `follow`.
#[derive(Debug, Args)]
pub struct FollowArgs {
    /// Address of the health endpoints.
    #[arg(long, env = "VITALOG_PROJECTIONS_LISTEN", default_value = "127.0.0.1:7073")]
    pub listen: SocketAddr,
    /// Ledger, read models and keys.
    #[command(flatten)]
    pub sources: SourceArgs,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The ledger.
    #[command(flatten)]
    pub ledger: LedgerArgs,
    /// The read models.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Ledger, read models and keys.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// The ledger.
    #[command(flatten)]
    pub ledger: LedgerArgs,
    /// The read models.
    #[command(flatten)]
    pub store: StoreArgs,
    /// The key ring's store: sqlite:PATH, mongodb://…, or a reference to such a URI.
    #[arg(long, env = "VITALOG_KEYS_STORE", hide_env_values = true)]
    pub keys: StoreLocation,
    /// The key-encryption key, 32 bytes, hexadecimal or base64: REF, or `REF,OTHER_REF` while it
    /// is rotated. The first wraps new keys, the others only unwrap.
    #[arg(long, env = "VITALOG_KEK", value_name = "REF", value_delimiter = ',', required = true)]
    pub kek: Vec<SecretRef>,
}

/// How to reach the ledger.
#[derive(Debug, Args)]
pub struct LedgerArgs {
    /// Address of audit-service.
    #[arg(long, env = "VITALOG_AUDIT_URL", default_value = "http://127.0.0.1:7072")]
    pub audit_url: String,
    /// This program's key for audit-service.
    #[arg(long, env = "VITALOG_AUDIT_KEY", value_name = "REF")]
    pub audit_key: SecretRef,
    /// File with the ledger's verifier key; without it the one that audit-service shows counts.
    #[arg(long, env = "VITALOG_LEDGER_PUB", value_name = "PATH")]
    pub ledger_pub: Option<PathBuf>,
}

/// The read models.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// The read models' store: sqlite:PATH, mongodb://…, or a reference to such a URI.
    #[arg(long, env = "VITALOG_PATIENTS_STORE", hide_env_values = true)]
    pub store: StoreLocation,
    /// Databases on MongoDB are called `PREFIX_patients` and `PREFIX_keys`.
    #[arg(long, env = "VITALOG_DATABASE_PREFIX", default_value = "vitalog")]
    pub database_prefix: Name,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_password_is_not_repeated() {
        let parse = |store| Cli::try_parse_from(["projections", "digest", "--store", store]);
        let error = parse("postgres://user:canary@host/").unwrap_err();
        let text = runtime::settings::without_value(error).to_string();
        assert!(text.contains("--store") && !text.contains("canary"), "{text}");
        let cli = parse("mongodb://user:canary@host/").unwrap();
        assert!(!format!("{cli:?}").contains("canary"));
    }
}
