//! What can be wrong with subscriptions.

use std::io;
use std::path::PathBuf;

use domain::ids::Name;
use runtime::secrets::SecretError;

/// What is wrong with the subscriptions. Never repeats what they hold but names.
#[derive(Debug, thiserror::Error)]
pub enum SubscriptionsError {
    /// The pepper could not be loaded.
    #[error("the pepper cannot be loaded")]
    Pepper(#[source] SecretError),
    /// No pepper is named.
    #[error("no pepper is named")]
    NoPepper,
    /// The pepper is too short to resist guessing.
    #[error("the pepper is shorter than {min} bytes: make a longer one", min = super::MIN_PEPPER_BYTES)]
    PepperTooShort,
    /// The file could not be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The file could not be written.
    #[error("{} cannot be written", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// Another process holds the file's lock.
    #[error("{} is held by another process: try again", .0.display())]
    Locked(PathBuf),
    /// The file is larger than any real one.
    #[error("{} is larger than {max} bytes: it should hold subscriptions", .0.display(), max = super::file::MAX_FILE_BYTES)]
    TooLarge(PathBuf),
    /// The file is not TOML, or not of this form. The parser's message is left out: it repeats
    /// values, and someone may have written a key where its digest belongs.
    #[error(
        "{} is not a list of [[subscription]] with name, scopes, keys and limits (line {line})",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where, from 1; 0 when the parser does not say.
        line: usize,
    },
    /// The reference to the store's URI could not be followed.
    #[error("the URI of the subscriptions' store cannot be loaded")]
    Secret(#[source] SecretError),
    /// The URI is not one of a MongoDB. The driver's text is not kept: it may repeat the URI.
    #[error(
        "the URI of the subscriptions' store is not a valid MongoDB connection string (it is not shown)"
    )]
    Uri,
    /// The MongoDB gave no answer, or an error.
    #[error("the subscriptions' store does not answer as it should")]
    Store(#[source] mongodb::error::Error),
    /// The MongoDB gave no answer in time.
    #[error("the subscriptions' store does not answer in time")]
    TimedOut,
    /// The MongoDB's document has another form.
    #[error("the stored subscriptions are not of the form that this version knows")]
    Document,
    /// Others changed the subscriptions again and again.
    #[error("the subscriptions changed again and again meanwhile: try again")]
    Contended,
    /// Two subscriptions have one name.
    #[error("there are two subscriptions named {name}: records could not tell them apart")]
    DuplicateName {
        /// The name.
        name: Name,
    },
    /// There is no such subscription.
    #[error("there is no subscription named {name}")]
    Unknown {
        /// The name.
        name: Name,
    },
    /// A subscription has no key, or too many.
    #[error("subscription {name} must have one or two keys")]
    KeyCount {
        /// The subscription.
        name: Name,
    },
    /// A key is not a digest.
    #[error("a key of subscription {name} is not 64 lower-case hex digits of an HMAC-SHA256")]
    NotADigest {
        /// The subscription.
        name: Name,
    },
    /// One key belongs to two subscriptions, or stands twice.
    #[error("{first} and {second} have the same key: give each its own")]
    SharedKey {
        /// The subscription that comes first.
        first: Name,
        /// The one that comes later.
        second: Name,
    },
    /// A burst limits nothing by itself.
    #[error("subscription {name} has a burst and no rate: give it a rate")]
    BurstWithoutRate {
        /// The subscription.
        name: Name,
    },
    /// A rate or burst is beyond what could ever be reached.
    #[error("rate and burst of subscription {name} may be at most {max}")]
    RateTooHigh {
        /// The subscription.
        name: Name,
        /// The most.
        max: u32,
    },
    /// A quota is beyond what the ledger can say and MongoDB can count.
    #[error("quotas of subscription {name} may be at most {max}")]
    QuotaTooHigh {
        /// The subscription.
        name: Name,
        /// The most.
        max: u64,
    },
    /// A subscription has more networks than are looked at.
    #[error("subscription {name} may have at most {max} networks")]
    TooManyNetworks {
        /// The subscription.
        name: Name,
        /// The most.
        max: usize,
    },
    /// The actor header for the subscription could not be made.
    #[error("subscription {name} has no form as a header")]
    Unencodable {
        /// The subscription.
        name: Name,
    },
}

impl SubscriptionsError {
    /// Whether there is no file yet.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether waiting may help.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Store(_) | Self::TimedOut)
    }
}
