//! The end of a process at a chosen moment: before or after the n-th of its durable writes.

use std::{
    collections::BTreeMap,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use domain::ids::KeyId;
use projections::{
    key_ring::{
        kek::{KekId, WrappedKey},
        store::{KeyStore, KeyStoreError, Rewrap, Rewrapped},
    },
    store::{
        StoreError,
        hooked::{Call, Hook},
    },
};
use tokio::sync::Notify;

/// A process's fate. Clones share it.
#[derive(Clone)]
pub(super) struct Crash(Arc<Inner>);

struct Inner {
    /// The moment at which the process ends.
    at: usize,
    passed: AtomicUsize,
    dead: AtomicBool,
    happened: Notify,
}

impl Crash {
    /// The process lives.
    pub(super) fn never() -> Self {
        Self::at(usize::MAX)
    }

    /// The process ends at this moment; each durable write has one before and one after it.
    pub(super) fn at(moment: usize) -> Self {
        Self(Arc::new(Inner {
            at: moment,
            passed: AtomicUsize::new(0),
            dead: AtomicBool::new(false),
            happened: Notify::new(),
        }))
    }

    /// Whether it has happened.
    pub(super) fn happened(&self) -> bool {
        self.0.dead.load(Ordering::SeqCst)
    }

    /// Waits until it happens.
    pub(super) async fn happening(&self) {
        let happening = self.0.happened.notified();
        if !self.happened() {
            happening.await;
        }
    }

    /// Nothing that the process does from here on has an effect.
    pub(super) fn now(&self) {
        self.0.dead.store(true, Ordering::SeqCst);
        self.0.happened.notify_waiters();
    }

    /// Passes one moment, if the process is to live on.
    pub(super) async fn moment(&self) {
        self.alive().await;
        if self.0.passed.fetch_add(1, Ordering::SeqCst) == self.0.at {
            self.now();
            pending::<()>().await;
        }
    }

    /// Goes on only in a process that lives.
    pub(super) async fn alive(&self) {
        if self.happened() {
            pending::<()>().await;
        }
    }

    async fn pass(&self, call: Call<'_>) -> Result<(), StoreError> {
        match call {
            // A beat says nothing that has to survive, and how often it is made depends on the time.
            Call::Read(_) | Call::Write("beat") => self.alive().await,
            Call::Apply(_) | Call::Write(_) => self.moment().await,
        }
        Ok(())
    }
}

#[async_trait]
impl Hook for Crash {
    async fn before(&self, call: Call<'_>) -> Result<(), StoreError> {
        self.pass(call).await
    }

    async fn after(&self, call: Call<'_>) -> Result<(), StoreError> {
        self.pass(call).await
    }
}

/// Keys in a store that ends with the process.
pub(super) struct Keys {
    pub(super) inner: Arc<dyn Rewrap>,
    pub(super) crash: Crash,
}

impl Keys {
    async fn write<T>(&self, write: impl Future<Output = T>) -> T {
        self.crash.moment().await;
        let answer = write.await;
        self.crash.moment().await;
        answer
    }

    async fn read<T>(&self, read: impl Future<Output = T>) -> T {
        let answer = read.await;
        self.crash.alive().await;
        answer
    }
}

#[async_trait]
impl KeyStore for Keys {
    async fn insert_batch(&self, keys: &[WrappedKey]) -> Result<(), KeyStoreError> {
        self.write(self.inner.insert_batch(keys)).await
    }

    async fn get(&self, kids: &[KeyId]) -> Result<Vec<WrappedKey>, KeyStoreError> {
        self.read(self.inner.get(kids)).await
    }

    async fn destroy(&self, kid: KeyId) -> Result<(), KeyStoreError> {
        self.write(self.inner.destroy(kid)).await
    }

    async fn claim_epoch(&self, epoch: &str, key: WrappedKey) -> Result<WrappedKey, KeyStoreError> {
        self.write(self.inner.claim_epoch(epoch, key)).await
    }

    async fn epochs(&self) -> Result<Vec<(String, KeyId)>, KeyStoreError> {
        self.read(self.inner.epochs()).await
    }

    async fn any(&self) -> Result<Option<WrappedKey>, KeyStoreError> {
        self.read(self.inner.any()).await
    }
}

#[async_trait]
impl Rewrap for Keys {
    async fn counts(&self) -> Result<BTreeMap<KekId, u64>, KeyStoreError> {
        self.read(self.inner.counts()).await
    }

    async fn not_under(
        &self,
        kek: KekId,
        after: Option<KeyId>,
        limit: usize,
    ) -> Result<Vec<WrappedKey>, KeyStoreError> {
        self.read(self.inner.not_under(kek, after, limit)).await
    }

    async fn rewrap(&self, changes: &[Rewrapped]) -> Result<u64, KeyStoreError> {
        self.write(self.inner.rewrap(changes)).await
    }

    async fn scrub(&self) -> Result<(), KeyStoreError> {
        self.write(self.inner.scrub()).await
    }
}
