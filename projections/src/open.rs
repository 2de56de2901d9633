//! Opening the stores that settings name.

use std::{sync::Arc, time::Duration};

use domain::ids::Name;
use mongodb::{Client, error::ErrorKind, options::ClientOptions};
use runtime::{
    health::Component,
    retry,
    secrets::{SecretError, SecretRef},
    store_location::StoreLocation,
};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Transient,
    key_ring::{
        KeyRing, KeyRingError,
        keks::Keks,
        mongo::MongoKeys,
        observed::observed as observed_keys,
        sqlite::{OpenKeysError, SqliteKeys},
        store::{KeyStoreError, Rewrap},
    },
    pool_events,
    store::{
        Generations, ProjectionStore, StoreError, mongo::MongoStore, observed::observed,
        sqlite::SqliteStore,
    },
};

/// How long the driver looks for a primary; an election takes a few seconds.
const SELECTION_TIMEOUT: Duration = Duration::from_secs(8);

/// Connections to one server at most. Calls beyond it wait for a free one.
const MAX_CONNECTIONS: u32 = 64;

/// Why a store could not be opened. Never shows a URI.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A secret could not be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The URI is not one of a MongoDB. The driver's text is not kept: it may repeat the URI.
    #[error("the store's URI is not a valid MongoDB connection string (it is not shown)")]
    Uri,
    /// The servers that the URI stands for could not be found.
    #[error("the store's servers could not be found")]
    Servers(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The read models could not be opened.
    #[error(transparent)]
    Projections(#[from] StoreError),
    /// The embedded key store could not be opened.
    #[error(transparent)]
    KeyFile(#[from] OpenKeysError),
    /// The key store gave no answer.
    #[error(transparent)]
    Keys(#[from] KeyStoreError),
    /// The key ring cannot be used with the key-encryption key.
    #[error(transparent)]
    Ring(#[from] KeyRingError),
    /// The process was told to stop meanwhile.
    #[error("stopped while waiting for a store")]
    Stopped,
}

impl Transient for OpenError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Servers(_) => true,
            Self::Keys(error) => error.is_transient(),
            Self::Projections(error) => error.is_transient(),
            Self::Ring(error) => error.is_transient(),
            _ => false,
        }
    }
}

/// As [`open_bulk_store`], with every call in traces and metrics: for processes that serve.
pub async fn open_projection_store(
    location: &StoreLocation,
    prefix: &Name,
) -> Result<Arc<dyn ProjectionStore>, OpenError> {
    Ok(observed(open_bulk_store(location, prefix).await?, system(location)))
}

/// Opens the read models: `<prefix>_patients` on a MongoDB, or an embedded file. On a MongoDB a
/// task makes the indexes that an older version did not: for processes that stay.
pub async fn open_bulk_store(
    location: &StoreLocation,
    prefix: &Name,
) -> Result<Arc<dyn ProjectionStore>, OpenError> {
    let StoreLocation::Sqlite(_) = location else {
        let store = mongo(location, prefix).await?;
        let completing = store.clone();
        tokio::spawn(async move { completing.complete_indexes().await });
        return Ok(Arc::new(store));
    };
    inspect_projection_store(location, prefix).await
}

/// Opens the read models and starts nothing: for commands that take a look at them.
pub async fn inspect_projection_store(
    location: &StoreLocation,
    prefix: &Name,
) -> Result<Arc<dyn ProjectionStore>, OpenError> {
    let StoreLocation::Sqlite(path) = location else {
        return Ok(Arc::new(mongo(location, prefix).await?));
    };
    let store = SqliteStore::open(path)?;
    // Makes the first generation, too.
    store.serving().await?;
    Ok(Arc::new(store))
}

async fn mongo(location: &StoreLocation, prefix: &Name) -> Result<MongoStore, OpenError> {
    let store =
        MongoStore::new(&client(location, "patients").await?, &format!("{prefix}_patients"));
    store.serving().await?;
    Ok(store)
}

/// Opens the key store: `<prefix>_keys` on a MongoDB, or an embedded file.
pub async fn open_key_store(
    location: &StoreLocation,
    prefix: &Name,
) -> Result<Arc<dyn Rewrap>, OpenError> {
    let store: Arc<dyn Rewrap> = match location {
        StoreLocation::Sqlite(path) => Arc::new(SqliteKeys::open(path)?),
        _ => Arc::new(MongoKeys::new(&client(location, "keys").await?, prefix.as_str())),
    };
    store.any().await?;
    Ok(observed_keys(store, system(location)))
}

/// Opens the key ring and checks that one of the key-encryption keys wrapped it; the first wraps
/// new keys.
pub async fn open_key_ring(
    location: &StoreLocation,
    prefix: &Name,
    keks: &[SecretRef],
) -> Result<KeyRing, OpenError> {
    let keks = Keks::load(keks)?;
    let ring = KeyRing::new(open_key_store(location, prefix).await?, keks);
    ring.check().await?;
    Ok(ring)
}

/// Opens something, waiting for a store that is not there yet; `component` is not ready until
/// it is. What waiting does not change is an error at once.
pub async fn until_open<T, F, Fut>(
    what: &'static str,
    component: &Component,
    shutdown: &CancellationToken,
    mut open: F,
) -> Result<T, OpenError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, OpenError>>,
{
    let opened = retry::until_ready(what, component, shutdown, || {
        let opening = open();
        async move {
            match opening.await {
                Err(error) if error.is_transient() => Err(error),
                answer => Ok(answer),
            }
        }
    });
    let answer = opened.await.ok_or(OpenError::Stopped)?;
    if answer.is_err() {
        component.not_ready("cannot be opened");
    }
    answer
}

/// What a store is, as traces and metrics name it.
fn system(location: &StoreLocation) -> &'static str {
    match location {
        StoreLocation::Sqlite(_) => "sqlite",
        StoreLocation::MongoUri(_) | StoreLocation::MongoReference(_) => "mongodb",
    }
}

async fn client(location: &StoreLocation, namespace: &'static str) -> Result<Client, OpenError> {
    let uri = location.mongo_uri()?.ok_or(OpenError::Uri)?;
    let mut options =
        ClientOptions::parse(uri.text()?).await.map_err(|error| match *error.kind {
            ErrorKind::DnsResolve { .. } | ErrorKind::Io(_) => OpenError::Servers(Box::new(error)),
            _ => OpenError::Uri,
        })?;
    options.app_name.get_or_insert_with(|| "vitalog".to_owned());
    options.server_selection_timeout = Some(SELECTION_TIMEOUT);
    options.connect_timeout.get_or_insert(SELECTION_TIMEOUT);
    options.max_pool_size.get_or_insert(MAX_CONNECTIONS);
    options.cmap_event_handler = Some(pool_events::counting(namespace));
    Client::with_options(options).map_err(|_| OpenError::Uri)
}
