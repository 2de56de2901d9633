//! The file, its tables, and connections to it.

use std::{
    fs, io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

/// `VLed`, in the file's header: says what the file is, whatever its name.
const APPLICATION_ID: i32 = 0x564c_6564;

/// The version of the tables below.
const TABLES_VERSION: i32 = 2;

/// How long to wait for another process's write or checkpoint.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two tries to turn a file to write-ahead logging.
const WAL_PAUSE: Duration = Duration::from_millis(5);

/// Pages of the write-ahead log after which they are copied into the database. The indexes are
/// written all over, so the same page is written again and again, and a long log (64 MB) copies
/// it once. Blocks of 256 records were stored in 37 ms with the usual 4 MB, in 22 ms with this.
const LOG_PAGES: i32 = 65_536;

/// Bytes of a page. Streams and commands are as random as their ids, so each record touches a
/// page of each index, and whole pages are written: a quarter of SQLite's own size is less than
/// half of the writing, lines included.
const PAGE_BYTES: i32 = 1_024;

/// KiB of pages that the writer keeps in memory: the indexes of some hundred thousand records.
const WRITER_CACHE_KIB: i32 = 65_536;

/// A record's `stream`, `version` and `command` are there for the lookups; they stand here, and
/// not in tables of their own, so that a block is read back by one scan. No index is unique but
/// that of the positions: these are the fence, and nothing else may refuse a block.
const TABLES: &str = "
    CREATE TABLE blocks (
        first INTEGER PRIMARY KEY,
        count INTEGER NOT NULL,
        frontier BLOB NOT NULL,
        root BLOB NOT NULL,
        seal BLOB NOT NULL
    ) STRICT;
    CREATE TABLE records (
        seq INTEGER PRIMARY KEY,
        line TEXT NOT NULL,
        stream TEXT,
        version INTEGER,
        command BLOB
    ) STRICT;
    CREATE INDEX records_by_stream ON records (stream, version) WHERE stream IS NOT NULL;
    CREATE INDEX records_by_command ON records (command) WHERE command IS NOT NULL;
";

/// Since version 2. Derived from the blocks; `number` is the tile's place in its level.
const TILES_TABLE: &str = "
    CREATE TABLE tiles (
        level INTEGER NOT NULL,
        number INTEGER NOT NULL,
        hashes BLOB NOT NULL,
        PRIMARY KEY (level, number)
    ) STRICT;
";

/// What a file holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Contents {
    Nothing,
    /// Tables of the version before tiles.
    WithoutTiles,
    Ledger,
}

/// Why a ledger could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The path leads to a directory or a device.
    #[error("the ledger's path is not a file: name a file")]
    NotAFile,
    /// The file cannot be made or looked at.
    #[error("the ledger's file cannot be opened")]
    File(#[source] io::Error),
    /// SQLite refused.
    #[error("the ledger's database cannot be used")]
    Database(#[from] rusqlite::Error),
    /// Another program's database, or another store's.
    #[error("the file is a database, but not a ledger: name another file")]
    NotALedger,
    /// Tables of another version of this program.
    #[error("the ledger's tables are of version {found}, this program knows {TABLES_VERSION}")]
    Version {
        /// What the file says.
        found: i32,
    },
    /// The file system cannot do what write-ahead logging needs.
    #[error("the ledger's file system does not support write-ahead logging: use a local one")]
    NoWriteAheadLog,
}

/// Makes the file and its tables if they are missing, checks what is there, and returns the
/// connection that writes.
pub(super) fn prepare(path: &Path) -> Result<Connection, OpenError> {
    make_file(path)?;
    let mut connection = connect(path)?;
    // Checked before anything is changed: the file may be someone else's.
    contents_now(&connection)?;
    // Of a new file alone; before its first page is written.
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    if use_wal(&connection)? != "wal" {
        return Err(OpenError::NoWriteAheadLog);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = contents(&transaction)?;
    if found == Contents::Nothing {
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    if found != Contents::Ledger {
        transaction.execute_batch(TILES_TABLE)?;
        transaction.pragma_update(None, "user_version", TABLES_VERSION)?;
    }
    transaction.commit()?;
    connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    Ok(connection)
}

/// A connection to a ledger that is there already.
pub(super) fn existing(path: &Path) -> Result<Connection, OpenError> {
    if !fs::metadata(path).map_err(OpenError::File)?.is_file() {
        return Err(OpenError::NotAFile);
    }
    let connection = connect(path)?;
    if contents_now(&connection)? == Contents::Nothing {
        Err(OpenError::NotALedger)
    } else {
        Ok(connection)
    }
}

/// Opens a file that exists.
pub(super) fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // With FULL, a commit returns only when the log is on the disk.
    connection.pragma_update(None, "synchronous", "full")?;
    Ok(connection)
}

/// Turns the file to write-ahead logging; the mode that it has then. Where somebody else does so at
/// this moment, SQLite says that it is busy at once instead of waiting.
fn use_wal(connection: &Connection) -> rusqlite::Result<String> {
    let begun = Instant::now();
    loop {
        let mode =
            connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0));
        let busy = |error: &rusqlite::Error| {
            error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
        };
        if !mode.as_ref().is_err_and(busy) || begun.elapsed() >= BUSY_TIMEOUT {
            return mode;
        }
        thread::sleep(WAL_PAUSE);
    }
}

/// SQLite gives its log files the mode of the database, so that is all there is to set.
fn make_file(path: &Path) -> Result<(), OpenError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => return Ok(()),
        Ok(_) => return Err(OpenError::NotAFile),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(OpenError::File(error)),
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop).map_err(OpenError::File)
}

/// As [`contents`], all of it at one moment: somebody else may be making the tables.
fn contents_now(connection: &Connection) -> Result<Contents, OpenError> {
    let transaction = connection.unchecked_transaction()?;
    contents(&transaction)
}

/// Inside a transaction.
fn contents(connection: &Connection) -> Result<Contents, OpenError> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (number("application_id")?, number("user_version")?) {
        (0, 0) if tables == 0 => Ok(Contents::Nothing),
        (APPLICATION_ID, 1) => Ok(Contents::WithoutTiles),
        (APPLICATION_ID, TABLES_VERSION) => Ok(Contents::Ledger),
        (APPLICATION_ID, found) => Err(OpenError::Version { found }),
        _ => Err(OpenError::NotALedger),
    }
}
