//! Where a live ledger is, as the command line names it.

use std::{path::PathBuf, str::FromStr};

use clap::Args;
use reqwest::Url;
use runtime::{
    client::ClientTlsArgs,
    hardening::{Insecure, Overrides},
    secrets::SecretRef,
};

use super::error::SourceError;

/// Options that say where a live ledger is.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServerArgs {
    /// Address of the gateway or of the audit service, such as `http://127.0.0.1:8080`.
    #[arg(long, env = "VITALOG_LEDGER_URL", value_name = "URL")]
    pub(crate) url: ServerUrl,
    /// File with the key to read the ledger with: a subscription's key for the gateway, a
    /// service key for the audit service.
    #[arg(long, env = "VITALOG_LEDGER_KEY_FILE", value_name = "FILE")]
    pub(crate) key_file: PathBuf,
    /// How the server is known, and this command to it.
    #[command(flatten)]
    pub(crate) client_tls: ClientTlsArgs,
}

/// The same options where there may be no live ledger.
#[derive(Debug, Clone, Args)]
pub(crate) struct OptionalServerArgs {
    /// Address of the gateway or of the audit service, such as `http://127.0.0.1:8080`.
    #[arg(long, env = "VITALOG_LEDGER_URL", value_name = "URL", requires = "key_file")]
    url: Option<ServerUrl>,
    /// File with the key to read the ledger with: a subscription's key for the gateway, a
    /// service key for the audit service.
    #[arg(long, env = "VITALOG_LEDGER_KEY_FILE", value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// How the server is known, and this command to it.
    #[command(flatten)]
    client_tls: ClientTlsArgs,
}

impl ServerArgs {
    /// Looks whether the settings are secure.
    pub(crate) fn harden(&self, over: &Overrides) -> Result<(), Insecure> {
        over.upstream("--url", self.url.as_str())?;
        over.keys("--key-file", [&self.key()])
    }

    /// Where the key is.
    pub(crate) fn key(&self) -> SecretRef {
        SecretRef::File(self.key_file.clone())
    }
}

impl OptionalServerArgs {
    /// Where the live ledger is, if one is named.
    pub(crate) fn get(&self) -> Option<ServerArgs> {
        let (url, key_file) = (self.url.clone()?, self.key_file.clone()?);
        Some(ServerArgs { url, key_file, client_tls: self.client_tls.clone() })
    }

    /// Looks whether the settings are secure.
    pub(crate) fn harden(&self, over: &Overrides) -> Result<(), Insecure> {
        self.get().map_or(Ok(()), |server| server.harden(over))
    }
}

/// An address without anything that could be a secret.
#[derive(Debug, Clone)]
pub(crate) struct ServerUrl(String);

impl FromStr for ServerUrl {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let url = Url::parse(text).map_err(|_| SourceError::Address)?;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !plain {
            return Err(SourceError::Address);
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }
}

impl ServerUrl {
    /// The address, without a slash at its end.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}
