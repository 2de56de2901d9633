//! Where the store of subscriptions is.

use std::convert::Infallible;
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
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.parse() {
            Ok(server) if !matches!(server, StoreLocation::Sqlite(_)) => {
                Self::Mongo { server, prefix: DEFAULT_PREFIX.to_owned() }
            }
            _ => Self::File(text.into()),
        })
    }
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
    }
}
