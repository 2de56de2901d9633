//! Secrets, and the references by which settings name them.
//!
//! A setting never holds a secret, only where it is; nothing here prints one.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::TryRngCore;
use zeroize::Zeroizing;

use crate::files::sync_folder_of;

/// The longest secret that is loaded, in bytes; keys, passwords and connection strings are far
/// shorter, and a reference to a wrong file should fail instead of filling memory.
pub const MAX_SECRET_BYTES: usize = 64 * 1024;

/// Where a secret is: `env:NAME` or `file:/path`.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// An environment variable.
    Env(String),
    /// A file; relative paths are relative to the working directory.
    File(PathBuf),
}

/// Why a secret could not be had. No variant contains any part of a secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The text is no reference. It is not repeated: it may be a secret pasted by mistake.
    #[error("not a secret reference: write env:NAME or file:/path (the value is not shown)")]
    NotAReference,
    /// The environment variable is not set.
    #[error("{0} is not set, or is not UTF-8: set it to the secret")]
    Unset(SecretRef),
    /// The file could not be read.
    #[error("{reference} cannot be read")]
    Unreadable {
        /// The reference that was followed.
        reference: SecretRef,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The secret has no content.
    #[error("{0} is empty")]
    Empty(SecretRef),
    /// The secret is longer than [`MAX_SECRET_BYTES`].
    #[error("{0} is longer than {MAX_SECRET_BYTES} bytes: it should name a secret")]
    TooLong(SecretRef),
    /// The secret is used as text and is not UTF-8.
    #[error("the secret is not UTF-8 text")]
    NotText,
    /// The secret is used as a 256-bit key and is none.
    #[error("the secret is not a key: write 64 hex digits or the base64 of 32 bytes")]
    NotAKey,
    /// A caller specification is malformed. It is not repeated, for the same reason.
    #[error(
        "not a caller: write NAME=REF or NAME=REF,NEXT_REF, where NAME has 1 to 64 letters, digits, dots, dashes or underscores and REF is env:NAME or file:/path (the value is not shown)"
    )]
    NotACaller,
    /// A service key is too short to resist guessing.
    #[error("the service key of {caller} is shorter than {min} bytes: make a longer one")]
    KeyTooShort {
        /// The caller's name.
        caller: String,
        /// The fewest bytes that are accepted.
        min: usize,
    },
    /// Two callers would be told apart by the same key.
    #[error("{first} and {second} have the same service key: give each its own")]
    SharedKey {
        /// The caller that was named first.
        first: String,
        /// The caller that was named later.
        second: String,
    },
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
        }
        Err(SecretError::NotAReference)
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
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
