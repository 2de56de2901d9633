//! Tiles as rows. They are written by the connection that appends: another one's writes would
//! empty its cache of the indexes.

use std::collections::HashMap;

use rusqlite::{
    Connection, Error, OptionalExtension, TransactionBehavior, params,
    types::{Value, ValueRef},
};

use crate::{
    store::{StoreError, StoredTile, tile_bytes},
    tiles::{Tile, TileId},
};

/// Bytes of a full tile: 256 hashes.
const MAX_BYTES: u32 = 8_192;

pub(super) fn put(connection: &mut Connection, tiles: &[Tile]) -> Result<(), Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut put = transaction.prepare_cached(
            "INSERT INTO tiles (level, number, hashes) VALUES (?1, ?2, ?3)
                ON CONFLICT (level, number) DO UPDATE SET hashes = excluded.hashes
                WHERE length(excluded.hashes) > length(tiles.hashes)",
        )?;
        for Tile { id, hashes } in tiles {
            put.execute(params![id.level, id.index.cast_signed(), tile_bytes(hashes)])?;
        }
    }
    transaction.commit()
}

pub(super) fn read(
    connection: &Connection,
    ids: &[TileId],
) -> Result<HashMap<TileId, StoredTile>, StoreError> {
    let unavailable = |error| StoreError::Unavailable(Box::new(error));
    let select = "SELECT hashes FROM tiles WHERE level = ?1 AND number = ?2";
    let mut select = connection.prepare_cached(select).map_err(unavailable)?;
    let mut found = HashMap::new();
    for id in ids {
        let tile = select.query_row(params![id.level, id.index.cast_signed()], |row| {
            Ok(match row.get_ref(0)? {
                ValueRef::Blob(bytes) => StoredTile::from_bytes(bytes),
                _ => StoredTile::Malformed,
            })
        });
        if let Some(tile) = tile.optional().map_err(unavailable)? {
            found.insert(*id, tile);
        }
    }
    Ok(found)
}

pub(super) fn repair(
    connection: &mut Connection,
    good: &Tile,
    bad: &StoredTile,
) -> Result<(), Error> {
    let (level, number) = (good.id.level, good.id.index.cast_signed());
    let hashes = tile_bytes(&good.hashes);
    match bad {
        StoredTile::Hashes(found) => {
            let bad = Value::Blob(tile_bytes(found));
            let update = "UPDATE tiles SET hashes = ?3
                WHERE level = ?1 AND number = ?2 AND hashes = ?4";
            connection.execute(update, params![level, number, hashes, bad])?;
        }
        StoredTile::Malformed => {
            let update = "UPDATE tiles SET hashes = ?3 WHERE level = ?1 AND number = ?2
                AND (length(hashes) = 0 OR length(hashes) % 32 <> 0 OR length(hashes) > ?4)";
            connection.execute(update, params![level, number, hashes, MAX_BYTES])?;
        }
    }
    Ok(())
}
