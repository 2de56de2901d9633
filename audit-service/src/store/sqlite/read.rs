//! Reading blocks back, and the lookups.

use std::collections::HashMap;

use domain::{
    hash::Hash,
    ids::{Mac, Stream},
    time::Timestamp,
};
use rusqlite::{Connection, Error, ErrorCode, OptionalExtension, Row, ToSql, params};

use crate::{
    block::{Block, CommandEntry, MAX_BLOCK_RECORDS, StreamEntry},
    store::StoreError,
};

/// Bytes of lines that one page of blocks holds at most, give or take one block: the caller
/// asks for the next page, and a page of large blocks must not fill the memory.
const MAX_PAGE_BYTES: usize = 16 * 1024 * 1024;

/// What stands in `blocks` of one block.
struct Extent {
    first: u64,
    count: u32,
    frontier: Vec<u8>,
    root: [u8; 32],
    seal: [u8; 32],
}

/// What stands in `records` of one record.
struct StoredRecord {
    line: String,
    stream: Option<(String, i64)>,
    command: Option<[u8; 32]>,
}

pub(super) fn head(connection: &Connection) -> Result<Option<Block>, StoreError> {
    let newest = "SELECT * FROM blocks ORDER BY first DESC LIMIT 1";
    read_first(connection, &extents(connection, newest, [], 0)?)
}

pub(super) fn block_at(connection: &Connection, first: u64) -> Result<Option<Block>, StoreError> {
    let Ok(position) = i64::try_from(first) else { return Ok(None) };
    let exact = "SELECT * FROM blocks WHERE first = ?1";
    read_first(connection, &extents(connection, exact, [&position], first)?)
}

pub(super) fn blocks_from(
    connection: &Connection,
    seq: u64,
    max: usize,
) -> Result<Vec<Block>, StoreError> {
    let Ok(position) = i64::try_from(seq) else { return Ok(Vec::new()) };
    // Where no block begins at or before `seq`, and after a gap, reading begins after it.
    let page = "SELECT * FROM blocks WHERE first >= ifnull(
            (SELECT max(first) FROM blocks WHERE first <= ?1), ?1)
        AND first + count > ?1 ORDER BY first LIMIT ?2";
    let limit = i64::try_from(max.max(1)).unwrap_or(i64::MAX);
    let mut blocks = Vec::new();
    let mut bytes = 0;
    for extent in extents(connection, page, [&position, &limit], seq)? {
        let block = read_block(connection, &extent)?;
        bytes += block.lines.iter().map(String::len).sum::<usize>();
        blocks.push(block);
        if bytes >= MAX_PAGE_BYTES {
            break;
        }
    }
    Ok(blocks)
}

pub(super) fn stream_versions(
    connection: &Connection,
    streams: &[Stream],
) -> Result<HashMap<Stream, u64>, StoreError> {
    let select = "SELECT max(version) FROM records WHERE stream = ?1";
    let mut select = connection.prepare_cached(select).map_err(failed(0))?;
    let mut versions = HashMap::new();
    for stream in streams {
        let version = select.query_row([stream.to_string()], |row| row.get(0));
        if let Some(version) = version.map_err(failed(0))? {
            versions.insert(*stream, position(version, "version", 0)?);
        }
    }
    Ok(versions)
}

pub(super) fn find_commands(
    connection: &Connection,
    ids: &[Mac],
) -> Result<HashMap<Mac, u64>, StoreError> {
    let select = "SELECT seq FROM records WHERE command = ?1";
    let mut select = connection.prepare_cached(select).map_err(failed(0))?;
    let mut found = HashMap::new();
    for id in ids {
        let seq = select.query_row([id.bytes()], |row| row.get(0)).optional();
        if let Some(seq) = seq.map_err(failed(0))? {
            found.insert(*id, position(seq, "seq", 0)?);
        }
    }
    Ok(found)
}

pub(super) fn stream_lines(
    connection: &Connection,
    stream: Stream,
    from_version: u64,
    max: usize,
) -> Result<Vec<String>, StoreError> {
    let Ok(from) = i64::try_from(from_version) else { return Ok(Vec::new()) };
    let limit = i64::try_from(max).unwrap_or(i64::MAX);
    let select = "SELECT line FROM records WHERE stream = ?1 AND version >= ?2
        ORDER BY version LIMIT ?3";
    let mut select = connection.prepare_cached(select).map_err(failed(0))?;
    let lines = select.query_map(params![stream.to_string(), from, limit], |row| row.get(0));
    lines.and_then(Iterator::collect).map_err(failed(0))
}

/// The store's clock is that of the machine it is on.
pub(super) fn clock(connection: &Connection) -> Result<Timestamp, StoreError> {
    let select = "SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER)";
    let millis = connection.query_row(select, [], |row| row.get(0)).map_err(failed(0))?;
    Ok(Timestamp::from_millis(millis))
}

