//! The tables, and how a file of the former layout gets those of today.
//!
//! A wrap has one place in the file from its insert on. Rows are appended, so SQLite never moves
//! one: splitting or joining pages would leave copies between the cells, which `secure_delete`
//! does not reach. Indexes, whose pages are split, hold no wraps. No row is deleted and none
//! changes its length (0 and 1 both take no byte), so updates overwrite in place. Only the
//! write-ahead log has a wrap besides, until it is truncated.

use rusqlite::{Connection, TransactionBehavior};

/// The layout of today, as `user_version`.
const LAYOUT: i64 = 3;

/// As [`LAYOUT`], but the pages of the former one were not overwritten yet.
const MOVED: i64 = 2;

/// Wraps were in trees that moved them about, and their rows were deleted.
const FORMER: i64 = 1;

const TABLES: &str = "
    CREATE TABLE data_keys (
        id INTEGER PRIMARY KEY, kid TEXT NOT NULL, kek TEXT NOT NULL, wrapped BLOB NOT NULL,
        destroyed INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE UNIQUE INDEX data_keys_kid ON data_keys (kid) WHERE destroyed = 0;
    CREATE TABLE epochs (
        id INTEGER PRIMARY KEY, epoch TEXT NOT NULL, kid TEXT NOT NULL, kek TEXT NOT NULL,
        wrapped BLOB NOT NULL, destroyed INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE UNIQUE INDEX epochs_epoch ON epochs (epoch) WHERE destroyed = 0;
    CREATE UNIQUE INDEX epochs_kid ON epochs (kid) WHERE destroyed = 0;
";

const RENAME: &str = "
    ALTER TABLE data_keys RENAME TO former_data_keys;
    ALTER TABLE epochs RENAME TO former_epochs;
";

const MOVE: &str = "
    INSERT INTO data_keys (kid, kek, wrapped) SELECT kid, kek, wrapped FROM former_data_keys;
    INSERT INTO epochs (epoch, kid, kek, wrapped)
        SELECT epoch, kid, kek, wrapped FROM former_epochs;
    DROP TABLE former_data_keys;
    DROP TABLE former_epochs;
";

/// Overwrites the wrap of one key.
pub(super) const DESTROY: [&str; 2] = [
    "UPDATE data_keys SET wrapped = zeroblob(length(wrapped)), destroyed = 1
     WHERE kid = ? AND destroyed = 0",
    "UPDATE epochs SET wrapped = zeroblob(length(wrapped)), destroyed = 1
     WHERE kid = ? AND destroyed = 0",
];

/// Why a file has not the layout of today.
pub(super) enum LayoutError {
    Sqlite(rusqlite::Error),
    /// It has this one, of a later version of this program.
    Unknown(i64),
}

impl From<rusqlite::Error> for LayoutError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Makes the tables, or moves the keys into them, or does nothing at all. What it leaves of the
/// former layout in the file is overwritten by [`scrub`].
pub(super) fn prepare(connection: &mut Connection) -> Result<(), LayoutError> {
    if layout(connection)? == LAYOUT {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match layout(&transaction)? {
        // Also a file that the former version made and did not come to mark.
        0 if is_empty(&transaction)? => {
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "user_version", LAYOUT)?;
        }
        0 | FORMER => {
            transaction.execute_batch(RENAME)?;
            transaction.execute_batch(TABLES)?;
            transaction.execute_batch(MOVE)?;
            transaction.pragma_update(None, "user_version", MOVED)?;
        }
        MOVED | LAYOUT => {}
        unknown => return Err(LayoutError::Unknown(unknown)),
    }
    Ok(transaction.commit()?)
}

/// Leaves nothing in the files of wraps that were destroyed or replaced; false where another
/// process is in the way. Truncates the log, and rewrites a file that was moved to this layout.
pub(super) fn scrub(connection: &Connection) -> rusqlite::Result<bool> {
    let moved = layout(connection)? == MOVED;
    if moved {
        match connection.execute_batch("VACUUM") {
            Err(error) if is_busy(&error) => return Ok(false),
            done => done?,
        }
    }
    let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
    let busy: bool = connection.query_row(truncate, [], |row| row.get(0))?;
    if moved && !busy {
        connection.pragma_update(None, "user_version", LAYOUT)?;
    }
    Ok(!busy)
}

fn layout(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
}

fn is_busy(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked))
}
