//! Settings of the `projections` program, from flags and environment; their only reader.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use domain::{
    ids::{Name, PatientId},
    time::Timestamp,
};
use runtime::{
    client::ClientTlsArgs,
    hardening::{Insecure, Overrides, PeerArgs},
    listener::Peers,
    secrets::SecretRef,
    store_location::StoreLocation,
    telemetry::TelemetryArgs,
};

use crate::follower::KEEP_SEARCH_CRITERIA;

/// The read models: follow the ledger, rebuild, inspect.
#[derive(Debug, Parser)]
#[command(name = "projections", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What to accept though it is insecure.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// What the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Follow the ledger into the read models that serve, until told to stop.
    Follow(Box<FollowArgs>),
    /// Make the read models anew from the ledger, verify it, and let them serve.
    Rebuild(Box<RebuildArgs>),
    /// Show which generation serves and how far it is behind the ledger.
    Status(Box<StatusArgs>),
    /// Show the digest of a generation.
    Digest(DigestArgs),
    /// List generations, let another one serve, or drop one.
    #[command(subcommand)]
    Generations(GenerationsCommand),
    /// Show streams that are not followed, or have them tried again.
    #[command(subcommand)]
    Park(ParkCommand),
}

/// What to do with generations.
#[derive(Debug, Subcommand)]
pub enum GenerationsCommand {
    /// Show each on a line of its own, as the store alone has it.
    List(StoreArgs),
    /// Bring a complete generation up to the ledger and let it serve.
    Activate(Box<ActivateArgs>),
    /// Drop one that is not in use.
    Drop(DropArgs),
}

/// Options of `rebuild`.
#[derive(Debug, Args)]
pub struct RebuildArgs {
    /// Build the state as of this record, keep it, and do not let it serve.
    #[arg(long, value_name = "SEQ", conflicts_with_all = ["until_time", "dry_run", "require_equal"])]
    pub until_seq: Option<u64>,
    /// Build the state as of this time, such as 2026-11-23T08:15:30.123Z.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["dry_run", "require_equal"])]
    pub until_time: Option<Timestamp>,
    /// Drop what unfinished builds left and begin anew.
    #[arg(long)]
    pub fresh: bool,
    /// Name the documents that differ from those that serve, and drop what was built. Exit code
    /// 1 where there are any.
    #[arg(long)]
    pub dry_run: bool,
    /// Let it serve only if no document differs; else keep it. Exit code 1 where some do.
    #[arg(long, conflicts_with = "dry_run")]
    pub require_equal: bool,
    /// Ledger, read models and keys.
    #[command(flatten)]
    pub sources: SourceArgs,
}

