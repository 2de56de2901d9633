//! The key store in an SQLite file, `keys.db`: the embedded default.
//!
//! A destroyed or replaced wrap is overwritten where it stands, and there never was another copy
//! of it: see `layout`.

mod layout;
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

use self::layout::LayoutError;
use super::{
    kek::WrappedKey,
    store::{KeyStore, KeyStoreError},
};
use crate::wal::use_wal;

/// How long a write waits for one of another process, far above what any write takes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

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
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let journal = use_wal(&connection)?;
        if journal != "wal" {
            return Err(OpenKeysError::Journal(journal));
        }
        connection.pragma_update(None, "synchronous", "FULL")?;
        // Answers with the new value, so `pragma_update` does not do.
        connection.query_row("PRAGMA secure_delete = ON", [], |_| Ok(()))?;
        layout::prepare(&mut connection).map_err(|error| match error {
            LayoutError::Sqlite(error) => OpenKeysError::Sqlite(error),
            LayoutError::Unknown(layout) => OpenKeysError::Layout(layout),
        })?;
        if !layout::scrub(&connection)? {
            tracing::warn!("another process is in the way of scrubbing the key file; it is due");
        }
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    /// Leaves nothing in the files of what was destroyed or replaced. Takes a few disk accesses.
    async fn scrub_files(&self) -> Result<(), KeyStoreError> {
        // Another process reads the log: what was destroyed is, but its bytes are still there.
        let scrubbed = self.run(|connection| layout::scrub(connection)).await?;
        if scrubbed { Ok(()) } else { Err(KeyStoreError::TimedOut) }
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
                    "SELECT kid, kek, wrapped FROM data_keys WHERE kid = ?1 AND destroyed = 0
                     UNION ALL SELECT kid, kek, wrapped FROM epochs WHERE kid = ?1 AND destroyed = 0",
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
            for destroy in layout::DESTROY {
                transaction.execute(destroy, [&kid])?;
            }
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
                     ON CONFLICT (epoch) WHERE destroyed = 0 DO NOTHING",
                    params![epoch, key.kid.to_string(), key.kek.to_string(), key.wrapped],
                )?;
                let winner = transaction.query_row(
                    "SELECT kid, kek, wrapped FROM epochs WHERE epoch = ? AND destroyed = 0",
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
                let mut select = connection
                    .prepare_cached("SELECT epoch, kid FROM epochs WHERE destroyed = 0")?;
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
                        "SELECT kid, kek, wrapped FROM data_keys WHERE destroyed = 0
                         UNION ALL SELECT kid, kek, wrapped FROM epochs WHERE destroyed = 0
                         LIMIT 1",
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
