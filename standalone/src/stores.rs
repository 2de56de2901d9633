//! The three stores, embedded or on a MongoDB, and whether they hold anything.

use std::sync::Arc;

use audit_service::{config::open_store, store::LedgerStore};
use projections::{
    key_ring::store::KeyStore,
    open::{open_key_store, open_projection_store, until_open},
    store::ProjectionStore,
};
use runtime::{health::Readiness, store_location::StoreLocation};
use tokio_util::sync::CancellationToken;

use crate::{config::Options, data_dir::DataDir};

/// Ledger, read models and key ring: separate databases.
pub struct Stores {
    /// The ledger.
    pub ledger: Arc<dyn LedgerStore>,
    /// The read models.
    pub patients: Arc<dyn ProjectionStore>,
    /// The wrapped data keys.
    pub keys: Arc<dyn KeyStore>,
}

impl Stores {
    /// Opens the stores, waiting for a MongoDB that is not there yet.
    pub async fn open(
        options: &Options,
        data: &DataDir,
        readiness: &Readiness,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let prefix = &options.database_prefix;
        let location = |file: &str| match &options.store {
            Some(location) => location.clone(),
            None => StoreLocation::Sqlite(data.path(file)),
        };
        let mongo = audit_service::store::mongo::open::MongoOptions::default();
        let ledger = location("ledger.db");
        let ledger = open_store(&ledger, prefix, mongo, readiness, shutdown).await?;
        let (patients, keys) = (location("patients.db"), location("keys.db"));
        let component = readiness.component("projection store");
        let patients = until_open("projection store", &component, shutdown, || {
            open_projection_store(&patients, prefix)
        })
        .await?;
        let component = readiness.component("key ring");
        let keys =
            until_open("key ring", &component, shutdown, || open_key_store(&keys, prefix)).await?;
        Ok(Self { ledger, patients, keys })
    }

    /// Whether nothing was ever stored.
    pub async fn are_empty(&self) -> anyhow::Result<bool> {
        let generation = self.patients.serving().await?;
        Ok(self.ledger.head().await?.is_none()
            && self.keys.any().await?.is_none()
            && self.patients.position(generation).await?.is_none()
            && self.patients.scan_patients(generation, None, 1).await?.is_empty())
    }
}
