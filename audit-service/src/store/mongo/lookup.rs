//! Lookups of streams and commands over the two indexes.

use std::collections::{HashMap, HashSet};

use domain::ids::{Mac, Stream};
use futures::{StreamExt, TryStreamExt, stream};
use mongodb::{
    ClientSession,
    bson::{Bson, RawDocumentBuf, doc},
    error::Error,
    options::FindOptions,
};

use super::{MongoLedger, bounded, collect, document, error::read_error};
use crate::store::StoreError;

/// Queries for streams that one call has under way at once. More would only queue at the server.
const LANES: usize = 8;

/// Streams in one query at most: small enough that one with a long history does not make the
/// answer about all of them too long.
const STREAMS_PER_QUERY: usize = 32;

/// Blocks in the answer about several streams at most; see [`versions_together`].
const BLOCKS_PER_ANSWER: u32 = 8;

/// Command ids in one query. Each answers with the command ids of one block, 60 KB at most, all
/// of which are held at once: a cut answer would be a false absence.
const COMMANDS_PER_QUERY: usize = 200;

pub(super) async fn stream_versions(
    ledger: &MongoLedger,
    streams: &[Stream],
) -> Result<HashMap<Stream, u64>, StoreError> {
    let together = streams.len().div_ceil(LANES).clamp(1, STREAMS_PER_QUERY);
    let mut queries = Vec::with_capacity(streams.len().div_ceil(together));
    for streams in streams.chunks(together) {
        queries.push(versions(ledger, streams));
    }
    let found: Vec<HashMap<Stream, u64>> =
        stream::iter(queries).buffer_unordered(LANES).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

async fn versions(
    ledger: &MongoLedger,
    streams: &[Stream],
) -> Result<HashMap<Stream, u64>, StoreError> {
    if let Some(versions) = versions_together(ledger, streams).await? {
        return Ok(versions);
    }
    let mut session = ledger.session().await.map_err(read_error)?;
    let mut versions = HashMap::new();
    for stream in streams {
        let result = newest_block(ledger, &mut session, *stream).await;
        ledger.saw(&session);
        if let Some(found) = result.map_err(read_error)? {
            versions.extend(document::decode_streams(&found)?);
        }
    }
    Ok(versions)
}

/// The versions of some streams by one query, if so few blocks mention them that all of these
/// fit one answer. Most lookups are about new patients, of whom no block knows.
async fn versions_together(
    ledger: &MongoLedger,
    streams: &[Stream],
) -> Result<Option<HashMap<Stream, u64>>, StoreError> {
    let wanted: HashSet<&Stream> = streams.iter().collect();
    let names: Vec<String> = streams.iter().map(Stream::to_string).collect();
    let options = FindOptions::builder()
        .projection(doc! { "streams": 1 })
        .limit(i64::from(BLOCKS_PER_ANSWER))
        .build();
    let filter = doc! { "streams.s": { "$in": names } };
    let blocks = ledger.find(filter, options, usize::MAX).await?;
    if blocks.len() >= BLOCKS_PER_ANSWER as usize {
        return Ok(None);
    }
    let mut versions = HashMap::new();
    for block in &blocks {
        for (stream, version) in document::decode_streams(block)? {
            if wanted.contains(&stream) {
                let highest = versions.entry(stream).or_insert(version);
                *highest = version.max(*highest);
            }
        }
    }
    Ok(Some(versions))
}

/// The entry of a stream in the newest block that has one.
async fn newest_block(
    ledger: &MongoLedger,
    session: &mut ClientSession,
    stream: Stream,
) -> Result<Option<RawDocumentBuf>, Error> {
    let stream = stream.to_string();
    ledger
        .blocks
        .find_one(doc! { "streams.s": &stream })
        .sort(doc! { "_id": -1 })
        .projection(doc! { "streams": { "$elemMatch": { "s": &stream } } })
        .session(session)
        .await
}

pub(super) async fn find_commands(
    ledger: &MongoLedger,
    ids: &[Mac],
) -> Result<HashMap<Mac, u64>, StoreError> {
    let wanted: HashSet<&Mac> = ids.iter().collect();
    let mut found = HashMap::new();
    for ids in ids.chunks(COMMANDS_PER_QUERY) {
        let ids: Vec<Bson> =
            ids.iter().map(|id| Bson::Binary(document::binary(id.bytes()))).collect();
        let filter = doc! { "commands.i": { "$in": ids } };
        let options = FindOptions::builder().projection(doc! { "commands": 1 }).build();
        for document in ledger.find(filter, options, usize::MAX).await? {
            let commands = document::decode_commands(&document)?;
            found.extend(commands.into_iter().filter(|(id, _)| wanted.contains(id)));
        }
    }
    Ok(found)
}

/// The server picks the lines out of their blocks: whole blocks would be a hundred times more.
pub(super) async fn stream_lines(
    ledger: &MongoLedger,
    stream: Stream,
    from_version: u64,
    max: usize,
) -> Result<Vec<String>, StoreError> {
    let Ok(from) = i64::try_from(from_version) else { return Ok(Vec::new()) };
    let stream = stream.to_string();
    let wanted = doc! { "$filter": {
        "input": "$streams",
        "as": "entry",
        "cond": { "$and": [
            { "$eq": ["$$entry.s", &stream] },
            { "$gte": ["$$entry.v", from] },
        ] },
    } };
    let found = doc! { "$map": {
        "input": wanted,
        "as": "entry",
        "in": { "v": "$$entry.v", "line": { "$arrayElemAt": ["$lines", "$$entry.n"] } },
    } };
    let pipeline = [
        doc! { "$match": { "streams": { "$elemMatch": { "s": &stream, "v": { "$gte": from } } } } },
        doc! { "$sort": { "_id": 1 } },
        doc! { "$limit": i64::try_from(max).unwrap_or(i64::MAX).max(1) },
        doc! { "$project": { "found": found } },
    ];
    let documents = bounded(Box::pin(async {
        let mut session = ledger.session().await?;
        let aggregate = ledger.blocks.aggregate(pipeline).with_type::<RawDocumentBuf>();
        let result = match aggregate.session(&mut session).await {
            Ok(cursor) => collect(cursor, &mut session, usize::MAX).await,
            Err(error) => Err(error),
        };
        ledger.saw(&session);
        result
    }))
    .await?;
    let mut lines = Vec::new();
    for document in &documents {
        let mut found = document::decode_found(document)?;
        found.sort_by_key(|found| found.v);
        lines.extend(found.into_iter().map(|found| found.line));
    }
    lines.truncate(max);
    Ok(lines)
}
