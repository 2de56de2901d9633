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
    ///
    /// # Errors
    /// [`SecretError`] when there is nothing behind a reference, or something else.
    pub fn mongo_uri(&self) -> Result<Option<Secret>, SecretError> {
        match self {
            Self::Sqlite(_) => Ok(None),
            Self::MongoUri(uri) => Ok(Some(Secret::new(uri.as_bytes().to_vec()))),
            Self::MongoReference(reference) => {
                let secret = reference.load()?;
                if !is_mongo_uri(secret.text()?) {
                    return Err(SecretError::NotAMongoUri(reference.clone()));
                }
                Ok(Some(secret))
            }
        }
    }
}

impl FromStr for StoreLocation {
    type Err = NotAStore;

    fn from_str(text: &str) -> Result<Self, NotAStore> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            // A URL where a path should be may hold a password, and paths are shown.
            let is_path = !path.is_empty() && !path.contains("://");
            return if is_path { Ok(Self::Sqlite(path.into())) } else { Err(NotAStore) };
        }
        if is_mongo_uri(text) {
            return Ok(Self::MongoUri(text.to_owned()));
        }
        text.parse().map(Self::MongoReference).map_err(|_| NotAStore)
    }
}

fn is_mongo_uri(text: &str) -> bool {
    text.starts_with("mongodb://") || text.starts_with("mongodb+srv://")
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
        for text in [
            "postgres://user:canary@host",
            "mongo://user:canary@host",
            "MongoDB://user:canary@host",
            "mongodb:/user:canary@host",
            "mongodb:user:canary@host",
            "sqlite:mongodb://user:canary@host",
        ] {
            let error = text.parse::<StoreLocation>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"), "{text}");
        }
    }

    #[test]
    fn what_a_reference_holds_must_be_a_uri_and_is_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("uri");
        let location: StoreLocation = format!("file:{}", path.display()).parse().unwrap();
        std::fs::write(&path, "mongodb://user:canary@host/\n").unwrap();
        assert_eq!(
            location.mongo_uri().unwrap().unwrap().text().unwrap(),
            "mongodb://user:canary@host/"
        );
        for other in ["[[subscription]]\nname = \"canary\"", "mongo://user:canary@host/"] {
            std::fs::write(&path, other).unwrap();
            let error = location.mongo_uri().unwrap_err();
            assert!(matches!(error, SecretError::NotAMongoUri(_)), "{error:?}");
            assert!(!format!("{error} {error:?}").contains("canary"));
        }
    }

    #[test]
    fn forms() {
        assert_eq!("sqlite:a/b.db".parse(), Ok(StoreLocation::Sqlite("a/b.db".into())));
        assert!(matches!("env:URI".parse(), Ok(StoreLocation::MongoReference(_))));
        assert_eq!("sqlite:".parse::<StoreLocation>(), Err(NotAStore));
    }
}
