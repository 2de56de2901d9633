//! Tiles as documents, one a tile, in a collection of their own.

use std::collections::HashMap;

use futures::{StreamExt, TryStreamExt, stream};
use mongodb::{
    bson::{self, Binary, Document, RawDocument, RawDocumentBuf, doc, spec::BinarySubtype},
    error::Error,
};
use serde::Deserialize;

use super::{MongoLedger, bounded, collect, error};
use crate::{
    store::{StoreError, StoredTile, tile_bytes},
    tiles::{Tile, TileId},
};

/// The collection of tiles.
pub(super) const COLLECTION: &str = "tiles";

/// Writes that one call has under way at once.
const LANES: usize = 4;

/// Places in one query: each answers with 8 KB at most.
const IDS_PER_QUERY: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    #[serde(rename = "_id")]
    _id: String,
    width: i64,
    hashes: Binary,
}

fn key(id: TileId) -> String {
    format!("{}/{}", id.level, id.index)
}

fn binary(tile: &Tile) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: tile_bytes(&tile.hashes) }
}

fn width(tile: &Tile) -> i64 {
    i64::try_from(tile.hashes.len()).unwrap_or(i64::MAX)
}

fn document(tile: &Tile) -> Document {
    doc! { "_id": key(tile.id), "width": width(tile), "hashes": binary(tile) }
}

/// A tile is never stored before those under it.
pub(super) async fn put(ledger: &MongoLedger, tiles: &[Tile]) -> Result<(), StoreError> {
    for level in tiles.chunk_by(|one, next| one.id.level == next.id.level) {
        let mut writes = Vec::with_capacity(level.len());
        for tile in level {
            writes.push(put_one(ledger, tile));
        }
        stream::iter(writes).buffer_unordered(LANES).try_collect::<()>().await?;
    }
    Ok(())
}

async fn put_one(ledger: &MongoLedger, tile: &Tile) -> Result<(), StoreError> {
    let narrower = doc! { "_id": key(tile.id), "width": { "$lt": width(tile) } };
    let set = doc! { "$set": { "width": width(tile), "hashes": binary(tile) } };
    bounded(Box::pin(async {
        let mut session = ledger.session().await?;
        let update = ledger.tiles.update_one(narrower, set).upsert(true);
        let result = update.session(&mut session).await;
        ledger.saw(&session);
        match result {
            // One as wide or wider stands there, and the upsert was in its way.
            Err(error) if error::is_duplicate_key(&error) => Ok(()),
            result => result.map(drop),
        }
    }))
    .await
}

pub(super) async fn read(
    ledger: &MongoLedger,
    ids: &[TileId],
) -> Result<HashMap<TileId, StoredTile>, StoreError> {
    let mut found = HashMap::new();
    for ids in ids.chunks(IDS_PER_QUERY) {
        let places: HashMap<String, TileId> = ids.iter().map(|id| (key(*id), *id)).collect();
        let keys: Vec<&String> = places.keys().collect();
        let documents = find(ledger, doc! { "_id": { "$in": keys } }).await?;
        for document in &documents {
            let id = document.get_str("_id").ok().and_then(|key| places.get(key));
            found.extend(id.map(|id| (*id, decode(document))));
        }
    }
    Ok(found)
}

async fn find(ledger: &MongoLedger, filter: Document) -> Result<Vec<RawDocumentBuf>, StoreError> {
    bounded(Box::pin(async {
        let mut session = ledger.session().await?;
        let result: Result<_, Error> = match ledger.tiles.find(filter).session(&mut session).await {
            Ok(cursor) => collect(cursor, &mut session, usize::MAX).await,
            Err(error) => Err(error),
        };
        ledger.saw(&session);
        result
    }))
    .await
}

fn decode(document: &RawDocument) -> StoredTile {
    let stored: Result<Stored, _> = bson::deserialize_from_slice(document.as_bytes());
    let Ok(Stored { width, hashes, .. }) = stored else { return StoredTile::Malformed };
    let tile = StoredTile::from_bytes(&hashes.bytes);
    match &tile {
        StoredTile::Hashes(hashes) if usize::try_from(width) == Ok(hashes.len()) => tile,
        _ => StoredTile::Malformed,
    }
}

pub(super) async fn repair(
    ledger: &MongoLedger,
    good: &Tile,
    bad: &StoredTile,
) -> Result<(), StoreError> {
    let mut found = doc! { "_id": key(good.id) };
    // What is no tile was not put there by any process of ours, and cannot be wider than ours.
    if let StoredTile::Hashes(hashes) = bad {
        let bytes = tile_bytes(hashes);
        found.insert("hashes", Binary { subtype: BinarySubtype::Generic, bytes });
    }
    let good = RawDocumentBuf::try_from(document(good))
        .map_err(|error| StoreError::Unavailable(Box::new(error)))?;
    bounded(Box::pin(async {
        let mut session = ledger.session().await?;
        let result = ledger.tiles.replace_one(found, good).session(&mut session).await;
        ledger.saw(&session);
        result.map(drop)
    }))
    .await
}
