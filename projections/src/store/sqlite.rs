//! The projection store in one SQLite file, for the embedded system.
//!
//! Each generation has tables of its own: `patients_g<N>`, `tests_g<N>`, `activity_g<N>`,
//! `activity_patients_g<N>`, `erasures_g<N>` and `parked_g<N>`; its position and who is in office
//! are a row of `generations`. One thread writes, a few read; a write is one transaction.
//!
//! What was deleted is overwritten at once in its place, and in the rest of the file after a while
//! (`scrub.rs`); the table `scrub` has one row, which says what is due.
//!
//! `synchronous=NORMAL`: after a power cut the last transactions may be gone, but the file is
//! consistent, and the position in it is as old as the rest. The follower does them again.

mod activity;
mod apply;
mod generations;
mod query;
mod reads;
mod rows;
mod schema;
mod scrub;
mod search;
mod upkeep;
mod workers;

use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rusqlite::{Connection, TransactionBehavior};

pub use self::scrub::Scrubbing;
use self::{scrub::Scrubber, workers::Workers};
use crate::{documents::Generation, store::StoreError, wal::use_wal};

/// How long one call may take, waiting for a thread included.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// How long SQLite waits for another process's transaction; shorter than [`DEADLINE`].
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Reading threads: a query takes a fraction of a millisecond, and machines that run the
/// embedded store are small.
const READERS: usize = 4;

/// Calls that wait for a thread at most; each holds a client's request anyway.
const MAX_QUEUE: usize = 1_024;

/// Statements kept prepared by each connection: about thirty a generation, one more for each
/// combination of criteria that is searched by, and two generations while one is rebuilt.
const MAX_STATEMENTS: usize = 128;

/// Bytes of a page. Each patient touches a page of every index, at a place as random as her id,
/// and whole pages are written: a quarter of SQLite's own size is a quarter of the writing.
const PAGE_BYTES: i64 = 1_024;

/// Pages of the write-ahead log after which it is moved into the file: 32 MB. With SQLite's own
/// 1,000 a batch of a few hundred patients moved the whole log, which took three times as long
/// as writing it.
const CHECKPOINT_PAGES: i64 = 32_000;

/// Memory for pages of each connection, in KiB.
const CACHE_KIB: i64 = 16_000;

/// Read models in a SQLite file. Clones share the threads, which end with the last clone.
#[derive(Clone)]
pub struct SqliteStore {
    writer: Workers,
    readers: Workers,
    scrubber: Scrubber,
    /// An erased patient's content may still be in the write-ahead log.
    truncation_due: Arc<AtomicBool>,
}

impl SqliteStore {
    /// Opens the file, or makes it, readable by its owner alone. Blocks for the time of a few
    /// disk accesses.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_scrubbing(path, Scrubbing::default())
    }

    /// As [`SqliteStore::open`], and how often it is scrubbed.
    pub fn open_scrubbing(path: &Path, scrubbing: Scrubbing) -> Result<Self, StoreError> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        let owner_only = PermissionsExt::from_mode(0o600);
        // SQLite gives its log and index files the permissions of this one.
        file.and_then(|file| file.set_permissions(owner_only)).map_err(unavailable)?;
        let mut writer = connect(path)?;
        schema::prepare(&mut writer)?;
        let truncation_due = AtomicBool::new(!truncate(&writer));
        let mut readers = Vec::with_capacity(READERS);
        for _ in 0..READERS {
            let reader = connect(path)?;
            reader.pragma_update(None, "query_only", true).map_err(unavailable)?;
            readers.push(reader);
        }
        let writer = Workers::start("projection-writer", vec![writer]).map_err(unavailable)?;
        Ok(Self {
            scrubber: Scrubber::start(&writer, scrubbing).map_err(unavailable)?,
            writer,
            readers: Workers::start("projection-reader", readers).map_err(unavailable)?,
            truncation_due: Arc::new(truncation_due),
        })
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.readers.run(move |connection| read(connection)).await
    }

    /// Runs `write` in one transaction, which is committed if it succeeds.
    async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (truncation_due, scrubber) = (Arc::clone(&self.truncation_due), self.scrubber.clone());
        let job = move |connection: &mut Connection| {
            let transaction = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(unavailable)?;
            let written = write(&transaction)?;
            transaction.commit().map_err(unavailable)?;
            if truncation_due.load(Ordering::Acquire) {
                truncation_due.store(!truncate(connection), Ordering::Release);
                scrubber.wake();
            }
            Ok(written)
        };
        self.writer.run(job).await
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let connect = || {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // Of a new file alone; before its first page is written.
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
        use_wal(&connection)?;
        connection.pragma_update(None, "synchronous", "normal")?;
        connection.pragma_update(None, "secure_delete", true)?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        // Negative: KiB instead of pages.
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.set_prepared_statement_cache_capacity(MAX_STATEMENTS);
        Ok(connection)
    };
    connect().map_err(|error: rusqlite::Error| unavailable(error))
}

/// Moves the write-ahead log into the file and empties it; whether no reader was in the way.
fn truncate(connection: &Connection) -> bool {
    let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0));
    matches!(busy, Ok(0_i64))
}

fn unavailable(error: impl Into<Failure>) -> StoreError {
    StoreError::Unavailable(Box::new(error.into()))
}

/// A missing table is a missing generation; everything else is the store's trouble.
fn of_generation(generation: Generation) -> impl Fn(rusqlite::Error) -> StoreError {
    use rusqlite::Error::{SqlInputError, SqliteFailure};
    move |error| match &error {
        SqlInputError { msg, .. } | SqliteFailure(_, Some(msg))
            if msg.starts_with("no such table") =>
        {
            StoreError::Generation(generation.0)
        }
        _ => unavailable(error),
    }
}

/// What SQLite or a thread could not do. SQLite's texts name tables and columns, never values.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("SQLite failed")]
    Sqlite(#[from] rusqlite::Error),
    #[error("the file of the read models cannot be used")]
    File(#[from] io::Error),
    #[error("the thread of the read models has ended")]
    Ended,
    #[error("no answer within {} seconds", DEADLINE.as_secs())]
    Deadline,
}
