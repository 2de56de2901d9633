//! The key ring: every patient's data key, wrapped, in a store of its own (design §7).
//!
//! In scope: making keys ahead, finding and destroying them, the key of an epoch's searches,
//! noticing a wrong key-encryption key. Out of scope: which patient has which key; that stands
//! in the records (`kid` of `data`) and in the read models.
//!
//! Not a read model: whoever loses the ring loses every patient, and a key that is destroyed
//! here takes its patient's content with it for good.

mod epochs;
pub mod kek;
pub mod keks;
pub mod memory;
pub mod mongo;
pub mod observed;
mod pool;
pub mod rotation;
pub mod sqlite;
pub mod store;

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::{ids::KeyId, time::Timestamp};
use moka::sync::Cache;
use runtime::key_ages;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::gcm;

use epochs::{age_in_epoch, epoch_name};
use kek::{KEY_BYTES, KekId};
use keks::{Keks, listed};
use pool::Pool;
use store::{KeyStore, KeyStoreError};

/// Keys held in memory: some 20 MB.
const CACHE_KEYS: u64 = 100_000;

/// How long a key is used without asking the store: an erasure in another process is noticed by
/// then at the latest, where nothing else told of it sooner.
const CACHE_TIME: Duration = Duration::from_mins(10);

/// How long a call of the store may take, retries of its driver included.
const STORE_DEADLINE: Duration = Duration::from_secs(10);

/// Keys asked of the store in one call, so that a query stays far below a document's 16 MB.
const MAX_GET: usize = 10_000;

/// A data key in the clear. Clones share its bytes, which are wiped with the last of them.
#[derive(Clone)]
pub struct DataKey {
    kid: KeyId,
    secret: Arc<Zeroizing<[u8; KEY_BYTES]>>,
}

impl DataKey {
    /// A key that is known by another way, such as a test's.
    pub fn from_parts(kid: KeyId, secret: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        Self { kid, secret: Arc::new(secret) }
    }

    /// The key's id, random and meaningless.
    pub fn kid(&self) -> KeyId {
        self.kid
    }

    pub(crate) fn secret(&self) -> &[u8; KEY_BYTES] {
        &self.secret
    }

    fn generate() -> Self {
        let mut secret = Zeroizing::new([0; KEY_BYTES]);
        gcm::fill_random(secret.as_mut());
        Self::from_parts(KeyId::new(Uuid::new_v4()), secret)
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey({}, …)", self.kid)
    }
}

/// Why the ring gave no key.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeyRingError {
    /// The store did not answer, or no key was made in time.
    #[error("the key ring is not available")]
    Unavailable(#[source] KeyStoreError),
    /// The ring was wrapped by another key-encryption key than the one given.
    #[error("the key ring needs the key-encryption key {needed}, not {}", listed(given))]
    WrongKek {
        /// The id that the stored key names.
        needed: KekId,
        /// The ids of the keys at hand.
        given: Vec<KekId>,
    },
    /// A stored key was changed, or belongs to another key-encryption key of the same id.
    #[error("the stored data key {0} does not unwrap: it was changed in its store")]
    Corrupt(KeyId),
}

/// The ring. Clones share one cache and one pool of keys made ahead.
#[derive(Clone)]
pub struct KeyRing {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn KeyStore>,
    keks: Arc<Keks>,
    cache: Cache<KeyId, DataKey>,
    /// How many keys were forgotten; see [`KeyRing::remember`].
    forgotten: Mutex<u64>,
    /// The latest epoch asked for, and its key.
    epoch: Mutex<Option<(String, DataKey)>>,
    pool: Arc<Pool>,
}

