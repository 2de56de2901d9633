//! The port under the key ring: where wrapped keys are kept.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use domain::ids::KeyId;

use super::kek::{KekId, WrappedKey};

/// A store of wrapped keys. It never sees a key in the clear.
///
/// Every method may run at any time in any number of tasks and processes. A write that returns
/// is durable: it survives the loss of the process and of any minority of a replica set. A write
/// that fails may have happened all the same. A read sees every write that was acknowledged to
/// anyone before the read began.
#[async_trait]
pub trait KeyStore: Send + Sync + 'static {
    /// Stores new data keys; one round trip however many. Where it fails, any part of them may be
    /// stored: the caller uses none.
    async fn insert_batch(&self, keys: &[WrappedKey]) -> Result<(), KeyStoreError>;

    /// The keys that exist, data and epoch keys alike, in any order; others are left out.
    async fn get(&self, kids: &[KeyId]) -> Result<Vec<WrappedKey>, KeyStoreError>;

    /// Deletes a key, data or epoch. Deleting what is not there is no error.
    async fn destroy(&self, kid: KeyId) -> Result<(), KeyStoreError>;

    /// Makes `key` the key of an epoch unless the epoch has one, atomically, and returns the
    /// epoch's key: all callers get the same, whoever came first.
    async fn claim_epoch(&self, epoch: &str, key: WrappedKey) -> Result<WrappedKey, KeyStoreError>;

    /// The epochs that have a key, in any order, and their keys' ids. One a month, so never many.
    async fn epochs(&self) -> Result<Vec<(String, KeyId)>, KeyStoreError>;

    /// Any key, data or epoch; `None` where there is none.
    async fn any(&self) -> Result<Option<WrappedKey>, KeyStoreError>;

    /// Whether there is no key at all.
    async fn is_empty(&self) -> Result<bool, KeyStoreError> {
        Ok(self.any().await?.is_none())
    }
}

/// What changing the key-encryption key needs besides. As durable and as current as [`KeyStore`].
#[async_trait]
pub trait Rewrap: KeyStore {
    /// How many keys, data and epoch keys together, are wrapped under which key-encryption key.
    /// Looks at every key.
    async fn counts(&self) -> Result<BTreeMap<KekId, u64>, KeyStoreError>;

    /// Keys, data and epoch keys alike, that are wrapped under another key-encryption key than
    /// `kek`: ordered by id, after `after`, at most `limit`.
    async fn not_under(
        &self,
        kek: KekId,
        after: Option<KeyId>,
        limit: usize,
    ) -> Result<Vec<WrappedKey>, KeyStoreError>;

    /// Puts new wraps in the place of old ones, each only where the store still holds the old
    /// one: what was destroyed stays destroyed, and what another process wrapped anew stays as
    /// it did. Returns how many it put; one round trip or a few however many.
    async fn rewrap(&self, changes: &[Rewrapped]) -> Result<u64, KeyStoreError>;

    /// Overwrites what the store's own files still hold of wraps that were replaced or destroyed.
    /// A store on a server cannot do that: there it ages out.
    async fn scrub(&self) -> Result<(), KeyStoreError>;
}

/// One key under two key-encryption keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrapped {
    /// As the store held it.
    pub old: WrappedKey,
    /// As it is to hold it.
    pub new: WrappedKey,
}

/// A call that gave no answer. Clones tell every caller who waited for it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeyStoreError {
    /// The store could not be reached, or refused.
    #[error("the key store is not available")]
    Unavailable(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The store did not answer in time.
    #[error("the key store did not answer in time")]
    TimedOut,
    /// A stored entry is not what this program writes.
    #[error("an entry of {0} in the key store cannot be read")]
    Malformed(&'static str),
}

impl KeyStoreError {
    /// Wraps the error of a driver.
    pub fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Unavailable(Arc::new(error))
    }
}
