//! The key store in MongoDB: database `<prefix>_keys`, with credentials of its own.
//!
//! `data_keys` has one document a key, `_id` its id; `epochs` one an epoch, `_id` its name.
//! No other index is needed: `epochs` grows by one document a month.

mod rewrap;

use std::time::Duration;

use async_trait::async_trait;
use domain::ids::KeyId;
use futures::TryStreamExt;
use mongodb::{
    Client, Collection, Cursor,
    bson::{Binary, Document, doc, spec::BinarySubtype},
    error::{Error, ErrorKind, WriteFailure},
    options::{
        Acknowledgment, CollectionOptions, ReadConcern, ReadPreference, SelectionCriteria,
        WriteConcern,
    },
};

use super::{
    kek::WrappedKey,
    store::{KeyStore, KeyStoreError},
};

/// How long the server waits for a majority before it says that a write is not durable.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often to look for the epoch's key that won: it is there, but not visible to majority reads
/// before it is durable. With the pause as long as a write may take.
const WINNER_LOOKS: u32 = 250;

/// Pause between two looks, about what one majority write takes.
const WINNER_PAUSE: Duration = Duration::from_millis(20);

const DUPLICATE_KEY: i32 = 11_000;

const DATA_KEYS: &str = "data_keys";
const EPOCHS: &str = "epochs";

/// Keys in MongoDB. Writes are acknowledged by a majority that has journaled them; reads are of
/// what a majority has, from the primary.
#[derive(Debug, Clone)]
pub struct MongoKeys {
    data_keys: Collection<Document>,
    epochs: Collection<Document>,
}

impl MongoKeys {
    /// Keys in the database `<prefix>_keys` of a server. Nothing is sent yet.
    pub fn new(client: &Client, prefix: &str) -> Self {
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
        let database = client.database(&format!("{prefix}_keys"));
        Self {
            data_keys: database.collection_with_options(DATA_KEYS, options.clone()),
            epochs: database.collection_with_options(EPOCHS, options),
        }
    }
}

#[async_trait]
impl KeyStore for MongoKeys {
    async fn insert_batch(&self, keys: &[WrappedKey]) -> Result<(), KeyStoreError> {
        if keys.is_empty() {
            return Ok(());
        }
        let documents = keys.iter().map(|key| {
            let mut document = doc! { "_id": key.kid.to_string() };
            document.extend(wrapping(key));
            document
        });
        self.data_keys.insert_many(documents).await.map_err(KeyStoreError::unavailable)?;
        Ok(())
    }

    async fn get(&self, kids: &[KeyId]) -> Result<Vec<WrappedKey>, KeyStoreError> {
        let names: Vec<_> = kids.iter().map(KeyId::to_string).collect();
        let found = self.data_keys.find(doc! { "_id": { "$in": &names } });
        let mut keys = collect(found.await, parse_data_key).await?;
        if keys.len() < kids.len() {
            let found = self.epochs.find(doc! { "kid": { "$in": &names } });
            keys.extend(collect(found.await, parse_epoch).await?);
        }
        Ok(keys)
    }

    async fn destroy(&self, kid: KeyId) -> Result<(), KeyStoreError> {
        let kid = kid.to_string();
        let unavailable = KeyStoreError::unavailable;
        self.data_keys.delete_one(doc! { "_id": &kid }).await.map_err(unavailable)?;
        self.epochs.delete_one(doc! { "kid": &kid }).await.map_err(unavailable)?;
        Ok(())
    }

    async fn claim_epoch(&self, epoch: &str, key: WrappedKey) -> Result<WrappedKey, KeyStoreError> {
        let mut document = doc! { "_id": epoch, "kid": key.kid.to_string() };
        document.extend(wrapping(&key));
        match self.epochs.insert_one(document).await {
            Ok(_) => return Ok(key),
            Err(error) if is_duplicate(&error) => {}
            Err(error) => return Err(KeyStoreError::unavailable(error)),
        }
        for _ in 0..WINNER_LOOKS {
            let winner = self.epochs.find_one(doc! { "_id": epoch });
            if let Some(winner) = winner.await.map_err(KeyStoreError::unavailable)? {
                return parse_epoch(&winner);
            }
            tokio::time::sleep(WINNER_PAUSE).await;
        }
        Err(KeyStoreError::TimedOut)
    }

    async fn epochs(&self) -> Result<Vec<(String, KeyId)>, KeyStoreError> {
        let found = self.epochs.find(doc! {});
        collect(found.await, |document| {
            let epoch = document.get_str("_id").ok();
            epoch
                .and_then(|epoch| Some((epoch.to_owned(), parse(document, "kid")?.kid)))
                .ok_or(KeyStoreError::Malformed(EPOCHS))
        })
        .await
    }

    async fn any(&self) -> Result<Option<WrappedKey>, KeyStoreError> {
        let unavailable = KeyStoreError::unavailable;
        if let Some(document) = self.data_keys.find_one(doc! {}).await.map_err(unavailable)? {
            return parse_data_key(&document).map(Some);
        }
        let document = self.epochs.find_one(doc! {}).await.map_err(unavailable)?;
        document.as_ref().map(parse_epoch).transpose()
    }
}

fn wrapping(key: &WrappedKey) -> Document {
    let wrapped = Binary { subtype: BinarySubtype::Generic, bytes: key.wrapped.clone() };
    doc! { "kek": key.kek.to_string(), "wrapped": wrapped }
}

fn parse_data_key(document: &Document) -> Result<WrappedKey, KeyStoreError> {
    parse(document, "_id").ok_or(KeyStoreError::Malformed(DATA_KEYS))
}

fn parse_epoch(document: &Document) -> Result<WrappedKey, KeyStoreError> {
    parse(document, "kid").ok_or(KeyStoreError::Malformed(EPOCHS))
}

fn parse(document: &Document, kid: &str) -> Option<WrappedKey> {
    Some(WrappedKey {
        kid: document.get_str(kid).ok()?.parse().ok()?,
        kek: document.get_str("kek").ok()?.parse().ok()?,
        wrapped: document.get_binary_generic("wrapped").ok()?.clone(),
    })
}

async fn collect<T>(
    found: Result<Cursor<Document>, Error>,
    parse: fn(&Document) -> Result<T, KeyStoreError>,
) -> Result<Vec<T>, KeyStoreError> {
    let mut cursor = found.map_err(KeyStoreError::unavailable)?;
    let mut keys = Vec::new();
    while let Some(document) = cursor.try_next().await.map_err(KeyStoreError::unavailable)? {
        keys.push(parse(&document)?);
    }
    Ok(keys)
}

fn is_duplicate(error: &Error) -> bool {
    matches!(
        error.kind.as_ref(),
        ErrorKind::Write(WriteFailure::WriteError(error)) if error.code == DUPLICATE_KEY
    )
}