impl KeyRing {
    /// A ring over a store, under one key-encryption key or several. Nothing is read or written
    /// before it is used.
    pub fn new(store: Arc<dyn KeyStore>, keks: impl Into<Keks>) -> Self {
        let keks: Arc<Keks> = Arc::new(keks.into());
        // Nothing says when it was made.
        key_ages::seen("key_encryption", "", Duration::ZERO);
        let inner = Inner {
            pool: Pool::new(store.clone(), keks.clone()),
            store,
            keks,
            cache: Cache::builder().max_capacity(CACHE_KEYS).time_to_live(CACHE_TIME).build(),
            forgotten: Mutex::new(0),
            epoch: Mutex::new(None),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Unwraps one stored key, whichever: a wrong key-encryption key is found at start, not when
    /// the first patient is read. An empty ring takes any.
    pub async fn check(&self) -> Result<(), KeyRingError> {
        if let Some(key) = self.ask(self.inner.store.any()).await? {
            self.inner.keks.unwrap(&key)?;
        }
        Ok(())
    }

    /// A new key, durable already and never handed out before or again.
    ///
    /// Comes from a pool that is filled in the background, so that only the first caller after
    /// a start waits for the store. Keys that nobody took by shutdown are lost: they stay in the
    /// store, unused. Must be called on a tokio runtime.
    pub async fn fresh(&self) -> Result<DataKey, KeyRingError> {
        let key = self.inner.pool.take().await?;
        self.inner.cache.insert(key.kid, key.clone());
        Ok(key)
    }

    /// A key by its id; `None` where it is unknown or destroyed.
    pub async fn get(&self, kid: KeyId) -> Result<Option<DataKey>, KeyRingError> {
        Ok(self.get_many(&[kid]).await?.remove(&kid))
    }

    /// Keys by their ids, with one call of the store for all that are not in memory; unknown and
    /// destroyed ones are left out.
    pub async fn get_many(&self, kids: &[KeyId]) -> Result<HashMap<KeyId, DataKey>, KeyRingError> {
        let mut found = HashMap::with_capacity(kids.len());
        let mut missing = Vec::new();
        for kid in kids {
            match self.inner.cache.get(kid) {
                Some(key) => drop(found.insert(*kid, key)),
                None => missing.push(*kid),
            }
        }
        missing.sort_unstable();
        missing.dedup();
        for chunk in missing.chunks(MAX_GET) {
            let seen = *lock(&self.inner.forgotten);
            for wrapped in self.ask(self.inner.store.get(chunk)).await? {
                let key = self.inner.keks.unwrap(&wrapped)?;
                self.remember(&key, seen);
                found.insert(key.kid, key);
            }
        }
        Ok(found)
    }

    /// Drops a key from memory, because it is or may be destroyed.
    pub fn forget(&self, kid: KeyId) {
        let mut forgotten = lock(&self.inner.forgotten);
        *forgotten += 1;
        self.inner.cache.invalidate(&kid);
        let mut epoch = lock(&self.inner.epoch);
        if epoch.as_ref().is_some_and(|(_, key)| key.kid == kid) {
            *epoch = None;
        }
    }

    /// Destroys a key durably and forgets it. What was sealed under it can never be read again,
    /// once backups of the store have aged out. Doing it again is no error.
    pub async fn destroy(&self, kid: KeyId) -> Result<(), KeyRingError> {
        let destroyed = self.ask(self.inner.store.destroy(kid)).await;
        // Forgotten after a failure too: the key may be gone all the same.
        self.forget(kid);
        destroyed
    }

    /// Destroys those of the keys that the store still holds, as [`KeyRing::destroy`]; how many
    /// those were.
    pub async fn destroy_remaining(&self, kids: &[KeyId]) -> Result<usize, KeyRingError> {
        let mut remaining = 0;
        for chunk in kids.chunks(MAX_GET) {
            for key in self.ask(self.inner.store.get(chunk)).await? {
                self.destroy(key.kid).await?;
                remaining += 1;
            }
        }
        Ok(remaining)
    }

    /// The key under which search criteria are sealed at a time: one for each calendar month
    /// (UTC), the same in every process. The first to need it makes it.
    pub async fn epoch_key(&self, at: Timestamp) -> Result<DataKey, KeyRingError> {
        let epoch = epoch_name(at);
        if let Some((name, key)) = &*lock(&self.inner.epoch)
            && *name == epoch
        {
            return Ok(key.clone());
        }
        let seen = *lock(&self.inner.forgotten);
        let candidate = self.inner.keks.wrap(&DataKey::generate());
        let winner = self.ask(self.inner.store.claim_epoch(&epoch, candidate)).await?;
        let key = self.inner.keks.unwrap(&winner)?;
        if self.remember(&key, seen) {
            key_ages::seen("search_epoch", "", age_in_epoch(at));
            *lock(&self.inner.epoch) = Some((epoch, key.clone()));
        }
        Ok(key)
    }

    /// Keeps a key that was read when `seen` keys had been forgotten. Where one was forgotten
    /// since, it may be this one, destroyed after it was read: then it is not kept.
    fn remember(&self, key: &DataKey, seen: u64) -> bool {
        let forgotten = lock(&self.inner.forgotten);
        if *forgotten == seen {
            self.inner.cache.insert(key.kid, key.clone());
        }
        *forgotten == seen
    }

    async fn ask<T>(
        &self,
        call: impl Future<Output = Result<T, KeyStoreError>>,
    ) -> Result<T, KeyRingError> {
        bounded(call).await.map_err(KeyRingError::Unavailable)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing(under {}, …)", self.inner.keks.first())
    }
}

async fn bounded<T>(
    call: impl Future<Output = Result<T, KeyStoreError>>,
) -> Result<T, KeyStoreError> {
    tokio::time::timeout(STORE_DEADLINE, call).await.unwrap_or(Err(KeyStoreError::TimedOut))
}

/// A panic elsewhere leaves these values whole: every change is one step under the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
