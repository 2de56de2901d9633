//! Subscriptions in MongoDB, for several gateways: database `<prefix>_gateway`.
//!
//! `subscriptions` has one document with all of them, so that replacing it is atomic and its
//! revision is theirs. `usage` has one document for each subscription and period, `_id` such as
//! `clinic/2026-11`; old ones expire by themselves where the server knows how.

use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use mongodb::bson::{self, DateTime, Document, doc};
use mongodb::error::{Error, ErrorKind, WriteFailure};
use mongodb::options::{
    Acknowledgment, ClientOptions, CollectionOptions, IndexOptions, ReadConcern, ReadPreference,
    ReturnDocument, SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Collection, IndexModel};
use runtime::store_location::StoreLocation;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use super::store::{Added, Replaced, Revision, Snapshot, SubscriptionStore};
use super::usage::Counted;
use super::{Entry, SubscriptionsError, entry};

/// How long the driver looks for a primary; an election takes a few seconds.
const SELECTION_TIMEOUT: Duration = Duration::from_secs(8);

/// How long the server waits for a majority before it says that a write is not durable.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a call may take, retries of the driver included: a server that is silent must not keep
/// a gateway from noticing that a subscription is suspended, nor from ending.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections to one server at most: a look twice a second, and counts.
const MAX_CONNECTIONS: u32 = 8;

/// Counts on their way at once.
const COUNTS_AT_ONCE: usize = 8;

/// How long counts are kept after their period has ended.
const KEEP_COUNTS: chrono::Duration = chrono::Duration::days(32);

/// The document with all subscriptions.
const ALL: &str = "all";

const DUPLICATE_KEY: i32 = 11_000;

/// A MongoDB. Writes are acknowledged by a majority that has journaled them; reads are of what a
/// majority has, from the primary.
#[derive(Clone, Debug)]
pub(crate) struct MongoStore {
    subscriptions: Collection<Document>,
    usage: Collection<Document>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    _id: String,
    revision: i64,
    subscriptions: Vec<Entry>,
}

impl MongoStore {
    /// The database of a server. Asks for an index and needs no answer yet.
    pub(crate) async fn open(
        server: &StoreLocation,
        prefix: &str,
    ) -> Result<Self, SubscriptionsError> {
        let uri = server.mongo_uri().map_err(SubscriptionsError::Secret)?;
        let uri = uri.ok_or(SubscriptionsError::Uri)?;
        let uri = uri.text().map_err(|_| SubscriptionsError::Uri)?;
        let mut options = ClientOptions::parse(uri).await.map_err(|error| match *error.kind {
            ErrorKind::DnsResolve { .. } | ErrorKind::Io(_) => SubscriptionsError::Store(error),
            _ => SubscriptionsError::Uri,
        })?;
        options.app_name.get_or_insert_with(|| "vitalog".to_owned());
        options.server_selection_timeout = Some(SELECTION_TIMEOUT);
        options.connect_timeout.get_or_insert(SELECTION_TIMEOUT);
        options.max_pool_size.get_or_insert(MAX_CONNECTIONS);
        let client = Client::with_options(options).map_err(|_| SubscriptionsError::Uri)?;
        Ok(Self::new(&client, prefix))
    }

    fn new(client: &Client, prefix: &str) -> Self {
        let options = CollectionOptions::builder()
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .read_concern(ReadConcern::majority())
            .write_concern(
                WriteConcern::builder()
                    .w(Acknowledgment::Majority)
                    .journal(true)
                    .w_timeout(WRITE_TIMEOUT)
                    .build(),
            )
            .build();
        let database = client.database(&format!("{prefix}_gateway"));
        Self {
            subscriptions: database.collection_with_options("subscriptions", options.clone()),
            usage: database.collection_with_options("usage", options),
        }
    }

    async fn add(&self, counted: &Counted, requests: u64) -> Result<u64, SubscriptionsError> {
        let requests = i64::try_from(requests).unwrap_or(i64::MAX);
        let expires =
            DateTime::from_millis((counted.period.end() + KEEP_COUNTS).timestamp_millis());
        let update = doc! { "$inc": { "count": requests }, "$setOnInsert": { "expires": expires } };
        let document = self
            .usage
            .find_one_and_update(doc! { "_id": counted.to_string() }, update)
            .upsert(true)
            .return_document(ReturnDocument::After)
            .await
            .map_err(SubscriptionsError::Store)?;
        Ok(document.as_ref().map_or(0, count))
    }
}

#[async_trait]
impl SubscriptionStore for MongoStore {
    async fn load(&self, known: Option<&Revision>) -> Result<Option<Snapshot>, SubscriptionsError> {
        within(self.load_unless(known)).await
    }

