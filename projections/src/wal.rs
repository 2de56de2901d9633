//! Write-ahead logging of SQLite files.

use std::{
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, Error, ErrorCode, Result};

/// How long somebody else may take to turn the file.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(5);

/// Turns the file to write-ahead logging; the mode that it has then. Where somebody else does so at
/// this moment, SQLite says that it is busy at once instead of waiting.
pub(crate) fn use_wal(connection: &Connection) -> Result<String> {
    let begun = Instant::now();
    loop {
        let mode =
            connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0));
        let busy = |error: &Error| error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy);
        if !mode.as_ref().is_err_and(busy) || begun.elapsed() >= PATIENCE {
            return mode;
        }
        thread::sleep(PAUSE);
    }
}
