//! Overwriting what the file's pages keep of erased patients beside their rows.
//!
//! `secure_delete` does not reach it: pages that were split or joined have copies of former rows
//! in the space between their cells. `VACUUM` does, and takes time with the size of the file. So
//! an erasure only asks for it, in its own transaction, and a thread has it done afterwards.

use std::{
    io,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, params};

use super::{
    truncate,
    workers::{WeakWorkers, Workers},
};

/// How often a file is scrubbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scrubbing {
    /// Bytes of a file up to which it is scrubbed at once: that holds its writers up for a second
    /// or two.
    pub at_once: u64,
    /// Between two times that a larger file is scrubbed.
    pub pause: Duration,
}

impl Default for Scrubbing {
    fn default() -> Self {
        Self { at_once: 64 << 20, pause: Duration::from_hours(1) }
    }
}

/// Erasures that come within this time are scrubbed together.
const COALESCE: Duration = Duration::from_secs(1);

/// How often to look whether anything is due: what another process asked for and did not come
/// to, what could not be done, and large files.
const LOOK: Duration = Duration::from_secs(30);

/// `asked` counts up; up to `rewritten` of it the file was rewritten, at `at` (seconds since
/// 1970), and up to `done` nothing is left in its write-ahead log either.
pub(super) const TABLE: &str = "
    CREATE TABLE scrub (
        id INTEGER PRIMARY KEY CHECK (id = 1), asked INTEGER NOT NULL,
        rewritten INTEGER NOT NULL, done INTEGER NOT NULL, at INTEGER NOT NULL
    ) STRICT;
    INSERT INTO scrub VALUES (1, 0, 0, 0, 0);";

/// Wakes the thread that scrubs, which ends with the last clone.
#[derive(Clone)]
pub(super) struct Scrubber(SyncSender<()>);

impl Scrubber {
    /// Starts the thread. It begins with what an earlier process left to do.
    pub(super) fn start(writer: &Workers, scrubbing: Scrubbing) -> io::Result<Self> {
        let (wake, wakes) = sync_channel(1);
        let writer = writer.downgrade();
        let thread = thread::Builder::new().name("projection-scrubber".to_owned());
        thread.spawn(move || run(&wakes, &writer, scrubbing))?;
        Ok(Self(wake))
    }

    pub(super) fn wake(&self) {
        // It is awake already where this fails.
        let _ = self.0.try_send(());
    }
}

fn run(wakes: &Receiver<()>, writer: &WeakWorkers, scrubbing: Scrubbing) {
    loop {
        let looked = writer.run(move |connection| {
            if let Err(error) = scrub(connection, scrubbing) {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the file of the read models could not be scrubbed yet");
            }
        });
        let woken = wakes.recv_timeout(LOOK);
        if looked.is_none() || woken == Err(RecvTimeoutError::Disconnected) {
            return;
        }
        if woken.is_ok() && wait(wakes, COALESCE) {
            return;
        }
    }
}

/// Lets others come; whether there is nobody left who might.
fn wait(wakes: &Receiver<()>, time: Duration) -> bool {
    let until = Instant::now() + time;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match wakes.recv_timeout(left) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return false,
            Err(RecvTimeoutError::Disconnected) => return true,
        }
    }
}

/// Remembers, in the transaction of an erasure, that its remnants are in the file.
pub(super) fn ask(connection: &Connection) -> rusqlite::Result<()> {
    let mut ask = connection.prepare_cached("UPDATE scrub SET asked = asked + 1")?;
    ask.execute(()).map(|_| ())
}

/// Whether remnants of erased patients may be in the file.
pub(super) fn is_due(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT asked > done FROM scrub", (), |row| row.get(0))
}

/// Scrubs the file if it is due and its turn. What was asked for meanwhile stays due.
fn scrub(connection: &Connection, scrubbing: Scrubbing) -> rusqlite::Result<()> {
    let sql = "SELECT asked, rewritten, done, abs(unixepoch() - at) FROM scrub";
    let (asked, rewritten, done, age): (i64, i64, i64, i64) =
        connection
            .query_row(sql, (), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    let mut rewritten = rewritten;
    if asked > rewritten {
        let bytes = bytes(connection)?;
        let age = Duration::from_secs(age.unsigned_abs());
        if bytes > scrubbing.at_once && age < scrubbing.pause {
            return Ok(());
        }
        let begun = Instant::now();
        connection.execute_batch("VACUUM")?;
        let sql = "UPDATE scrub SET rewritten = max(rewritten, ?1), at = unixepoch()";
        connection.execute(sql, [asked])?;
        rewritten = asked;
        let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(bytes, duration_ms, "rewrote the file of the read models after an erasure");
    }
    if rewritten > done && truncate(connection) {
        let sql = "UPDATE scrub SET done = max(done, ?1)";
        connection.execute(sql, params![rewritten])?;
    }
    Ok(())
}

fn bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    Ok(pragma("page_count")?.unsigned_abs() * pragma("page_size")?.unsigned_abs())
}
