//! The indexes of the lookups. They are made on an empty collection alone: while an index is made
//! over blocks, Azure Cosmos DB answers from what it has so far, and an incomplete answer is an
//! absence that is none.

use std::time::Duration;

use mongodb::{
    Collection, IndexModel,
    bson::{Bson, Document, RawDocumentBuf, doc},
    error::Error,
    options::IndexOptions,
};

use super::OpenError;

/// How often to look whether another process has made the indexes; half a minute in all.
const INDEX_POLLS: u32 = 30;

/// The pause between two of these looks.
const INDEX_POLL_PAUSE: Duration = Duration::from_secs(1);

/// The lookups' indexes, by their keys.
fn indexes() -> [(&'static str, Document); 2] {
    [
        ("{ \"streams.s\": 1, _id: -1 }", doc! { "streams.s": 1, "_id": -1 }),
        ("{ \"commands.i\": 1 }", doc! { "commands.i": 1 }),
    ]
}

/// Makes the indexes of an empty collection, or waits for those of one that holds blocks.
pub(super) async fn ensure(blocks: &Collection<RawDocumentBuf>) -> Result<(), OpenError> {
    let unavailable = |source| OpenError::Unavailable { doing: "indexes", source };
    let any = blocks.find_one(doc! {}).projection(doc! { "_id": 1 }).await;
    if any.map_err(unavailable)?.is_some() {
        wait(blocks).await?;
    }
    // For indexes that exist this changes nothing, but waits while they are still being made.
    let models = indexes().map(|(_, keys)| IndexModel::builder().keys(keys).build());
    blocks.create_indexes(models).await.map_err(unavailable)?;
    let present = list(blocks).await.map_err(unavailable)?;
    let unique = present.into_iter().find(|(name, _, unique)| *unique && name != "_id_");
    unique.map_or(Ok(()), |(index, ..)| Err(OpenError::UniqueIndex { index }))
}

async fn wait(blocks: &Collection<RawDocumentBuf>) -> Result<(), OpenError> {
    let mut missing = None;
    for _ in 0..INDEX_POLLS {
        let present = list(blocks).await;
        let present = present
            .map_err(|source| OpenError::Unavailable { doing: "listing indexes", source })?;
        missing = indexes()
            .into_iter()
            .find(|(_, keys)| !present.iter().any(|(_, present, _)| same_keys(present, keys)));
        if missing.is_none() {
            return Ok(());
        }
        tokio::time::sleep(INDEX_POLL_PAUSE).await;
    }
    missing.map_or(Ok(()), |(index, _)| Err(OpenError::MissingIndex { index }))
}

/// Name, keys and uniqueness of each index.
async fn list(blocks: &Collection<RawDocumentBuf>) -> Result<Vec<(String, Document, bool)>, Error> {
    let mut cursor = blocks.list_indexes().await?;
    let mut indexes = Vec::new();
    while cursor.advance().await? {
        let IndexModel { keys, options, .. } = cursor.deserialize_current()?;
        let IndexOptions { name, unique, .. } = options.unwrap_or_default();
        indexes.push((name.unwrap_or_default(), keys, unique.unwrap_or_default()));
    }
    Ok(indexes)
}

/// Compares by value: a shell makes doubles of the directions, the driver integers.
fn same_keys(one: &Document, other: &Document) -> bool {
    let direction = |value: &Bson| match value {
        Bson::Int32(value) => Some(f64::from(*value)),
        Bson::Double(value) => Some(*value),
        _ => None,
    };
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .all(|((one, a), (other, b))| one == other && direction(a) == direction(b))
}
