//! Subscriptions: who may come in, and with what scopes.
//!
//! The file holds HMACs of keys under a pepper that it does not hold, so neither reading nor
//! guessing the file opens the door.

mod file;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use domain::actor::{Actor, ActorKind};
use hmac::{Hmac, Mac};
use runtime::secrets::Secret;
use sha2::Sha256;

use crate::identity::Identity;

pub use file::{Entry, SubscriptionsError, append, write_file};

/// The fewest bytes of a pepper: 128 bits when they are random.
pub const MIN_PEPPER_BYTES: usize = 16;

/// The longest presented key that is looked up, in bytes; real ones have 32.
const MAX_KEY_BYTES: usize = 256;

/// What a subscription may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// `patient:read`: load and search.
    PatientRead,
    /// `patient:write`: create, change and remove.
    PatientWrite,
    /// `patient:erase`: destroy a patient's content for good.
    PatientErase,
    /// `audit:read`: read the ledger.
    AuditRead,
}

/// A text that is not a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be patient:read, patient:write, patient:erase or audit:read")]
pub struct UnknownScope;

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 4] =
        [Self::PatientRead, Self::PatientWrite, Self::PatientErase, Self::AuditRead];

    /// The scope's text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PatientRead => "patient:read",
            Self::PatientWrite => "patient:write",
            Self::PatientErase => "patient:erase",
            Self::AuditRead => "audit:read",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(UnknownScope)
    }
}

type Digest = [u8; 32];
type Table = HashMap<Digest, Arc<Identity>>;

/// The subscriptions of a file, as it was when it was last good.
pub(crate) struct Subscriptions {
    path: PathBuf,
    hasher: KeyHasher,
    table: ArcSwap<Table>,
    /// Of the file that `table` was read from.
    read: file::Signature,
}

impl Subscriptions {
    /// Reads the file.
    pub(crate) fn load(path: PathBuf, pepper: &Secret) -> Result<Self, SubscriptionsError> {
        let hasher = KeyHasher::new(pepper)?;
        let read = file::Signature::of(&path)?;
        let table = ArcSwap::from_pointee(read_table(&path)?);
        Ok(Self { path, hasher, table, read })
    }

    /// The subscription that has this key.
    ///
    /// Looking up a digest needs no constant time: who cannot compute digests without the pepper
    /// cannot choose how much of one matches.
    pub(crate) fn find(&self, key: &[u8]) -> Option<Arc<Identity>> {
        if key.len() > MAX_KEY_BYTES {
            return None;
        }
        self.table.load().get(&self.hasher.digest(key)).cloned()
    }

    /// Reads the file again whenever it changes; a bad one leaves the last good one in force.
    pub(crate) async fn watch(self: Arc<Self>, interval: Duration) {
        let mut seen = Some(self.read);
        loop {
            tokio::time::sleep(interval).await;
            // Taken before reading: a change in between is seen at the next look.
            let signature = file::Signature::of(&self.path);
            let now = signature.as_ref().ok().copied();
            if now == seen {
                continue;
            }
            seen = now;
            match signature.and_then(|_| read_table(&self.path)) {
                Ok(table) => {
                    tracing::info!(keys = table.len(), "subscriptions read again");
                    self.table.store(Arc::new(table));
                }
                Err(error) => {
                    tracing::error!(%error, "subscriptions not read again, the last good ones stay");
                }
            }
        }
    }
}

fn read_table(path: &Path) -> Result<Table, SubscriptionsError> {
    let mut table = Table::new();
    for entry in file::read(path)? {
        let actor =
            Actor { id: entry.name.clone(), kind: ActorKind::Subscription, roles: Vec::new() };
        let digests = entry.digests()?;
        let identity = Identity::new(&actor, entry.scopes)
            .ok_or(SubscriptionsError::Unencodable { name: entry.name })?;
        let identity = Arc::new(identity);
        table.extend(digests.into_iter().map(|digest| (digest, Arc::clone(&identity))));
    }
    Ok(table)
}

/// HMAC-SHA256 under the pepper, with the key schedule done once.
struct KeyHasher(Hmac<Sha256>);

impl KeyHasher {
    fn new(pepper: &Secret) -> Result<Self, SubscriptionsError> {
        check_pepper(pepper)?;
        Ok(Self(keyed(pepper)))
    }

    fn digest(&self, key: &[u8]) -> Digest {
        self.0.clone().chain_update(key).finalize().into_bytes().into()
    }
}

fn keyed(pepper: &Secret) -> Hmac<Sha256> {
    Hmac::new_from_slice(pepper.bytes()).expect("HMAC takes keys of any length")
}

/// Refuses a pepper that is shorter than [`MIN_PEPPER_BYTES`].
pub fn check_pepper(pepper: &Secret) -> Result<(), SubscriptionsError> {
    if pepper.bytes().len() < MIN_PEPPER_BYTES {
        return Err(SubscriptionsError::PepperTooShort);
    }
    Ok(())
}

/// What stands in the file for a key: hex of its HMAC-SHA256 under the pepper.
pub fn hash_key(pepper: &Secret, key: &str) -> String {
    hex::encode(keyed(pepper).chain_update(key).finalize().into_bytes())
}

/// A new random key: 32 hex digits, the form that clients of API Management know.
pub fn new_key() -> String {
    const DIGITS: usize = 32;
    let mut key = runtime::secrets::random_key_hex();
    key.truncate(DIGITS);
    key
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::routes::Access;

    fn pepper() -> Secret {
        Secret::new("0123456789abcdef")
    }

    #[test]
    fn a_key_is_hashed_as_rfc_2104_says() {
        // printf %s key | openssl dgst -sha256 -hmac 0123456789abcdef
        assert_eq!(
            hash_key(&pepper(), "key"),
            "20a9171a03070f7952cd455b7cfec78cca1f46534443f8e79ce7a1d66deefc49"
        );
    }

    #[test]
    fn new_keys_are_128_random_bits() {
        let (one, other) = (new_key(), new_key());
        assert_ne!(one, other);
        assert!(one.len() == 32 && one.bytes().all(|b| b.is_ascii_hexdigit()));
    }

    #[test]
    fn both_keys_of_a_subscription_open_it_and_no_other_does() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("subscriptions.toml");
        let entry = Entry {
            name: "clinic".parse().unwrap(),
            scopes: vec![Scope::PatientRead],
            keys: vec![hash_key(&pepper(), "one"), hash_key(&pepper(), "two")],
        };
        write_file(&path, &[entry]).unwrap();
        let subscriptions = Subscriptions::load(path, &pepper()).unwrap();
        for key in ["one", "two"] {
            let found = subscriptions.find(key.as_bytes()).unwrap();
            assert!(found.check(Access::Scope(Scope::PatientRead)).is_ok());
            assert!(found.check(Access::Scope(Scope::PatientWrite)).is_err());
            assert_eq!(found.actor(), r#"{"id":"clinic","kind":"subscription"}"#);
        }
        assert!(subscriptions.find(b"three").is_none());
        assert!(subscriptions.find(b"").is_none());
        assert!(subscriptions.find(hash_key(&pepper(), "one").as_bytes()).is_none());
    }
}
