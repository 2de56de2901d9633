//! What `audit verify` can be asked for.

use std::{num::NonZeroUsize, path::PathBuf};

use anyhow::bail;
use audit_service::{
    outside::AnchorArgs, seal_keys::SealKeySpec, store::mongo::open::CosmosConsistency,
};
use audit_verify::{seal::SealKeys, verifier::Expected};
use clap::Args;
use domain::ids::Name;
use runtime::{
    hardening::{Insecure, Overrides},
    store_location::StoreLocation,
};

use super::expected_of;
use crate::{
    evidence::{Cosigned, VerifierKeyArgs, WitnessKeyArgs},
    output::Failure,
    source::{OptionalServerArgs, ServerArgs},
};

/// Options of `verify`. One of `--file`, `--url` and `--store` says what.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// An export: NDJSON, one record a line, plain or zstd. Needs --checkpoint and --verifier-key.
    #[arg(long, value_name = "FILE", conflicts_with = "store")]
    file: Option<PathBuf>,
    #[command(flatten)]
    server: OptionalServerArgs,
    /// A store directly: sqlite:PATH, mongodb://…, or a reference to such a URI. What stands beside
    /// the records is checked as well. A reference is `env:NAME`, `file:/path` or
    /// `keyvault:https://…`.
    #[arg(long, value_name = "STORE")]
    store: Option<StoreLocation>,
    /// The checkpoint that covers the records. A live ledger gives its own.
    #[arg(long, value_name = "FILE")]
    pub(super) checkpoint: Option<PathBuf>,
    #[command(flatten)]
    pub(super) verifier_keys: VerifierKeyArgs,
    #[command(flatten)]
    pub(super) witnesses: WitnessKeyArgs,
    /// Anchors whose checkpoints the records must agree with.
    #[command(flatten)]
    pub(super) anchors: AnchorArgs,
    /// With --witness-key: refuse a checkpoint that a witness cosigned longer ago than this.
    #[arg(long, value_name = "SECONDS", requires = "witness_keys")]
    max_age: Option<u64>,
    /// A checkpoint that was verified before. The ledger must contain it. Of a live ledger only what
    /// came after it is read, unless --full is given.
    #[arg(long, value_name = "FILE")]
    pub(super) trusted: Option<PathBuf>,
    /// Read everything, also with --trusted.
    #[arg(long)]
    pub(super) full: bool,
    /// Keep the checkpoint here as trusted if everything is intact.
    #[arg(long, value_name = "FILE")]
    pub(super) save: Option<PathBuf>,
    /// The keys that seal and sealed blocks, for --store, as `audit-service serve` has them:
    /// `REF[,OLDER_REF@SIZE]…`, each 32 bytes, hexadecimal or base64. Without them seals are not
    /// checked. REF is `env:NAME`, `file:/path` or `keyvault:https://…`.
    #[arg(long = "seal-key", value_name = "REF", value_delimiter = ',', requires = "store")]
    seal_keys: Vec<SealKeySpec>,
    /// Databases on MongoDB are called `PREFIX_ledger`.
    #[arg(long, default_value = "vitalog")]
    pub(super) database_prefix: Name,
    /// Consistency of an Azure Cosmos DB account, which cannot be seen over the wire.
    #[arg(long, value_enum)]
    pub(super) cosmos_consistency: Option<CosmosConsistency>,
    /// Threads to verify on; as many as the machine has by default.
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

/// What is verified.
pub(super) enum Source<'a> {
    Export(&'a PathBuf),
    Live(ServerArgs),
    Store(&'a StoreLocation),
}

impl VerifyArgs {
    /// Looks whether the settings are secure that say what to verify.
    pub(crate) fn harden(&self, over: &Overrides) -> Result<(), Insecure> {
        over.keys("--seal-key", self.seal_keys.iter().map(SealKeySpec::key))?;
        match self.source() {
            Ok(Source::Live(server)) => server.harden(over),
            Ok(Source::Store(location)) => over.store("--store", location),
            Ok(Source::Export(_)) | Err(_) => Ok(()),
        }
    }

    /// The one source that is named. An address in the environment counts last.
    pub(super) fn source(&self) -> anyhow::Result<Source<'_>> {
        if let Some(path) = &self.file {
            return Ok(Source::Export(path));
        }
        if let Some(location) = &self.store {
            return Ok(Source::Store(location));
        }
        match self.server.get() {
            Some(server) => Ok(Source::Live(server)),
            None => bail!(
                "say what to verify: --file FILE, --url URL --key-file FILE, or --store STORE"
            ),
        }
    }

    /// The checkpoints in files that the records must contain: the trusted one, and one that would
    /// be replaced by this run's.
    pub(super) fn trusted(&self, origin: &Name) -> anyhow::Result<Vec<Expected>> {
        let mut trusted = Vec::new();
        if let Some(path) = &self.trusted {
            trusted.push(expected_of("the trusted checkpoint", path, origin)?);
        }
        if let Some(path) = self.save.as_ref().filter(|path| path.exists())
            && self.trusted.as_ref() != Some(path)
        {
            trusted.push(expected_of("the checkpoint that was saved before", path, origin)?);
        }
        Ok(trusted)
    }

    /// The keys of the blocks' seals.
    pub(super) fn seal_keys(&self) -> anyhow::Result<Option<SealKeys>> {
        if self.seal_keys.is_empty() {
            return Ok(None);
        }
        Ok(Some(SealKeySpec::load_all(&self.seal_keys)?))
    }

    /// Threads that work.
    pub(super) fn threads(&self) -> usize {
        let machine = std::thread::available_parallelism();
        self.threads.or(machine.ok()).map_or(1, NonZeroUsize::get)
    }

    /// Refuses cosignatures that are older than asked for.
    pub(super) fn check_age(&self, cosigned: &[Cosigned]) -> Result<(), Failure> {
        let Some(max_age) = self.max_age else { return Ok(()) };
        for one in cosigned {
            let age = one.age_seconds();
            if one.is_ahead() {
                let words = format!("{} dates its cosignature in the future", one.name());
                return Err(Failure::CouldNotTell(anyhow::anyhow!(words)));
            }
            if age > max_age {
                let words = format!(
                    "the checkpoint is not fresh: {} cosigned it {age} s ago, and {max_age} s are allowed",
                    one.name()
                );
                return Err(Failure::CouldNotTell(anyhow::anyhow!(words)));
            }
        }
        Ok(())
    }
}
