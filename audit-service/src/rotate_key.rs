//! `rotate-key`: hands the ledger's signing over to the next key, which every replica holds by
//! then. Running it again changes nothing.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use audit_client::{AppendError, AuditClient, Options, ReadError};
use audit_verify::{
    checkpoint::{LedgerKey, LedgerSecret},
    key_history::{read_listing, rotation},
    keys::KeyError,
};
use clap::Args;
use domain::{
    actor::{Actor, ActorKind, Outcome, Purpose},
    ids::{Name, Stream},
    record::RecordType,
    wire::{Proposal, Receipt},
};
use runtime::{
    client::{ClientError, ClientTlsArgs},
    files,
    hardening::{Insecure, Overrides},
    secrets::{SecretError, SecretRef},
};

use crate::checkpoint::{CheckpointError, read_secret};

/// How long the append may take, sending again included.
const DEADLINE: Duration = Duration::from_secs(30);

/// Options of `rotate-key`.
#[derive(Debug, Args)]
pub struct RotateKeyArgs {
    /// Base address of the audit service, any replica's.
    #[arg(long, env = "VITALOG_AUDIT_URL")]
    pub url: String,
    /// How audit-service is known, and this command to it.
    #[command(flatten)]
    pub client_tls: ClientTlsArgs,
    /// The service key of the caller `operator`. REF is `env:NAME`, `file:/path` or
    /// `keyvault:https://…`.
    #[arg(long)]
    pub caller_key: SecretRef,
    /// The signing key that signs now. REF is `env:NAME`, `file:/path` or `keyvault:https://…`.
    #[arg(long)]
    pub signing_key: SecretRef,
    /// The signing key that takes over, made by `keygen` for the same ledger; every replica must
    /// hold it already. REF is `env:NAME`, `file:/path` or `keyvault:https://…`.
    #[arg(long)]
    pub next: SecretRef,
    /// File for the new verifier key; must not exist with another key in it.
    #[arg(long)]
    pub public: Option<PathBuf>,
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// The key that signs now.
    pub key: LedgerKey,
    /// Where the rotation stands; `None` if it was done before.
    pub receipt: Option<Receipt>,
}

