//! What rebuilds are compared with: the same documents written in bulk into the same store, with
//! the same indexes and the same durability, by one client that does nothing else.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use futures::TryStreamExt;
use mongodb::{
    Client, IndexModel,
    bson::{Document, doc},
    options::{Acknowledgment, CollectionOptions, InsertManyOptions, WriteConcern},
};
use rusqlite::{Connection, params_from_iter, types::Value};

/// Documents of one write, as many as a rebuild writes at once.
const BATCH: usize = 1_000;

/// Copies the collections of one generation, and gives the time that writing took.
pub async fn mongo(uri: &str, database: &str, generation: u32) -> anyhow::Result<Duration> {
    let client = Client::with_uri_str(uri).await?;
    let (from, to) = (client.database(database), client.database(&format!("{database}_raw")));
    let concern = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
    let options = CollectionOptions::builder().write_concern(concern).build();
    let unordered = InsertManyOptions::builder().ordered(false).build();
    let mut writing = Duration::ZERO;
    for kind in ["patients", "tests", "activity"] {
        let name = format!("{kind}_g{generation}");
        let source = from.collection::<Document>(&name);
        let target = to.collection_with_options::<Document>(kind, options.clone());
        let indexes: Vec<IndexModel> = source.list_indexes().await?.try_collect().await?;
        let indexes: Vec<_> =
            indexes.into_iter().filter(|index| index.keys != doc! { "_id": 1 }).collect();
        target.create_indexes(indexes).await?;
        let mut documents = source.find(doc! {}).batch_size(BATCH.try_into()?).await?;
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let next = documents.try_next().await?;
            let ended = next.is_none();
            batch.extend(next);
            if batch.len() == BATCH || ended {
                let begun = Instant::now();
                if !batch.is_empty() {
                    let all = std::mem::take(&mut batch);
                    target.insert_many(all).with_options(unordered.clone()).await?;
                }
                writing += begun.elapsed();
            }
            if ended {
                break;
            }
        }
    }
    to.drop().await?;
    Ok(writing)
}

/// The order in which a ledger has what becomes a row: sorted by key, a table fills faster than any
/// ledger could fill it. The other store gives documents in the order in which they were written.
fn order(table: &str) -> &'static str {
    match table.split('_').next() {
        Some("patients" | "tests") => "last_updated",
        Some("erasures") => "patient",
        _ => "seq",
    }
}

/// Copies the tables of one generation into a file of its own, and gives the time that writing
/// took.
pub fn sqlite(path: &Path, generation: u32) -> anyhow::Result<Duration> {
    let source = Connection::open(path)?;
    let copy = path.with_extension("raw");
    let target = Connection::open(&copy)?;
    for pragma in ["page_size", "secure_delete"] {
        let value: i64 = source.pragma_query_value(None, pragma, |row| row.get(0))?;
        target.pragma_update(None, pragma, value)?;
    }
    target.pragma_update(None, "journal_mode", "wal")?;
    target.pragma_update(None, "synchronous", "normal")?;
    target.pragma_update(None, "wal_autocheckpoint", 32_000)?;
    target.pragma_update(None, "cache_size", -16_000)?;
    let like = format!("%\\_g{generation}%");
    let sql = "SELECT name, type, sql FROM sqlite_schema
               WHERE sql IS NOT NULL AND tbl_name LIKE ?1 ESCAPE '\\' ORDER BY type DESC";
    let schema: Vec<(String, String, String)> = source
        .prepare(sql)?
        .query_map([like], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    for (_, _, sql) in &schema {
        target.execute(sql, ())?;
    }
    let mut writing = Duration::ZERO;
    for (table, ..) in schema.iter().filter(|(_, kind, _)| kind == "table") {
        let order = order(table);
        let mut select = source.prepare(&format!("SELECT * FROM {table} ORDER BY {order}"))?;
        let columns = select.column_count();
        let marks = vec!["?"; columns].join(", ");
        let insert = format!("INSERT INTO {table} VALUES ({marks})");
        let mut rows = select.query(())?;
        loop {
            let mut batch: Vec<Vec<Value>> = Vec::with_capacity(BATCH);
            while batch.len() < BATCH
                && let Some(row) = rows.next()?
            {
                batch.push((0..columns).map(|index| row.get(index)).collect::<Result<_, _>>()?);
            }
            if batch.is_empty() {
                break;
            }
            let begun = Instant::now();
            target.execute_batch("BEGIN IMMEDIATE")?;
            {
                let mut insert = target.prepare_cached(&insert)?;
                for row in batch {
                    insert.execute(params_from_iter(row))?;
                }
            }
            target.execute_batch("COMMIT")?;
            writing += begun.elapsed();
        }
    }
    drop(target);
    for file in [copy.clone(), copy.with_extension("raw-wal"), copy.with_extension("raw-shm")] {
        let _ = std::fs::remove_file(file);
    }
    Ok(writing)
}
