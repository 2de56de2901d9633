//! Where a live ledger is, as the command line names it.

use std::{path::PathBuf, str::FromStr};

use clap::Args;
use reqwest::Url;

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
}

impl OptionalServerArgs {
    /// Where the live ledger is, if one is named.
    pub(crate) fn get(&self) -> Option<ServerArgs> {
        let (url, key_file) = (self.url.clone()?, self.key_file.clone()?);
        Some(ServerArgs { url, key_file })
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