/// Why the key was not rotated.
#[derive(Debug, thiserror::Error)]
pub enum RotateKeyError {
    /// A secret cannot be read.
    #[error("a secret cannot be used")]
    Secret(#[from] SecretError),
    /// The client for the audit service could not be made.
    #[error("the audit service cannot be reached with these certificates")]
    Client(#[from] ClientError),
    /// A signing key cannot be used.
    #[error("a signing key cannot be used")]
    Key(#[from] CheckpointError),
    /// Both are the same.
    #[error("the next signing key is the current one: make another with keygen")]
    SameKey,
    /// They name different ledgers.
    #[error("the signing keys are of different ledgers: {current} and {next}")]
    Origins {
        /// The current key's.
        current: Name,
        /// The next key's.
        next: Name,
    },
    /// The audit service could not be asked.
    #[error("the audit service cannot be asked for the ledger's keys")]
    Ask(#[from] ReadError),
    /// It answered with something else than keys.
    #[error("the audit service shows keys that cannot be read")]
    Listing(#[from] KeyError),
    /// Neither key signs now.
    #[error("neither key signs now, but {0}: name that one's secret as the current signing key")]
    AnotherSigns(String),
    /// The next key has signed before: whoever had it then would sign again.
    #[error("the next signing key signed before: make a new one with keygen")]
    UsedBefore,
    /// The audit service did not take the rotation.
    #[error("the audit service did not take the rotation; run it again to see whether it holds")]
    Append(#[from] AppendError),
    /// The file for the verifier key holds another key, or cannot be used.
    #[error("{path} cannot be used for the verifier key")]
    Public {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl RotateKeyArgs {
    /// Looks whether the settings are secure.
    pub fn harden(&self, over: &Overrides) -> Result<(), Insecure> {
        over.upstream("--url", &self.url)?;
        over.keys("--caller-key", [&self.caller_key])?;
        over.keys("--signing-key", [&self.signing_key])?;
        over.keys("--next", [&self.next])
    }

    /// Rotates the key unless that was done already, and writes the new verifier key.
    pub async fn run(&self) -> Result<Rotated, RotateKeyError> {
        let current = read_secret(&self.signing_key.load()?)?;
        let next = read_secret(&self.next.load()?)?;
        let key = next.public();
        if let Some(path) = &self.public {
            // Before anything is done that cannot be undone.
            check_public(path, &key).map_err(in_file(path))?;
        }
        let mut options = Options::new(self.url.as_str(), self.caller_key.load()?);
        options.append_deadline = DEADLINE;
        options.http = self.client_tls.client()?;
        let receipt = rotate(&AuditClient::start(options), &current, &next).await?;
        if let Some(path) = &self.public {
            write_public(path, &key).map_err(in_file(path))?;
        }
        Ok(Rotated { key, receipt })
    }
}

/// Appends the rotation; `None` if the next key signs already.
pub async fn rotate(
    audit: &AuditClient,
    current: &LedgerSecret,
    next: &LedgerSecret,
) -> Result<Option<Receipt>, RotateKeyError> {
    let (current_key, next_key) = (current.public(), next.public());
    if current_key == next_key {
        return Err(RotateKeyError::SameKey);
    }
    if current.origin() != next.origin() {
        let (current, next) = (current.origin().clone(), next.origin().clone());
        return Err(RotateKeyError::Origins { current, next });
    }
    let keys = keys(audit).await?;
    let newest = keys.last().ok_or(KeyError::Public)?;
    if *newest == next_key {
        return Ok(None);
    }
    if *newest != current_key {
        return Err(RotateKeyError::AnotherSigns(newest.to_string()));
    }
    if keys.contains(&next_key) {
        return Err(RotateKeyError::UsedBefore);
    }
    // The first rotation is version 1.
    let version = keys.len() as u64;
    match audit.append(proposal(current, &next_key, version)).await {
        Ok(receipt) => Ok(Some(receipt)),
        // A try that was thought lost has made it, or another process of the operator's.
        Err(error) => match self::keys(audit).await {
            Ok(keys) if keys.last() == Some(&next_key) => Ok(None),
            _ => Err(error.into()),
        },
    }
}

/// The rotation as it is proposed.
pub fn proposal(current: &LedgerSecret, next: &LedgerKey, version: u64) -> Proposal {
    let id = "operator".parse().expect("a word is a name");
    let actor = Actor { id, kind: ActorKind::Service, roles: Vec::new() };
    let purpose = Purpose::SystemAdministration;
    Proposal {
        stream: Some(Stream::LedgerKeys),
        version: Some(version),
        key: Some(rotation(current, next, version)),
        ..Proposal::new(RecordType::KeyRotated, actor, purpose, Outcome::Success)
    }
}

async fn keys(audit: &AuditClient) -> Result<Vec<LedgerKey>, RotateKeyError> {
    let listing = read_listing(&audit.keys().await?)?;
    Ok(listing.into_iter().map(|(_, key)| key).collect())
}

fn in_file(path: &Path) -> impl FnOnce(io::Error) -> RotateKeyError {
    let path = path.to_owned();
    move |source| RotateKeyError::Public { path, source }
}

fn check_public(path: &Path, key: &LedgerKey) -> io::Result<()> {
    match fs::read_to_string(path) {
        Ok(text) if text.trim() == key.to_string() => Ok(()),
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Writes the verifier key, unless `keygen` or an earlier run has.
fn write_public(path: &Path, key: &LedgerKey) -> io::Result<()> {
    match files::create(path, &format!("{key}\n")) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check_public(path, key),
        written => written,
    }
}