/// Options of `digest`.
#[derive(Debug, Args)]
pub struct DigestArgs {
    /// The generation; without it the one that serves.
    #[arg(long, value_name = "N")]
    pub generation: Option<u32>,
    /// The read models.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Options of `generations activate`.
#[derive(Debug, Args)]
pub struct ActivateArgs {
    /// The generation.
    pub generation: u32,
    /// Let it serve at once, behind as it is; the follower brings what is missing.
    #[arg(long)]
    pub now: bool,
    /// Ledger, read models and keys.
    #[command(flatten)]
    pub sources: SourceArgs,
}

/// Options of `generations drop`.
#[derive(Debug, Args)]
pub struct DropArgs {
    /// The generation.
    pub generation: u32,
    /// The read models.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// What can be done about parked streams.
#[derive(Debug, Subcommand)]
pub enum ParkCommand {
    /// Show the parked streams of the generation that serves, one line of JSON each.
    List(StoreArgs),
    /// Have the follower try parked streams again, and show what became of each, one line of JSON
    /// each. Fails where one is still parked or no follower took it up.
    Retry(ParkRetryArgs),
}

/// Options of `park retry`.
#[derive(Debug, Args)]
pub struct ParkRetryArgs {
    /// The patients whose streams to try; without any, all.
    #[arg(value_name = "PATIENT")]
    pub patients: Vec<PatientId>,
    /// How long to wait for the follower.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub wait: u64,
    /// The read models.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Options of `follow`.
#[derive(Debug, Args)]
pub struct FollowArgs {
    /// Address of the health endpoints and of `/metrics`.
    #[arg(long, env = "VITALOG_PROJECTIONS_LISTEN", default_value = "127.0.0.1:7073")]
    pub listen: SocketAddr,
    /// Whose connections are taken.
    #[command(flatten)]
    pub peers: PeerArgs,
    /// Months for which search criteria can be read; then their key is destroyed. 0 keeps them.
    #[arg(
        long,
        env = "VITALOG_KEEP_SEARCH_CRITERIA",
        value_name = "MONTHS",
        default_value_t = KEEP_SEARCH_CRITERIA
    )]
    pub keep_search_criteria: u32,
    /// Ledger, read models and keys.
    #[command(flatten)]
    pub sources: SourceArgs,
    /// Where traces and metrics go.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
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
    /// The key ring's store: sqlite:PATH, mongodb://…, or a reference to such a URI. A reference is
    /// `env:NAME`, `file:/path` or `keyvault:https://…`.
    #[arg(long, env = "VITALOG_KEYS_STORE")]
    pub keys: StoreLocation,
    /// The key-encryption key, 32 bytes, hexadecimal or base64: REF, or `REF,OTHER_REF` while it is
    /// rotated. The first wraps new keys, the others only unwrap. REF is `env:NAME`, `file:/path`
    /// or `keyvault:https://…`.
    #[arg(long, env = "VITALOG_KEK", value_name = "REF", value_delimiter = ',', required = true)]
    pub kek: Vec<SecretRef>,
}

/// How to reach the ledger.
#[derive(Debug, Args)]
pub struct LedgerArgs {
    /// Address of audit-service.
    #[arg(long, env = "VITALOG_AUDIT_URL", default_value = "http://127.0.0.1:7072")]
    pub audit_url: String,
    /// How audit-service is known.
    #[command(flatten)]
    pub client_tls: ClientTlsArgs,
    /// This program's key for audit-service. REF is `env:NAME`, `file:/path` or
    /// `keyvault:https://…`.
    #[arg(long, env = "VITALOG_AUDIT_KEY", value_name = "REF")]
    pub audit_key: SecretRef,
    /// File with the ledger's verifier key; without it the one that audit-service shows counts.
    #[arg(long, env = "VITALOG_LEDGER_PUB", value_name = "PATH")]
    pub ledger_pub: Option<PathBuf>,
}

/// The read models.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// The read models' store: sqlite:PATH, mongodb://…, or a reference to such a URI. A reference
    /// is `env:NAME`, `file:/path` or `keyvault:https://…`.
    #[arg(long, env = "VITALOG_PATIENTS_STORE")]
    pub store: StoreLocation,
    /// Databases on MongoDB are called `PREFIX_patients` and `PREFIX_keys`.
    #[arg(long, env = "VITALOG_DATABASE_PREFIX", default_value = "vitalog")]
    pub database_prefix: Name,
}

impl Command {
    /// Looks whether the settings are secure.
    pub fn harden(&self, over: &Overrides) -> Result<(), Insecure> {
        match self {
            Self::Follow(args) => args.harden(over),
            Self::Rebuild(args) => args.sources.harden(over),
            Self::Status(args) => args.ledger.harden(over).and_then(|()| args.store.harden(over)),
            Self::Digest(args) => args.store.harden(over),
            Self::Generations(GenerationsCommand::List(store))
            | Self::Park(ParkCommand::List(store)) => store.harden(over),
            Self::Generations(GenerationsCommand::Activate(args)) => args.sources.harden(over),
            Self::Generations(GenerationsCommand::Drop(args)) => args.store.harden(over),
            Self::Park(ParkCommand::Retry(args)) => args.store.harden(over),
        }
    }
}

impl FollowArgs {
    /// Looks whether the settings are secure. Loads secrets.
    pub fn harden(&self, over: &Overrides) -> Result<(), Insecure> {
        self.sources.harden(over)
    }

    /// Whose connections are taken.
    pub fn peers(&self, over: &Overrides) -> Result<Peers, Insecure> {
        over.peers("--listen", self.listen, &self.peers.networks)
    }
}

impl SourceArgs {
    fn harden(&self, over: &Overrides) -> Result<(), Insecure> {
        self.ledger.harden(over)?;
        self.store.harden(over)?;
        over.store("--keys", &self.keys)?;
        over.keys("--kek", &self.kek)
    }
}

impl LedgerArgs {
    fn harden(&self, over: &Overrides) -> Result<(), Insecure> {
        over.upstream("--audit-url", &self.audit_url)?;
        over.keys("--audit-key", [&self.audit_key])
    }
}

impl StoreArgs {
    fn harden(&self, over: &Overrides) -> Result<(), Insecure> {
        over.store("--store", &self.store)
    }
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