    async fn replace(
        &self,
        before: &Snapshot,
        entries: &[Entry],
    ) -> Result<Replaced, SubscriptionsError> {
        within(self.replace_if(before, entries)).await
    }

    async fn add_usage(&self, added: &[(Counted, u64)]) -> Added {
        // One for all, and a result for each: what was added before it is not added again.
        let deadline = Instant::now() + CALL_TIMEOUT;
        let adding = added.iter().cloned().map(|(counted, requests)| async move {
            let adding = timeout_at(deadline, self.add(&counted, requests));
            adding.await.unwrap_or(Err(SubscriptionsError::TimedOut))
        });
        let mut adding = stream::iter(adding).buffered(COUNTS_AT_ONCE);
        let mut done = Added { totals: Vec::with_capacity(added.len()), failed: None };
        while let Some(total) = adding.next().await {
            done.totals.push(total.map_err(|error| done.failed = Some(error)).ok());
        }
        done
    }

    async fn usage(&self, wanted: &[Counted]) -> Result<Vec<u64>, SubscriptionsError> {
        within(self.counts(wanted)).await
    }
}

async fn within<T>(
    call: impl Future<Output = Result<T, SubscriptionsError>>,
) -> Result<T, SubscriptionsError> {
    tokio::time::timeout(CALL_TIMEOUT, call).await.unwrap_or(Err(SubscriptionsError::TimedOut))
}

impl MongoStore {
    async fn load_unless(
        &self,
        known: Option<&Revision>,
    ) -> Result<Option<Snapshot>, SubscriptionsError> {
        let mut filter = doc! { "_id": ALL };
        if let Some(revision) = known.and_then(number) {
            filter.insert("revision", doc! { "$ne": revision });
        }
        let found = self.subscriptions.find_one(filter).await;
        let Some(document) = found.map_err(SubscriptionsError::Store)? else { return Ok(None) };
        let Stored { revision, subscriptions: entries, .. } =
            bson::deserialize_from_document(document).map_err(|_| SubscriptionsError::Document)?;
        entry::check(&entries)?;
        Ok(Some(Snapshot { revision: Revision(revision.to_string()), entries }))
    }

    async fn replace_if(
        &self,
        before: &Snapshot,
        entries: &[Entry],
    ) -> Result<Replaced, SubscriptionsError> {
        entry::check(entries)?;
        let known = number(&before.revision);
        let revision = known.unwrap_or(0) + 1;
        let stored = Stored { _id: ALL.to_owned(), revision, subscriptions: entries.to_vec() };
        let document =
            bson::serialize_to_document(&stored).map_err(|_| SubscriptionsError::Document)?;
        let done = match known {
            None => match self.subscriptions.insert_one(document).await {
                Err(error) if is_duplicate(&error) => Ok(false),
                inserted => inserted.map(|_| true),
            },
            Some(known) => {
                let filter = doc! { "_id": ALL, "revision": known };
                let replaced = self.subscriptions.replace_one(filter, document).await;
                replaced.map(|replaced| replaced.matched_count == 1)
            }
        };
        let done = done.map_err(SubscriptionsError::Store)?;
        Ok(if done { Replaced::Done } else { Replaced::Outdated })
    }

    async fn counts(&self, wanted: &[Counted]) -> Result<Vec<u64>, SubscriptionsError> {
        // Old counts go by themselves. Without the index they only take space.
        let expiring = IndexOptions::builder().expire_after(Duration::ZERO).build();
        let index = IndexModel::builder().keys(doc! { "expires": 1 }).options(expiring).build();
        if self.usage.create_index(index).await.is_err() {
            tracing::warn!("old counts of usage will not expire by themselves");
        }
        let ids: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        let found = async {
            let cursor = self.usage.find(doc! { "_id": { "$in": &ids } }).await?;
            cursor.try_collect::<Vec<_>>().await
        };
        let found = found.await.map_err(SubscriptionsError::Store)?;
        let stored = |id: &String| {
            found
                .iter()
                .find(|document| document.get_str("_id").is_ok_and(|found| found == id))
                .map_or(0, count)
        };
        Ok(ids.iter().map(stored).collect())
    }
}

fn number(revision: &Revision) -> Option<i64> {
    revision.0.parse().ok()
}

fn count(document: &Document) -> u64 {
    u64::try_from(document.get_i64("count").unwrap_or(0)).unwrap_or(0)
}

fn is_duplicate(error: &Error) -> bool {
    matches!(
        error.kind.as_ref(),
        ErrorKind::Write(WriteFailure::WriteError(error)) if error.code == DUPLICATE_KEY
    )
}
