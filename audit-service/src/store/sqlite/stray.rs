//! Rows that no block accounts for.

use rusqlite::{Connection, OptionalExtension};

use super::read::{failed, position};
use crate::store::{StoreError, Stray};

/// The whole file in order, indexes included; then every record within a block. A row beyond
/// them would be found by a lookup and by nothing else.
pub(super) fn stray(connection: &Connection) -> Result<Option<Stray>, StoreError> {
    let stray = |first, reason: &str| Some(Stray { first, reason: reason.to_owned() });
    let sound: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(failed(0))?;
    if sound != "ok" {
        return Ok(stray(0, "the database file or one of its indexes is damaged"));
    }
    let select = "SELECT seq FROM records WHERE NOT EXISTS (
            SELECT 1 FROM blocks WHERE blocks.first =
                (SELECT max(first) FROM blocks WHERE first <= records.seq)
            AND records.seq < blocks.first + blocks.count)
        ORDER BY seq LIMIT 1";
    let found = connection.query_row(select, [], |row| row.get::<_, i64>(0)).optional();
    match found.map_err(failed(0))? {
        None => Ok(None),
        Some(seq) => Ok(stray(position(seq, "seq", 0)?, "a record that belongs to no block")),
    }
}
