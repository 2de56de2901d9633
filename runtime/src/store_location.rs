//! Where a store is: an embedded file, or a MongoDB whose URI may hold a password.

use std::{fmt, path::PathBuf, str::FromStr};

use crate::secrets::{Secret, SecretError, SecretRef};

/// Where a store is. Shown without the URI, which may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreLocation {
    /// `sqlite:PATH`
    Sqlite(PathBuf),
    /// `mongodb://…` or `mongodb+srv://…`
    MongoUri(String),
    /// `env:NAME`, `file:/path` or `keyvault:https://…`, which hold such a URI.
    MongoReference(SecretRef),
}

/// A text that names no store. Does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a store is sqlite:PATH, mongodb://…, or env:NAME, file:/path or keyvault:https://… holding a MongoDB URI"
)]
pub struct NotAStore;

impl StoreLocation {
    /// The MongoDB URI, with a reference resolved; `None` for an embedded store.
    pub fn mongo_uri(&self) -> Result<Option<Secret>, SecretError> {
        match self {
            Self::Sqlite(_) => Ok(None),
            Self::MongoUri(uri) => Ok(Some(Secret::new(uri.as_bytes().to_vec()))),
            Self::MongoReference(reference) => reference.load().map(Some),
        }
    }
}

impl FromStr for StoreLocation {
    type Err = NotAStore;

    fn from_str(text: &str) -> Result<Self, NotAStore> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            return if path.is_empty() { Err(NotAStore) } else { Ok(Self::Sqlite(path.into())) };
        }
        if text.starts_with("mongodb://") || text.starts_with("mongodb+srv://") {
            return Ok(Self::MongoUri(text.to_owned()));
        }
        text.parse().map(Self::MongoReference).map_err(|_| NotAStore)
    }
}

impl fmt::Display for StoreLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::MongoUri(_) => f.write_str("mongodb://…"),
            Self::MongoReference(reference) => reference.fmt(f),
        }
    }
}

impl fmt::Debug for StoreLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_password_never_shows() {
        let location: StoreLocation = "mongodb://user:canary@host/".parse().unwrap();
        assert!(!format!("{location} {location:?}").contains("canary"));
        let error = "postgres://user:canary@host".parse::<StoreLocation>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"));
    }

    #[test]
    fn forms() {
        assert_eq!("sqlite:a/b.db".parse(), Ok(StoreLocation::Sqlite("a/b.db".into())));
        assert!(matches!("env:URI".parse(), Ok(StoreLocation::MongoReference(_))));
        assert_eq!("sqlite:".parse::<StoreLocation>(), Err(NotAStore));
    }
}
