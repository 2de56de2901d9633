//! The key store in an SQLite file, `keys.db`: the embedded default.

mod rewrap;

use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use domain::ids::KeyId;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::{
    kek::WrappedKey,
    store::{KeyStore, KeyStoreError},
};

/// How long a write waits for one of another process, far above what any write takes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The layout below, as `user_version`.
const LAYOUT: i64 = 1;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS data_keys (
        kid TEXT PRIMARY KEY, kek TEXT NOT NULL, wrapped BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS epochs (
        epoch TEXT PRIMARY KEY, kid TEXT NOT NULL UNIQUE, kek TEXT NOT NULL, wrapped BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// Why a key file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenKeysError {
    /// The file could not be made.
    #[error("the key file cannot be made or opened")]
    File(#[source] io::Error),
    /// SQLite refused.
    #[error("the key file cannot be used")]
    Sqlite(#[from] rusqlite::Error),
    /// The file is of a later version of this program.
    #[error("the key file has layout {0}, which this program does not know: update it")]
    Layout(i64),
    /// The file system does not support what durability needs.
    #[error("the key file has journal mode {0}, not wal: keep it on a local file system")]
    Journal(String),
}

/// Keys in an SQLite file. Every write is on disk when it returns; what is destroyed is
/// overwritten, in the file and in its write-ahead log.
pub struct SqliteKeys {
    /// Calls take turns on the blocking pool: they are rare, since keys are cached, and short.
    connection: Arc<Mutex<Connection>>,
}

impl SqliteKeys {
    /// Opens the file, and makes it (mode 0600) if it is not there. Blocks for a moment.
    pub fn open(path: &Path) -> Result<Self, OpenKeysError> {
        // SQLite would make it with the mode that the umask allows. Its log gets the file's mode.
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(OpenKeysError::File)?;
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let journal: String =
            connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        if journal != "wal" {
            return Err(OpenKeysError::Journal(journal));
        }
        connection.pragma_update(None, "synchronous", "FULL")?;
        // Answers with the new value, so `pragma_update` does not do.
        connection.query_row("PRAGMA secure_delete = ON", [], |_| Ok(()))?;
        let layout = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if layout > LAYOUT {
            return Err(OpenKeysError::Layout(layout));
        }
        connection.execute_batch(TABLES)?;
        connection.pragma_update(None, "user_version", LAYOUT)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    /// Leaves nothing in the files of what was deleted or replaced. `secure_delete` alone does not:
    /// pages that were split keep copies of former rows in the space between their cells, and
    /// the log keeps old pages until it is overwritten. Takes time with the size of the file.
    async fn scrub_files(&self) -> Result<(), KeyStoreError> {
        let busy = self
            .run(|connection| {
                connection.execute_batch("VACUUM")?;
                let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
                connection.query_row(truncate, [], |row| row.get::<_, bool>(0))
            })
            .await?;
        // Another process reads the log: what was deleted is, but its bytes are still there.
        if busy { Err(KeyStoreError::TimedOut) } else { Ok(()) }
    }

    /// Runs a call on the blocking pool. Once begun it runs to its end, also when nobody waits
    /// for the result any more.
    async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, KeyStoreError> {
        let connection = self.connection.clone();
        let run = move || {
            // A panic rolled its transaction back, so the connection is whole.
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            call(&mut connection)
        };
        tokio::task::spawn_blocking(run)
            .await
            .map_err(KeyStoreError::unavailable)?
            .map_err(KeyStoreError::unavailable)
    }
}

#[async_trait]
impl KeyStore for SqliteKeys {
    async fn insert_batch(&self, keys: &[WrappedKey]) -> Result<(), KeyStoreError> {
        let keys = keys.to_vec();
        self.run(move |connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            {
                let mut insert = transaction
                    .prepare_cached("INSERT INTO data_keys (kid, kek, wrapped) VALUES (?, ?, ?)")?;
                for key in &keys {
                    insert.execute(params![
                        key.kid.to_string(),
                        key.kek.to_string(),
                        key.wrapped
                    ])?;
                }
            }
            transaction.commit()
        })
        .await
    }

    async fn get(&self, kids: &[KeyId]) -> Result<Vec<WrappedKey>, KeyStoreError> {
        let kids = kids.to_vec();
        let rows = self
            .run(move |connection| {
                let mut select = connection.prepare_cached(
                    "SELECT kid, kek, wrapped FROM data_keys WHERE kid = ?1
                     UNION ALL SELECT kid, kek, wrapped FROM epochs WHERE kid = ?1",
                )?;
                let mut rows = Vec::with_capacity(kids.len());
                for kid in &kids {
                    rows.extend(select.query_row([kid.to_string()], read).optional()?);
                }
                Ok(rows)
            })
            .await?;
        rows.into_iter().map(parse).collect()
    }

    async fn destroy(&self, kid: KeyId) -> Result<(), KeyStoreError> {
        self.run(move |connection| {
            let kid = kid.to_string();
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute("DELETE FROM data_keys WHERE kid = ?", [&kid])?;
            transaction.execute("DELETE FROM epochs WHERE kid = ?", [&kid])?;
            transaction.commit()
        })
        .await?;
        self.scrub_files().await
    }

    async fn claim_epoch(&self, epoch: &str, key: WrappedKey) -> Result<WrappedKey, KeyStoreError> {
        let epoch = epoch.to_owned();
        let row = self
            .run(move |connection| {
                let transaction =
                    connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                transaction.execute(
                    "INSERT INTO epochs (epoch, kid, kek, wrapped) VALUES (?, ?, ?, ?)
                     ON CONFLICT (epoch) DO NOTHING",
                    params![epoch, key.kid.to_string(), key.kek.to_string(), key.wrapped],
                )?;
                let winner = transaction.query_row(
                    "SELECT kid, kek, wrapped FROM epochs WHERE epoch = ?",
                    [epoch],
                    read,
                )?;
                transaction.commit()?;
                Ok(winner)
            })
            .await?;
        parse(row)
    }

    async fn epochs(&self) -> Result<Vec<(String, KeyId)>, KeyStoreError> {
        let rows: Vec<(String, String)> = self
            .run(|connection| {
                let mut select = connection.prepare_cached("SELECT epoch, kid FROM epochs")?;
                let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
                rows.collect()
            })
            .await?;
        let parsed = rows.into_iter().map(|(epoch, kid)| Some((epoch, kid.parse().ok()?)));
        parsed.collect::<Option<_>>().ok_or(KeyStoreError::Malformed("epochs"))
    }

    async fn any(&self) -> Result<Option<WrappedKey>, KeyStoreError> {
        let row = self
            .run(|connection| {
                connection
                    .query_row(
                        "SELECT kid, kek, wrapped FROM data_keys
                         UNION ALL SELECT kid, kek, wrapped FROM epochs LIMIT 1",
                        [],
                        read,
                    )
                    .optional()
            })
            .await?;
        row.map(parse).transpose()
    }
}

type Stored = (String, String, Vec<u8>);

fn read(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

fn parse((kid, kek, wrapped): Stored) -> Result<WrappedKey, KeyStoreError> {
    Ok(WrappedKey {
        kid: kid.parse().map_err(|_| malformed())?,
        kek: kek.parse().map_err(|_| malformed())?,
        wrapped,
    })
}

fn malformed() -> KeyStoreError {
    KeyStoreError::Malformed("data_keys or epochs")
}
