//! Which secret of which vault.

use std::{fmt, net::IpAddr, str::FromStr};

use reqwest::Url;

use crate::secrets::SecretError;

/// What the host of a vault ends with, in each cloud. A token goes to such hosts alone.
const VAULT_SUFFIXES: [&str; 3] =
    [".vault.azure.net", ".vault.azure.cn", ".vault.usgovcloudapi.net"];

/// The longest name of a secret, in characters, as the service has it.
const MAX_NAME: usize = 127;

/// A secret of a vault: `https://VAULT/secrets/NAME` for its newest version, or with `/VERSION`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct VaultSecret {
    /// Its address, without a slash at the end.
    vault: String,
    /// Whether it is one of this machine.
    local: bool,
    name: String,
    version: Option<String>,
}

impl VaultSecret {
    /// The vault's address.
    pub(super) fn vault(&self) -> &str {
        &self.vault
    }

    /// The secret's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The version that was asked for; without one it is the newest.
    pub(super) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Whether the vault is one of this machine, as in tests.
    pub(super) fn is_local(&self) -> bool {
        self.local
    }
}

impl FromStr for VaultSecret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let url = Url::parse(text).map_err(|_| SecretError::NotAReference)?;
        let bare = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        let host = url.host_str().unwrap_or_default();
        let known = is_loopback(host) || (is_vault(host) && url.port().is_none());
        if url.scheme() != "https" || !bare || !known {
            return Err(SecretError::NotAReference);
        }
        let path = url.path().to_owned();
        let mut parts = path.trim_start_matches('/').split('/');
        let (collection, name, version) = (parts.next(), parts.next(), parts.next());
        let name = name.filter(|name| is_name(name)).ok_or(SecretError::NotAReference)?;
        let plain = version.is_none_or(is_name) && parts.next().is_none();
        if collection != Some("secrets") || !plain {
            return Err(SecretError::NotAReference);
        }
        Ok(Self {
            vault: url.origin().ascii_serialization(),
            local: is_loopback(host),
            name: name.to_owned(),
            version: version.map(ToOwned::to_owned),
        })
    }
}

fn is_vault(host: &str) -> bool {
    let label = VAULT_SUFFIXES.iter().find_map(|suffix| host.strip_suffix(suffix));
    label.is_some_and(|label| !label.is_empty() && !label.contains('.'))
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Nothing that could lead elsewhere in a path.
fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

impl fmt::Display for VaultSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/secrets/{}", self.vault, self.name)?;
        self.version.as_ref().map_or(Ok(()), |version| write!(f, "/{version}"))
    }
}

impl fmt::Debug for VaultSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
