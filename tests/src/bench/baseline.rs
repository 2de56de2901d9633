//! The rate to compare with: whole blocks as plain documents, written by one client.

use std::time::{Duration, Instant};

use mongodb::{
    Client, IndexModel,
    bson::doc,
    options::{Acknowledgment, CollectionOptions, WriteConcern},
};

use super::report::Figures;

/// Bytes of a record's line, as a registration has them.
const LINE_BYTES: usize = 1_000;

/// Inserts documents of `records` lines with two indexed lookups, majority and journaled, one
/// after another; the rate counts records.
pub async fn blocks(
    uri: &str,
    database: &str,
    records: u32,
    time: Duration,
) -> anyhow::Result<Figures> {
    let concern = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
    let options = CollectionOptions::builder().write_concern(concern).build();
    let blocks = Client::with_uri_str(uri)
        .await?
        .database(database)
        .collection_with_options(&format!("raw_{records}"), options);
    for keys in [doc! { "streams.s": 1, "_id": -1 }, doc! { "commands.i": 1 }] {
        blocks.create_index(IndexModel::builder().keys(keys).build()).await?;
    }
    let line = "x".repeat(LINE_BYTES);
    let mut latencies = Vec::new();
    let (start, mut first) = (Instant::now(), 0_i64);
    while start.elapsed() < time {
        let id = |n: u32| format!("patient/{:032x}", rand::random::<u128>().wrapping_add(n.into()));
        let streams: Vec<_> =
            (0..records).map(|n| doc! { "s": id(n), "v": 1_i64, "n": n }).collect();
        let commands: Vec<_> = (0..records).map(|n| doc! { "i": id(n), "n": n }).collect();
        let lines = vec![line.as_str(); records as usize];
        let document =
            doc! { "_id": first, "lines": lines, "streams": streams, "commands": commands };
        let begun = Instant::now();
        blocks.insert_one(document).await?;
        latencies.push(begun.elapsed());
        first += i64::from(records);
    }
    let mut figures = Figures::of(latencies, 0, start.elapsed());
    figures.rate *= f64::from(records);
    Ok(figures)
}
