//! `keys`: looking after the key ring while the service runs.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use domain::ids::Name;
use projections::{
    key_ring::{
        kek::KekId,
        keks::Keks,
        rotation::{self, Progress, RotateError},
        store::KeyStoreError,
    },
    open::{OpenError, open_key_store},
};
use runtime::{
    hardening::{Insecure, Overrides},
    secrets::{SecretError, SecretRef},
    store_location::StoreLocation,
};
use serde::Serialize;

/// Where the key ring is, and what it is wrapped under.
#[derive(Debug, Args)]
pub struct KeyRingArgs {
    /// The key ring's store: sqlite:PATH, mongodb://…, or a reference to such a URI. A reference is
    /// `env:NAME`, `file:/path` or `keyvault:https://…`.
    #[arg(long, env = "VITALOG_KEYS_STORE")]
    pub keys: StoreLocation,
    /// Databases on MongoDB are called `PREFIX_patients` and `PREFIX_keys`.
    #[arg(long, env = "VITALOG_DATABASE_PREFIX", default_value = "vitalog")]
    pub database_prefix: Name,
    /// The key-encryption key, 32 bytes, hexadecimal or base64: REF, or `REF,OTHER_REF` while it is
    /// rotated. The first wraps new keys, the others only unwrap. REF is `env:NAME`, `file:/path`
    /// or `keyvault:https://…`.
    #[arg(long, env = "VITALOG_KEK", value_name = "REF", value_delimiter = ',', required = true)]
    pub kek: Vec<SecretRef>,
}

/// What `keys` does.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Show how many keys are wrapped under which key-encryption key.
    Status(KeyRingArgs),
    /// Wrap every key under the first key-encryption key, while the service runs.
    ///
    /// 1. Make the next key-encryption key: 32 random bytes, hexadecimal or base64.
    /// 2. Restart every process that has the key ring (patient-service, projections) with
    ///    `--kek CURRENT,NEXT`, one after the other: now all can unwrap what either wraps.
    /// 3. Restart them with `--kek NEXT,CURRENT`: now new keys are wrapped under the next.
    /// 4. Run this with `--kek NEXT,CURRENT`. It may be stopped and run again.
    /// 5. When `keys status` shows no key under the current one, restart the processes with
    ///    `--kek NEXT` and destroy the current key with all its copies.
    #[command(verbatim_doc_comment)]
    Rotate(KeyRingArgs),
}

/// Why `keys` failed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A key-encryption key cannot be used.
    #[error("a key-encryption key cannot be used")]
    Secret(#[from] SecretError),
    /// The key store cannot be opened.
    #[error("the key store cannot be opened")]
    Open(#[from] OpenError),
    /// The key store gave no answer.
    #[error("the key store cannot be read")]
    Store(#[from] KeyStoreError),
    /// The keys were not wrapped anew.
    #[error(transparent)]
    Rotate(#[from] RotateError),
}

/// What `keys` shows at its end; one line of JSON.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Shown {
    /// Of `status`.
    Status(Status),
    /// Of `rotate`.
    Rotated(Rotated),
}

/// Key-encryption keys by their ids, and how many keys each wraps.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The one that wraps new keys: the first of those given.
    pub first: String,
    /// Keys under each, data keys and those of searches together.
    pub keys: BTreeMap<String, u64>,
    /// Those that wrap keys and were not given.
    pub missing: Vec<String>,
}

/// What a rotation did.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotated {
    /// The key-encryption key that all keys are under now.
    pub first: String,
    /// How many keys were wrapped anew, and what became of the rest.
    #[serde(flatten)]
    pub progress: Progress,
}

impl KeyRingArgs {
    /// Looks whether the settings are secure.
    pub(crate) fn harden(&self, over: &Overrides) -> Result<(), Insecure> {
        over.store("--keys", &self.keys)?;
        over.keys("--kek", &self.kek)
    }
}

impl KeysCommand {
    /// Looks whether the settings are secure.
    pub fn harden(&self, over: &Overrides) -> Result<(), Insecure> {
        let (Self::Status(args) | Self::Rotate(args)) = self;
        args.harden(over)
    }

    /// Does it; `show` is told now and then how far it is.
    pub async fn run(&self, show: impl FnMut(&Progress)) -> Result<Shown, KeysError> {
        let (Self::Status(args) | Self::Rotate(args)) = self;
        let keks = Keks::load(&args.kek)?;
        let store = open_key_store(&args.keys, &args.database_prefix).await?;
        let first = keks.first().to_string();
        match self {
            Self::Status(_) => {
                let counts = rotation::counts(store.as_ref()).await?;
                let held = keks.ids();
                let missing = counts.keys().filter(|kek| !held.contains(kek));
                Ok(Shown::Status(Status {
                    missing: missing.map(KekId::to_string).collect(),
                    keys: counts.iter().map(|(kek, keys)| (kek.to_string(), *keys)).collect(),
                    first,
                }))
            }
            Self::Rotate(_) => {
                let progress = rotation::rotate(store.as_ref(), &keks, show).await?;
                Ok(Shown::Rotated(Rotated { first, progress }))
            }
        }
    }
}

impl Shown {
    /// Keys that could not be wrapped anew, because they were changed in their store.
    pub fn corrupt(&self) -> u64 {
        match self {
            Self::Status(_) => 0,
            Self::Rotated(rotated) => rotated.progress.corrupt,
        }
    }
}
