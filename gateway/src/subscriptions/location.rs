//! Where the store of subscriptions is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use domain::ids::Name;
use runtime::store_location::StoreLocation;

use super::mongo::MongoStore;
use super::{FileStore, SubscriptionStore, SubscriptionsError};

/// A file, or a MongoDB. Shown without a URI, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscriptionsLocation {
    /// A path.
    File(PathBuf),
    /// `mongodb://…`, or a reference to a secret that is such a URI.
    Mongo {
        /// The server.
        server: StoreLocation,
        /// The database is `<prefix>_gateway`.
        prefix: String,
    },
}

/// What the names of databases begin with unless something else is said.
const DEFAULT_PREFIX: &str = "vitalog";

/// A text that names no subscriptions. Does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "subscriptions are in a TOML file (write ./ before a name with a colon), or at mongodb://…, or env:NAME, file:/path or keyvault:https://… holding a MongoDB URI"
)]
pub struct NotSubscriptions;

impl SubscriptionsLocation {
    /// The same, with this prefix of the database's name.
    #[must_use]
    pub fn with_prefix(self, prefix: &Name) -> Self {
        match self {
            Self::Mongo { server, .. } => Self::Mongo { server, prefix: prefix.to_string() },
            file @ Self::File(_) => file,
        }
    }

    pub(crate) async fn open(&self) -> Result<Arc<dyn SubscriptionStore>, SubscriptionsError> {
        match self {
            Self::File(path) => Ok(Arc::new(FileStore::new(path.clone()))),
            Self::Mongo { server, prefix } => Ok(Arc::new(MongoStore::open(server, prefix).await?)),
        }
    }
}

impl FromStr for SubscriptionsLocation {
    type Err = NotSubscriptions;

    fn from_str(text: &str) -> Result<Self, NotSubscriptions> {
        match text.parse() {
            Ok(StoreLocation::Sqlite(_)) => Err(NotSubscriptions),
            Ok(server) => Ok(Self::Mongo { server, prefix: DEFAULT_PREFIX.to_owned() }),
            Err(_) if is_path(text) => Ok(Self::File(text.into())),
            Err(_) => Err(NotSubscriptions),
        }
    }
}

/// Paths are shown, and a URL or a reference that was mistyped may hold a password: what begins as
/// these do is no path.
fn is_path(text: &str) -> bool {
    let first = text.split('/').next().unwrap_or_default();
    !text.is_empty() && !text.contains("://") && !first.contains(':')
}

impl From<PathBuf> for SubscriptionsLocation {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&Path> for SubscriptionsLocation {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl fmt::Display for SubscriptionsLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Mongo { server, prefix } => write!(f, "{server} ({prefix}_gateway)"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_file_and_a_uri_or_a_secret_a_mongodb() {
        #[track_caller]
        fn check(text: &str, remote: bool, shown: &str) {
            let location: SubscriptionsLocation = text.parse().unwrap();
            let is_remote = matches!(location, SubscriptionsLocation::Mongo { .. });
            assert_eq!((is_remote, location.to_string().as_str()), (remote, shown));
            assert!(!format!("{location:?}").contains("canary"));
        }
        check("s.toml", false, "s.toml");
        check("/etc/vitalog/s.toml", false, "/etc/vitalog/s.toml");
        check("mongodb://user:canary@host/", true, "mongodb://… (vitalog_gateway)");
        check("env:URI", true, "env:URI (vitalog_gateway)");
        check("file:/run/uri", true, "file:/run/uri (vitalog_gateway)");
        check("./a:b.toml", false, "./a:b.toml");
    }

    #[test]
    fn what_looks_like_a_url_or_a_reference_is_no_path_and_is_not_repeated() {
        for text in [
            "mongo://user:canary@host/",
            "MongoDB://user:canary@host/",
            "mongodb:/user:canary@host/",
            "mongodb:user:canary@host/",
            "user:canary@host/",
            "folder/mongodb://user:canary@host/",
            "postgres://canary",
            "sqlite:canary.db",
            "env:canary-canary",
            "keyvault:canary",
            "",
        ] {
            let error = text.parse::<SubscriptionsLocation>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"), "{text}");
        }
    }
}
