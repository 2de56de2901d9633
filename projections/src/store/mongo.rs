//! The projection store on MongoDB 6 and later, and on Azure Cosmos DB for MongoDB.
//!
//! Each generation has collections of its own: `patients_g<N>`, `tests_g<N>`, `activity_g<N>`,
//! `erasures_g<N>`, `parked_g<N>`. `meta` holds one document that names the generations and those
//! in use, and one for the position and the office of each. There are no transactions: every write is conditional on a version,
//! and the order of writes (see `apply`) makes what lies between them harmless.
//!
//! Every write waits for a majority with its journal, and every read is of majority-committed
//! data from the primary: a cursor that a failover could take back would let its reader skip
//! events. What a deposed primary still answers is older, never wrong, and callers compare
//! versions with the ledger's.

mod activity;
mod apply;
mod books;
mod command;
mod confirm;
mod failure;
mod generations;
mod indexes;
mod reads;
mod stored;
mod upkeep;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mongodb::{
    Client, Collection, Database,
    bson::RawDocumentBuf,
    options::{
        Acknowledgment, ClientOptions, DatabaseOptions, ReadConcern, ReadPreference,
        SelectionCriteria, WriteConcern,
    },
};

use crate::{documents::Generation, store::StoreError};

/// How long one call may take, waiting for a server included: callers hold a client's request.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// How long the server waits for a majority; shorter than [`DEADLINE`] so that its answer is
/// heard.
const WRITE_TIMEOUT: Duration = Duration::from_secs(8);

/// How long the driver looks for a primary; an election takes a few seconds.
const SELECTION_TIMEOUT: Duration = Duration::from_secs(8);

/// Connections to one server at most. Requests beyond it wait for a free one.
const MAX_CONNECTIONS: u32 = 64;

/// The collection of the generations and their books.
const META: &str = "meta";

/// Read models in a MongoDB database. Clones share the connections.
#[derive(Clone, Debug)]
pub struct MongoStore {
    database: Database,
    /// Generations known to exist. A write to one that was dropped would make its collections
    /// anew, without indexes and with nobody to drop them; a read would find nothing in it.
    known: Arc<Mutex<BTreeSet<u32>>>,
}

impl MongoStore {
    /// Prepares connections to a server; contacts it only to resolve an SRV name.
    pub async fn connect(uri: &str, database: &str) -> Result<Self, StoreError> {
        let parsed = ClientOptions::parse(uri).await;
        let mut options = parsed.map_err(|error| failure::unavailable(&error))?;
        options.app_name.get_or_insert_with(|| "vitalog-projections".to_owned());
        options.server_selection_timeout = Some(SELECTION_TIMEOUT);
        options.connect_timeout = Some(SELECTION_TIMEOUT);
        options.max_pool_size.get_or_insert(MAX_CONNECTIONS);
        let client = Client::with_options(options).map_err(|error| failure::unavailable(&error))?;
        Ok(Self::new(&client, database))
    }

    /// Uses the connections of a client that the caller made.
    pub fn new(client: &Client, database: &str) -> Self {
        let majority = WriteConcern::builder()
            .w(Acknowledgment::Majority)
            .journal(true)
            .w_timeout(WRITE_TIMEOUT)
            .build();
        let options = DatabaseOptions::builder()
            .read_concern(ReadConcern::majority())
            .write_concern(majority)
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .build();
        let database = client.database_with_options(database, options);
        Self { database, known: Arc::default() }
    }

    fn collection(&self, name: &str) -> Collection<RawDocumentBuf> {
        self.database.collection(name)
    }

    /// Refuses a generation that was never made or is known to be dropped.
    async fn require(&self, generation: Generation) -> Result<(), StoreError> {
        if self.known_generations().contains(&generation.0) {
            return Ok(());
        }
        let listed = self.pointer().await?.is_some_and(|pointer| pointer.lists(generation));
        if !listed {
            return Err(StoreError::Generation(generation.0));
        }
        self.known_generations().insert(generation.0);
        Ok(())
    }

    fn known_generations(&self) -> std::sync::MutexGuard<'_, BTreeSet<u32>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bounds a call on this side: the driver alone would wait for a silent server.
async fn within<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(result) => result,
        Err(_) => Err(failure::deadline()),
    }
}

fn patients(generation: Generation) -> String {
    format!("patients_g{}", generation.0)
}

fn tests(generation: Generation) -> String {
    format!("tests_g{}", generation.0)
}

fn erasures(generation: Generation) -> String {
    format!("erasures_g{}", generation.0)
}

fn parked(generation: Generation) -> String {
    format!("parked_g{}", generation.0)
}

fn activity(generation: Generation) -> String {
    format!("activity_g{}", generation.0)
}
