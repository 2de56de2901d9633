//! Changing the key-encryption key of keys in MongoDB.

use std::collections::BTreeMap;

use async_trait::async_trait;
use domain::ids::KeyId;
use futures::TryStreamExt;
use mongodb::{
    Collection,
    bson::{self, Document, doc},
};
use serde::Deserialize;

use super::{
    DATA_KEYS, EPOCHS, MongoKeys, WRITE_TIMEOUT, collect, parse_data_key, parse_epoch, wrapping,
};
use crate::key_ring::{
    kek::{KekId, WrappedKey},
    store::{KeyStoreError, Rewrap, Rewrapped},
};

/// How many keys of a collection are under one key-encryption key.
#[derive(Deserialize)]
struct Count {
    #[serde(rename = "_id")]
    kek: String,
    keys: i64,
}

/// The answer to an update of many. Says which statements failed, and never what they wrote.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reply {
    #[serde(default)]
    n: i64,
    #[serde(default)]
    write_errors: Vec<Code>,
    write_concern_error: Option<Code>,
}

#[derive(Deserialize)]
struct Code {
    #[serde(default)]
    code: i32,
}

#[derive(Debug, thiserror::Error)]
#[error("the server refused to write a key (code {0})")]
struct NotWritten(i32);

#[async_trait]
impl Rewrap for MongoKeys {
    async fn counts(&self) -> Result<BTreeMap<KekId, u64>, KeyStoreError> {
        let mut counts = BTreeMap::new();
        for (collection, name) in self.both() {
            let group = doc! { "$group": { "_id": "$kek", "keys": { "$sum": 1_i64 } } };
            let found = collection.aggregate([group]).with_type::<Count>();
            let mut found = found.await.map_err(KeyStoreError::unavailable)?;
            while let Some(count) = found.try_next().await.map_err(KeyStoreError::unavailable)? {
                let malformed = || KeyStoreError::Malformed(name);
                let kek = count.kek.parse().map_err(|_| malformed())?;
                let keys = u64::try_from(count.keys).map_err(|_| malformed())?;
                *counts.entry(kek).or_default() += keys;
            }
        }
        Ok(counts)
    }

    async fn not_under(
        &self,
        kek: KekId,
        after: Option<KeyId>,
        limit: usize,
    ) -> Result<Vec<WrappedKey>, KeyStoreError> {
        let after = after.map_or_else(String::new, |kid| kid.to_string());
        let bound = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut keys = Vec::new();
        for (collection, name) in self.both() {
            let (id, parse): (_, fn(&Document) -> _) = match name {
                DATA_KEYS => ("_id", parse_data_key),
                _ => ("kid", parse_epoch),
            };
            let found = collection
                .find(doc! { id: { "$gt": &after }, "kek": { "$ne": kek.to_string() } })
                .sort(doc! { id: 1 })
                .limit(bound);
            keys.extend(collect(found.await, parse).await?);
        }
        keys.sort_unstable_by_key(|key| key.kid);
        keys.truncate(limit);
        Ok(keys)
    }

    async fn rewrap(&self, changes: &[Rewrapped]) -> Result<u64, KeyStoreError> {
        let mut put = self.update(DATA_KEYS, "_id", changes).await?;
        if put < changes.len() as u64 {
            put += self.update(EPOCHS, "kid", changes).await?;
        }
        Ok(put)
    }

    async fn scrub(&self) -> Result<(), KeyStoreError> {
        Ok(())
    }
}

impl MongoKeys {
    fn both(&self) -> [(&Collection<Document>, &'static str); 2] {
        [(&self.data_keys, DATA_KEYS), (&self.epochs, EPOCHS)]
    }

    /// Sends one command: the driver's own bulk write needs MongoDB 8.
    async fn update(
        &self,
        collection: &str,
        id: &str,
        changes: &[Rewrapped],
    ) -> Result<u64, KeyStoreError> {
        if changes.is_empty() {
            return Ok(0);
        }
        let statement = |Rewrapped { old, new }: &Rewrapped| {
            let mut condition = wrapping(old);
            condition.insert(id, old.kid.to_string());
            doc! { "q": condition, "u": { "$set": wrapping(new) } }
        };
        let timeout = i64::try_from(WRITE_TIMEOUT.as_millis()).unwrap_or(i64::MAX);
        let command = doc! {
            "update": collection,
            "updates": changes.iter().map(statement).collect::<Vec<_>>(),
            "ordered": false,
            // Commands sent as such do not take the collection's write concern.
            "writeConcern": { "w": "majority", "j": true, "wtimeout": timeout },
        };
        let database = self.data_keys.client().database(&self.data_keys.namespace().db);
        let reply = database.run_command(command).await.map_err(KeyStoreError::unavailable)?;
        let reply: Reply = bson::deserialize_from_document(reply)
            .map_err(|_| KeyStoreError::unavailable(NotWritten(0)))?;
        if let Some(error) = reply.write_errors.first().or(reply.write_concern_error.as_ref()) {
            return Err(KeyStoreError::unavailable(NotWritten(error.code)));
        }
        Ok(u64::try_from(reply.n).unwrap_or_default())
    }
}