fn extents<const N: usize>(
    connection: &Connection,
    select: &str,
    values: [&dyn ToSql; N],
    asked: u64,
) -> Result<Vec<Extent>, StoreError> {
    let mut select = connection.prepare_cached(select).map_err(failed(asked))?;
    let mut rows = select.query(&values[..]).map_err(failed(asked))?;
    let mut extents = Vec::new();
    while let Some(row) = rows.next().map_err(failed(asked))? {
        let first = row.get("first").map_err(failed(asked))?;
        extents.push(extent(row, position(first, "first", asked)?)?);
    }
    Ok(extents)
}

fn extent(row: &Row<'_>, first: u64) -> Result<Extent, StoreError> {
    let count: i64 = row.get("count").map_err(failed(first))?;
    let count =
        u32::try_from(count).ok().filter(|n| (1..=MAX_BLOCK_RECORDS).contains(&(*n as usize)));
    Ok(Extent {
        first,
        count: count.ok_or_else(|| malformed(first, "its count is no count of records"))?,
        frontier: row.get("frontier").map_err(failed(first))?,
        root: row.get("root").map_err(failed(first))?,
        seal: row.get("seal").map_err(failed(first))?,
    })
}

fn read_first(connection: &Connection, extents: &[Extent]) -> Result<Option<Block>, StoreError> {
    extents.first().map(|extent| read_block(connection, extent)).transpose()
}

fn read_block(connection: &Connection, extent: &Extent) -> Result<Block, StoreError> {
    let first = extent.first;
    let (hashes, rest) = extent.frontier.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(malformed(first, "its frontier is not a run of hashes"));
    }
    let mut block = Block {
        first,
        lines: Vec::with_capacity(extent.count as usize),
        streams: Vec::new(),
        commands: Vec::new(),
        frontier: hashes.iter().copied().map(Hash).collect(),
        root: Hash(extent.root),
        seal: Mac::new(extent.seal),
    };
    for (number, record) in (0..).zip(records(connection, extent)?) {
        if let Some((stream, version)) = record.stream {
            let spelled = stream;
            let place = first + u64::from(number);
            let stream: Stream =
                spelled.parse().map_err(|_| malformed(place, "an entry names no stream"))?;
            // Lookups compare the text: in another spelling of it the entry would not be found.
            if stream.to_string() != spelled {
                return Err(malformed(place, "an entry spells its stream in another way"));
            }
            let version = position(version, "version", place)?;
            block.streams.push(StreamEntry { stream, version, line: number });
        }
        if let Some(id) = record.command {
            block.commands.push(CommandEntry { id: Mac::new(id), line: number });
        }
        block.lines.push(record.line);
    }
    Ok(block)
}

/// The records of one block; as many as the block says.
fn records(connection: &Connection, extent: &Extent) -> Result<Vec<StoredRecord>, StoreError> {
    let first = extent.first;
    // No line is longer; one that claims to be must not fill the memory.
    let select = "SELECT
        CASE WHEN octet_length(line) <= 65536 THEN line ELSE substr(line, 1, 65536) END,
        stream, version, command, seq FROM records
        WHERE seq >= ?1 AND seq < ?1 + ?2 ORDER BY seq";
    let mut select = connection.prepare_cached(select).map_err(failed(first))?;
    let read = |row: &Row<'_>| {
        let (stream, version): (Option<String>, Option<i64>) = (row.get(1)?, row.get(2)?);
        // A version without a stream is as wrong as a stream without one.
        let stream = match (stream, version) {
            (None, None) => None,
            (stream, version) => Some((stream.unwrap_or_default(), version.unwrap_or_default())),
        };
        let record = StoredRecord { line: row.get(0)?, stream, command: row.get(3)? };
        Ok((row.get::<_, i64>(4)?, record))
    };
    let records = select.query_map(params![first.cast_signed(), extent.count], read);
    let records: Vec<_> = records.and_then(Iterator::collect).map_err(failed(first))?;
    let mut found = Vec::with_capacity(records.len());
    for (place, (seq, record)) in (first..).zip(records) {
        if seq != place.cast_signed() {
            return Err(malformed(place, "a record of the block is missing"));
        }
        found.push(record);
    }
    if found.len() == extent.count as usize {
        Ok(found)
    } else {
        let place = first + found.len() as u64;
        Err(malformed(place, "a record of the block is missing"))
    }
}

pub(super) fn position(stored: i64, name: &str, first: u64) -> Result<u64, StoreError> {
    u64::try_from(stored).map_err(|_| malformed(first, &format!("{name} is {stored}")))
}

fn malformed(first: u64, reason: &str) -> StoreError {
    StoreError::Malformed { first, reason: reason.to_owned() }
}

/// Tells an answer that makes no sense from none.
pub(super) fn failed(first: u64) -> impl Fn(Error) -> StoreError {
    move |error| {
        let nonsense = match &error {
            Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::InvalidColumnType(..)
            | Error::Utf8Error(..) => true,
            error => matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            ),
        };
        if nonsense {
            StoreError::Malformed { first, reason: error.to_string() }
        } else {
            StoreError::Unavailable(Box::new(error))
        }
    }
}
