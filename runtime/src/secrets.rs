//! Secrets, and the references by which settings name them.
//!
//! A setting never holds a secret, only where it is; nothing here prints one.

mod error;
mod loading;
pub mod vault;

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::TryRngCore;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::files::sync_folder_of;

pub use error::SecretError;
pub use loading::{SECRETS, loading};
use vault::{VaultSecret, Vaults};

/// The longest secret that is loaded, in bytes; keys, passwords and connection strings are far
/// shorter, and a reference to a wrong file should fail instead of filling memory.
pub const MAX_SECRET_BYTES: usize = 64 * 1024;

/// Where a secret is: `env:NAME`, `file:/path` or `keyvault:https://VAULT/secrets/NAME[/VERSION]`.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// An environment variable.
    Env(String),
    /// A file; relative paths are relative to the working directory.
    File(PathBuf),
    /// A secret of an Azure Key Vault, had by the managed identity of this machine or app.
    Vault(VaultSecret),
}

impl FromStr for SecretRef {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        if let Some(name) = text.strip_prefix("env:") {
            let head = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
            if head && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Ok(Self::Env(name.to_owned()));
            }
        } else if let Some(path) = text.strip_prefix("file:")
            && !path.is_empty()
            && !path.contains('\0')
        {
            return Ok(Self::File(PathBuf::from(path)));
        } else if let Some(secret) = text.strip_prefix("keyvault:") {
            return secret.parse().map(Self::Vault);
        }
        Err(SecretError::NotAReference)
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Vault(secret) => write!(f, "keyvault:{secret}"),
        }
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl SecretRef {
    /// Reads the secret as it is now, without one trailing newline.
    ///
    /// The first load of a vault's secret blocks for at most [`vault::PATIENCE`]; later ones answer
    /// at once with the last value that the vault gave. Services do that first one by [`loading`].
    ///
    /// # Errors
    /// [`SecretError`] naming this reference when there is nothing to read, or nothing in it.
    pub fn load(&self) -> Result<Secret, SecretError> {
        let mut bytes = Zeroizing::new(Vec::new());
        match self {
            Self::Env(name) => {
                let text = crate::settings::env(name)
                    .map(Zeroizing::new)
                    .ok_or_else(|| SecretError::Unset(self.clone()))?;
                bytes.extend_from_slice(text.as_bytes());
            }
            Self::File(path) => {
                let unreadable =
                    |source| SecretError::Unreadable { reference: self.clone(), source };
                // Reserved whole, so that growing leaves no copy of the secret behind.
                bytes.reserve_exact(MAX_SECRET_BYTES + 1);
                std::fs::File::open(path)
                    .map_err(unreadable)?
                    .take(MAX_SECRET_BYTES as u64 + 1)
                    .read_to_end(&mut bytes)
                    .map_err(unreadable)?;
            }
            Self::Vault(secret) => {
                let failed = |source| SecretError::Vault { reference: self.clone(), source };
                let secret = Vaults::of_process().and_then(|vaults| vaults.load(secret));
                bytes.extend_from_slice(secret.map_err(failed)?.bytes());
            }
        }
        if bytes.len() > MAX_SECRET_BYTES {
            return Err(SecretError::TooLong(self.clone()));
        }
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        if bytes.is_empty() {
            return Err(SecretError::Empty(self.clone()));
        }
        // A copy of the exact length; the buffer is wiped when it goes.
        Ok(Secret::new(bytes.to_vec()))
    }
}

/// A secret in memory: never printed, wiped when its last clone goes.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<Vec<u8>>>);

impl Secret {
    /// Takes the bytes over.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Arc::new(Zeroizing::new(bytes.into())))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The secret as text, such as a connection string.
    ///
    /// # Errors
    /// [`SecretError::NotText`] when it is not UTF-8.
    pub fn text(&self) -> Result<&str, SecretError> {
        std::str::from_utf8(&self.0).map_err(|_| SecretError::NotText)
    }

    /// The secret as a 256-bit key, written as 64 hex digits or the standard base64 of 32 bytes.
    ///
    /// # Errors
    /// [`SecretError::NotAKey`] when it is neither.
    pub fn key32(&self) -> Result<Zeroizing<[u8; 32]>, SecretError> {
        let mut key = Zeroizing::new([0_u8; 32]);
        if self.0.len() == 64 {
            hex::decode_to_slice(self.bytes(), key.as_mut()).map_err(|_| SecretError::NotAKey)?;
            return Ok(key);
        }
        let decoded =
            STANDARD.decode(self.bytes()).map(Zeroizing::new).map_err(|_| SecretError::NotAKey)?;
        if decoded.len() != key.len() {
            return Err(SecretError::NotAKey);
        }
        key.copy_from_slice(&decoded);
        Ok(key)
    }
}

/// In a time that does not depend on what is equal.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.bytes().ct_eq(other.bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// 32 bytes of the operating system's randomness as 64 lower-case hex digits.
///
/// # Panics
/// When the operating system has no randomness to give: no key may be made then.
pub fn random_key_hex() -> String {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    rand::rngs::OsRng
        .try_fill_bytes(bytes.as_mut())
        .expect("the operating system gives randomness");
    hex::encode(bytes.as_slice())
}

/// Writes a new file that only its owner may read (mode 0600), durably.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] when there is a file: a secret is never overwritten. Otherwise
/// what the file system says.
pub fn write_secret_file(path: impl AsRef<Path>, text: impl AsRef<str>) -> io::Result<()> {
    let path = path.as_ref();
    // Written beside its place and linked there whole: a crash leaves no empty secret behind.
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", random_key_hex()));
    let beside = PathBuf::from(beside);
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let written = file
        .write_all(text.as_ref().as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::hard_link(&beside, path));
    std::fs::remove_file(&beside)?;
    written?;
    // The directory entry has to be durable too.
    sync_folder_of(path)
}
