//! The adapters, each with a place of its own for one test.

use std::{path::PathBuf, sync::Arc};

use audit_service::store::{
    LedgerStore,
    memory::MemoryLedger,
    mongo::{MongoLedger, MongoOptions},
    sqlite::SqliteLedger,
};
use tempfile::TempDir;
use tests::mongod;

pub(super) enum Backend {
    Memory(MemoryLedger),
    Sqlite(TempDir),
    Mongo(String),
}

impl Backend {
    pub(super) fn memory(_: &str) -> Self {
        Self::Memory(MemoryLedger::new())
    }

    pub(super) fn sqlite(_: &str) -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    pub(super) fn mongo(test: &str) -> Self {
        Self::Mongo(mongod::database(test))
    }

    /// Leaves nothing behind; needed only where the server outlives the tests.
    pub(super) async fn clean_up(self) {
        if let Self::Mongo(database) = self {
            mongod::drop_databases(&database).await;
        }
    }

    /// A store value on this place; each call gives another one.
    pub(super) async fn open(&self) -> Arc<dyn LedgerStore> {
        match self {
            Self::Memory(ledger) => Arc::new(ledger.clone()),
            Self::Sqlite(folder) => Arc::new(SqliteLedger::open(sqlite_file(folder)).unwrap()),
            Self::Mongo(database) => Arc::new(mongo(database).await),
        }
    }
}

pub(super) fn sqlite_file(folder: &TempDir) -> PathBuf {
    folder.path().join("ledger.db")
}

pub(super) async fn mongo(database: &str) -> MongoLedger {
    MongoLedger::connect(mongod::uri().await, database, MongoOptions::default()).await.unwrap()
}
