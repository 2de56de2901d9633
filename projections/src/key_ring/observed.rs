//! A store of wrapped keys whose every call is a span and a measurement.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use domain::ids::KeyId;
use runtime::store_calls::{CallError, Database};

use super::{
    kek::{KekId, WrappedKey},
    store::{KeyStore, KeyStoreError, Rewrap, Rewrapped},
};

/// Observes a store; `system` is what it is: `mongodb`, `sqlite` or `memory`.
pub fn observed(store: Arc<dyn Rewrap>, system: &'static str) -> Arc<dyn Rewrap> {
    Arc::new(Observed { store, database: Database { system, namespace: "keys" } })
}

struct Observed {
    store: Arc<dyn Rewrap>,
    database: Database,
}

impl Observed {
    async fn call<T>(
        &self,
        operation: &'static str,
        collection: &'static str,
        call: impl Future<Output = Result<T, KeyStoreError>> + Send,
    ) -> Result<T, KeyStoreError> {
        self.database.call(operation, collection, call).await
    }

    async fn of_keys<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, KeyStoreError>> + Send,
    ) -> Result<T, KeyStoreError> {
        self.call(operation, "data_keys", call).await
    }
}

#[async_trait]
impl KeyStore for Observed {
    async fn insert_batch(&self, keys: &[WrappedKey]) -> Result<(), KeyStoreError> {
        self.of_keys("insert_batch", self.store.insert_batch(keys)).await
    }

    async fn get(&self, kids: &[KeyId]) -> Result<Vec<WrappedKey>, KeyStoreError> {
        self.of_keys("get", self.store.get(kids)).await
    }

    async fn destroy(&self, kid: KeyId) -> Result<(), KeyStoreError> {
        self.of_keys("destroy", self.store.destroy(kid)).await
    }

    async fn claim_epoch(&self, epoch: &str, key: WrappedKey) -> Result<WrappedKey, KeyStoreError> {
        self.call("claim_epoch", "epochs", self.store.claim_epoch(epoch, key)).await
    }

    async fn epochs(&self) -> Result<Vec<(String, KeyId)>, KeyStoreError> {
        self.call("epochs", "epochs", self.store.epochs()).await
    }

    async fn any(&self) -> Result<Option<WrappedKey>, KeyStoreError> {
        self.of_keys("any", self.store.any()).await
    }
}

#[async_trait]
impl Rewrap for Observed {
    async fn counts(&self) -> Result<BTreeMap<KekId, u64>, KeyStoreError> {
        self.of_keys("counts", self.store.counts()).await
    }

    async fn not_under(
        &self,
        kek: KekId,
        after: Option<KeyId>,
        limit: usize,
    ) -> Result<Vec<WrappedKey>, KeyStoreError> {
        self.of_keys("not_under", self.store.not_under(kek, after, limit)).await
    }

    async fn rewrap(&self, changes: &[Rewrapped]) -> Result<u64, KeyStoreError> {
        self.of_keys("rewrap", self.store.rewrap(changes)).await
    }

    async fn scrub(&self) -> Result<(), KeyStoreError> {
        self.of_keys("scrub", self.store.scrub()).await
    }
}

impl CallError for KeyStoreError {
    fn error_type(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unavailable(_) => "unavailable",
            Self::TimedOut => "timeout",
            Self::Malformed(_) => "malformed",
        })
    }
}
