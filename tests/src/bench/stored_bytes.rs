//! What a store takes on the disk, by table or collection.

use std::path::Path;

use anyhow::Context;
use mongodb::{
    Client,
    bson::{Bson, Document, doc},
};
use rusqlite::Connection;

/// Bytes of one table or collection with its indexes.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The table or collection.
    pub name: String,
    /// Of its rows or documents on the disk; MongoDB compresses them.
    pub data: u64,
    /// Of its indexes on the disk.
    pub indexes: u64,
    /// Of its documents before compression; the same as `data` where nothing is compressed.
    pub plain: u64,
}

impl Stored {
    /// All that it takes on the disk.
    pub fn on_disk(&self) -> u64 {
        self.data + self.indexes
    }
}

/// Tables of a SQLite file, largest first; whole pages, free ones left out. Empties the write-ahead
/// log first. Reads the whole file.
pub fn sqlite(path: &Path) -> anyhow::Result<Vec<Stored>> {
    let connection = Connection::open(path)?;
    // Gives a row; that a reader kept some of the log changes little.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))?;
    let sql = "SELECT s.tbl_name,
                   sum(iif(s.type = 'table', d.pgsize, 0)),
                   sum(iif(s.type = 'index', d.pgsize, 0))
               FROM dbstat('main', 1) AS d JOIN sqlite_schema AS s ON s.name = d.name
               GROUP BY s.tbl_name";
    let bytes = |row: &rusqlite::Row<'_>, column: usize| {
        row.get::<_, i64>(column).map(|bytes| u64::try_from(bytes).unwrap_or_default())
    };
    let mut query = connection.prepare(sql)?;
    let tables = query.query_map((), |row| {
        let (data, indexes) = (bytes(row, 1)?, bytes(row, 2)?);
        Ok(Stored { name: row.get(0)?, data, indexes, plain: data })
    })?;
    Ok(sorted(tables.collect::<Result<_, _>>()?))
}

/// Collections of a MongoDB database, largest first, after a checkpoint of the server.
pub async fn mongo(uri: &str, database: &str) -> anyhow::Result<Vec<Stored>> {
    let client = Client::with_uri_str(uri).await?;
    client.database("admin").run_command(doc! { "fsync": 1 }).await?;
    let database = client.database(database);
    let mut collections = Vec::new();
    for name in database.list_collection_names().await? {
        let told = database.run_command(doc! { "collStats": &name }).await?;
        let (data, indexes) = (number(&told, "storageSize")?, number(&told, "totalIndexSize")?);
        collections.push(Stored { name, data, indexes, plain: number(&told, "size")? });
    }
    Ok(sorted(collections))
}

fn sorted(mut stored: Vec<Stored>) -> Vec<Stored> {
    stored.sort_by_key(|one| std::cmp::Reverse(one.on_disk()));
    stored
}

/// The server answers in whatever number fits.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn number(told: &Document, name: &str) -> anyhow::Result<u64> {
    match told.get(name) {
        Some(Bson::Int32(number)) => Ok(u64::try_from(*number)?),
        Some(Bson::Int64(number)) => Ok(u64::try_from(*number)?),
        Some(Bson::Double(number)) => Ok(*number as u64),
        _ => None.with_context(|| format!("collStats tells no {name}")),
    }
}
