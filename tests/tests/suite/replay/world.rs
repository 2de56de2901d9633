//! One ledger, and stores that outlive the processes that use them.

use std::{sync::Arc, time::Duration};

use domain::{ids::Name, time::Timestamp};
use projections::{
    digest::{Digest, activity_digest, digest},
    follower::Deps,
    key_ring::{
        KeyRing,
        kek::Kek,
        store::{KeyStore, Rewrap},
    },
    office::Terms,
    open::{open_key_store, open_projection_store},
    rebuild::{Options, Pace, rebuild},
    store::{ProjectionStore, memory::MemoryStore},
};
use runtime::store_location::StoreLocation;
use tempfile::TempDir;
use tests::mongod;
use tokio_util::sync::CancellationToken;

use crate::follower::audit::Audit;

/// How long anything that should happen may take.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// Between two looks at what should happen.
const LOOK: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Copy)]
pub(super) enum Backend {
    Sqlite,
    Mongo,
}

/// Where the read models and keys are.
#[derive(Clone)]
pub(super) struct Place {
    store: StoreLocation,
    keys: StoreLocation,
    prefix: Name,
}

impl Place {
    pub(super) async fn store(&self) -> Arc<dyn ProjectionStore> {
        open_projection_store(&self.store, &self.prefix).await.unwrap()
    }

    pub(super) async fn keys(&self) -> Arc<dyn Rewrap> {
        open_key_store(&self.keys, &self.prefix).await.unwrap()
    }

    pub(super) async fn ring(&self) -> KeyRing {
        ring(self.keys().await)
    }
}

pub(super) fn ring(keys: Arc<dyn KeyStore>) -> KeyRing {
    KeyRing::new(keys, Kek::new([7; 32].into()))
}

/// A rebuild that waits for nobody who serves, because nobody does.
pub(super) fn at_once() -> Options {
    let moment = Duration::from_millis(1);
    let pace =
        Pace { joined: moment, settled: moment, terms: terms(), look: LOOK, ..Pace::default() };
    Options { pace, ..Options::default() }
}

/// Offices whose holders are soon taken for dead: here processes die all the time.
pub(super) fn terms() -> Terms {
    let millis = Duration::from_millis;
    Terms { look: LOOK, patience: millis(400), beat: millis(40) }
}

pub(super) struct World {
    pub(super) audit: Audit,
    pub(super) place: Place,
    _folder: TempDir,
}

impl World {
    pub(super) async fn new(backend: Backend) -> Self {
        let folder = TempDir::new().unwrap();
        let audit = Audit::on_sqlite(&folder.path().join("ledger.db")).await;
        let location = async |file: &str| match backend {
            Backend::Sqlite => StoreLocation::Sqlite(folder.path().join(file)),
            Backend::Mongo => mongod::uri().await.parse().unwrap(),
        };
        let prefix = mongod::database("replay").parse().unwrap();
        let (store, keys) = (location("patients.db").await, location("keys.db").await);
        Self { audit, place: Place { store, keys, prefix }, _folder: folder }
    }

    /// What a rebuild or follower works with that no process of the test disturbs.
    pub(super) fn deps(&self, store: Arc<dyn ProjectionStore>, ring: KeyRing) -> Deps {
        let audit = self.audit.client("projections");
        Deps { store, audit, ring, ledger_key: None, clock: || Timestamp::from_millis(0) }
    }

    /// Waits until the serving generation has the whole ledger, and gives its digest.
    pub(super) async fn live(&self) -> Digest {
        let store = self.place.store().await;
        let size = self.audit.size().await;
        let caught_up = async {
            loop {
                let serving = store.serving().await.unwrap();
                let position = store.position(serving).await.unwrap();
                if position.is_some_and(|position| position.next_seq >= size) {
                    return serving;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let serving = tokio::time::timeout(PATIENCE, caught_up).await.expect("it catches up");
        digest(store.as_ref(), serving).await.unwrap()
    }

    /// The digest of read models made anew from the ledger, in a store of their own.
    pub(super) async fn rebuilt(&self, store: Arc<dyn ProjectionStore>) -> Digest {
        let deps = self.deps(store.clone(), self.place.ring().await);
        let summary = rebuild(&deps, &at_once(), &CancellationToken::new()).await.unwrap();
        let built = projections::documents::Generation(summary.generation);
        digest(store.as_ref(), built).await.unwrap()
    }

    /// Live read models equal rebuilt ones, activity as far as both have followed.
    pub(super) async fn check(&self, what: &str) {
        let live = self.live().await;
        let memory = Arc::new(MemoryStore::default());
        assert_eq!(live, self.rebuilt(memory.clone()).await, "{what}");
        let live = self.place.store().await;
        let next_seq = async |store: &dyn ProjectionStore| {
            let position = store.position(store.serving().await.unwrap()).await.unwrap();
            position.expect("records are followed").next_seq
        };
        let up_to = next_seq(live.as_ref()).await.min(next_seq(memory.as_ref()).await);
        let digest = async |store: &dyn ProjectionStore| {
            let serving = store.serving().await.unwrap();
            activity_digest(store, serving, up_to).await.unwrap()
        };
        let expected = digest(memory.as_ref()).await;
        assert_eq!(expected.records, up_to, "{what}");
        assert_eq!(digest(live.as_ref()).await, expected, "{what}");
    }

    /// Drops the databases, where they are on a server that others use too.
    pub(super) async fn end(self) {
        if !matches!(self.place.store, StoreLocation::Sqlite(_)) {
            mongod::drop_databases(self.place.prefix.as_str()).await;
        }
    }
}
