//! A key store in memory, with faults to order: for tests.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use domain::ids::KeyId;

use super::{
    kek::{KekId, WrappedKey},
    store::{KeyStore, KeyStoreError, Rewrap, Rewrapped},
};

/// What happens to every call from now on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fault {
    /// Calls succeed.
    #[default]
    None,
    /// Calls fail and change nothing.
    Fails,
    /// Writes are stored and fail all the same; reads fail.
    FailsButPersists,
    /// Calls never return and change nothing.
    Hangs,
}

/// A key store that lives as long as the value.
#[derive(Debug, Default)]
pub struct MemoryKeys {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    keys: HashMap<KeyId, WrappedKey>,
    epochs: HashMap<String, WrappedKey>,
    fault: Fault,
    batches: Vec<usize>,
}

/// The fault that a test ordered.
#[derive(Debug, thiserror::Error)]
#[error("the store fails because a test wants it to")]
struct Ordered;

impl MemoryKeys {
    /// Changes what happens to later calls.
    pub fn set_fault(&self, fault: Fault) {
        self.state().fault = fault;
    }

    /// Whether a data key is stored.
    pub fn contains(&self, kid: KeyId) -> bool {
        self.state().keys.contains_key(&kid)
    }

    /// Sizes of the batches stored so far, in order.
    pub fn batches(&self) -> Vec<usize> {
        self.state().batches.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write<T>(&self, change: impl FnOnce(&mut State) -> T) -> Result<T, KeyStoreError> {
        let fault = self.state().fault;
        match fault {
            Fault::None => Ok(change(&mut self.state())),
            Fault::Fails => Err(KeyStoreError::unavailable(Ordered)),
            Fault::FailsButPersists => {
                change(&mut self.state());
                Err(KeyStoreError::unavailable(Ordered))
            }
            Fault::Hangs => std::future::pending().await,
        }
    }

    async fn read<T>(&self, look: impl FnOnce(&State) -> T) -> Result<T, KeyStoreError> {
        let fault = self.state().fault;
        match fault {
            Fault::None => Ok(look(&self.state())),
            Fault::Fails | Fault::FailsButPersists => Err(KeyStoreError::unavailable(Ordered)),
            Fault::Hangs => std::future::pending().await,
        }
    }
}

#[async_trait]
impl KeyStore for MemoryKeys {
    async fn insert_batch(&self, keys: &[WrappedKey]) -> Result<(), KeyStoreError> {
        self.write(|state| {
            state.batches.push(keys.len());
            state.keys.extend(keys.iter().map(|key| (key.kid, key.clone())));
        })
        .await
    }

    async fn get(&self, kids: &[KeyId]) -> Result<Vec<WrappedKey>, KeyStoreError> {
        self.read(|state| {
            let epoch = |kid| state.epochs.values().find(move |key| key.kid == kid);
            kids.iter()
                .filter_map(|kid| state.keys.get(kid).or_else(|| epoch(*kid)))
                .cloned()
                .collect()
        })
        .await
    }

    async fn destroy(&self, kid: KeyId) -> Result<(), KeyStoreError> {
        self.write(|state| {
            state.keys.remove(&kid);
            state.epochs.retain(|_, key| key.kid != kid);
        })
        .await
    }

    async fn claim_epoch(&self, epoch: &str, key: WrappedKey) -> Result<WrappedKey, KeyStoreError> {
        self.write(|state| state.epochs.entry(epoch.to_owned()).or_insert(key).clone()).await
    }

    async fn epochs(&self) -> Result<Vec<(String, KeyId)>, KeyStoreError> {
        let listed = |state: &State| {
            state.epochs.iter().map(|(epoch, key)| (epoch.clone(), key.kid)).collect()
        };
        self.read(listed).await
    }

    async fn any(&self) -> Result<Option<WrappedKey>, KeyStoreError> {
        self.read(|state| state.keys.values().chain(state.epochs.values()).next().cloned()).await
    }
}

impl State {
    fn all(&self) -> impl Iterator<Item = &WrappedKey> {
        self.keys.values().chain(self.epochs.values())
    }
}

#[async_trait]
impl Rewrap for MemoryKeys {
    async fn counts(&self) -> Result<BTreeMap<KekId, u64>, KeyStoreError> {
        self.read(|state| {
            let mut counts = BTreeMap::new();
            for key in state.all() {
                *counts.entry(key.kek).or_default() += 1;
            }
            counts
        })
        .await
    }

    async fn not_under(
        &self,
        kek: KekId,
        after: Option<KeyId>,
        limit: usize,
    ) -> Result<Vec<WrappedKey>, KeyStoreError> {
        self.read(|state| {
            let wanted = |key: &&WrappedKey| key.kek != kek && Some(key.kid) > after;
            let mut keys: Vec<_> = state.all().filter(wanted).cloned().collect();
            keys.sort_unstable_by_key(|key| key.kid);
            keys.truncate(limit);
            keys
        })
        .await
    }

    async fn rewrap(&self, changes: &[Rewrapped]) -> Result<u64, KeyStoreError> {
        self.write(|state| {
            let mut put = 0;
            for Rewrapped { old, new } in changes {
                let mut all = state.keys.values_mut().chain(state.epochs.values_mut());
                if let Some(key) = all.find(|key| *key == old) {
                    *key = new.clone();
                    put += 1;
                }
            }
            put
        })
        .await
    }

    async fn scrub(&self) -> Result<(), KeyStoreError> {
        self.write(|_| ()).await
    }
}
