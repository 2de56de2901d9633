//! A block as a document, and back.
//!
//! `streams` stands in the document from the last line to the first: a projection by
//! `$elemMatch` returns the first match of an array, which then is the stream's latest version.

use std::borrow::Cow;

use bson::{Binary, RawDocument, RawDocumentBuf, spec::BinarySubtype};
use domain::{
    hash::Hash,
    ids::{MAX_SAFE_INTEGER, Mac, Stream},
};
use serde::{Deserialize, Serialize};

use crate::{
    block::{Block, CommandEntry, MAX_BLOCK_RECORDS, StreamEntry},
    store::{BoxError, StoreError},
};

/// Records of one segment, as a power of two: the unit by which a sharded cluster spreads the
/// ledger. About a million records is some 700 MB.
const SEGMENT_BITS: u32 = 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredBlock<'a> {
    #[serde(rename = "_id")]
    first: i64,
    segment: i64,
    count: i64,
    lines: Cow<'a, [String]>,
    streams: Vec<StoredStream>,
    commands: Vec<StoredCommand>,
    frontier: Vec<Binary>,
    root: Binary,
    seal: Binary,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredStream {
    s: String,
    v: i64,
    n: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredCommand {
    i: Binary,
    n: i64,
}

/// A document, or a part of one as a projection returns it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredPart {
    #[serde(rename = "_id")]
    first: i64,
    count: Option<i64>,
    #[serde(default)]
    streams: Vec<StoredStream>,
    #[serde(default)]
    commands: Vec<StoredCommand>,
    #[serde(default)]
    found: Vec<FoundLine>,
}

/// A version of a stream with its line.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FoundLine {
    pub(super) v: i64,
    pub(super) line: String,
}

/// Where a block begins and ends.
pub(super) struct Extent {
    pub(super) first: u64,
    pub(super) end: i64,
}

/// The shard key of a block.
fn segment(first: i64) -> i64 {
    first >> SEGMENT_BITS
}

/// A hash or an id as it is stored.
pub(super) fn binary(bytes: &[u8; 32]) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() }
}

/// The same block gives the same bytes, always.
pub(super) fn encode(block: &Block) -> Result<RawDocumentBuf, BoxError> {
    let first = i64::try_from(block.first)?;
    let stream = |entry: &StreamEntry| -> Result<StoredStream, BoxError> {
        let v = i64::try_from(entry.version)?;
        Ok(StoredStream { s: entry.stream.to_string(), v, n: i64::from(entry.line) })
    };
    let command = |entry: &CommandEntry| StoredCommand {
        i: binary(entry.id.bytes()),
        n: i64::from(entry.line),
    };
    let stored = StoredBlock {
        first,
        segment: segment(first),
        count: i64::try_from(block.lines.len())?,
        lines: Cow::Borrowed(&block.lines),
        streams: block.streams.iter().rev().map(stream).collect::<Result<_, _>>()?,
        commands: block.commands.iter().map(command).collect(),
        frontier: block.frontier.iter().map(|hash| binary(&hash.0)).collect(),
        root: binary(&block.root.0),
        seal: binary(block.seal.bytes()),
    };
    Ok(bson::serialize_to_raw_document_buf(&stored)?)
}

/// Reads a whole block. `asked` names it in the error if the document itself does not.
pub(super) fn decode(document: &RawDocument, asked: u64) -> Result<Block, StoreError> {
    let malformed = |reason| malformed(document, asked, reason);
    let stored: StoredBlock<'_> = bson::deserialize_from_slice(document.as_bytes())
        .map_err(|_| malformed("its parts are not those of a block".to_owned()))?;
    block(stored).map_err(malformed)
}

fn block(stored: StoredBlock<'_>) -> Result<Block, String> {
    let first = position(stored.first, "_id")?;
    let lines = stored.lines.into_owned();
    if !(1..=MAX_BLOCK_RECORDS).contains(&lines.len()) {
        return Err(format!("it holds {} lines", lines.len()));
    }
    if usize::try_from(stored.count) != Ok(lines.len()) {
        return Err(format!("count is {}, but it holds {} lines", stored.count, lines.len()));
    }
    if stored.segment != segment(stored.first) {
        return Err("segment does not follow from _id".to_owned());
    }
    let line = |n: i64| -> Result<u32, String> {
        let line = u32::try_from(n).ok().filter(|line| (*line as usize) < lines.len());
        line.ok_or_else(|| format!("an entry names line {n}, which it does not hold"))
    };
    let stream = |entry: &StoredStream| -> Result<StreamEntry, String> {
        let (stream, version) = entry.parse()?;
        Ok(StreamEntry { stream, version, line: line(entry.n)? })
    };
    let command = |entry: &StoredCommand| -> Result<CommandEntry, String> {
        Ok(CommandEntry { id: entry.parse()?, line: line(entry.n)? })
    };
    let streams = stored.streams.iter().rev().map(stream).collect::<Result<_, _>>()?;
    let commands = stored.commands.iter().map(command).collect::<Result<_, _>>()?;
    let hash = |stored: &Binary| bytes(stored, "frontier").map(Hash);
    Ok(Block {
        first,
        streams,
        commands,
        frontier: stored.frontier.iter().map(hash).collect::<Result<_, _>>()?,
        root: Hash(bytes(&stored.root, "root")?),
        seal: Mac::new(bytes(&stored.seal, "seal")?),
        lines,
    })
}

/// Reads where a block begins and ends.
pub(super) fn decode_extent(document: &RawDocument) -> Result<Extent, StoreError> {
    with_part(document, |part| {
        let first = position(part.first, "_id")?;
        let count = part.count.ok_or("count is missing")?;
        if !usize::try_from(count).is_ok_and(|count| (1..=MAX_BLOCK_RECORDS).contains(&count)) {
            return Err(format!("count is {count}"));
        }
        Ok(Extent { first, end: part.first + count })
    })
}

/// Reads the stream entries that a projection returned.
pub(super) fn decode_streams(document: &RawDocument) -> Result<Vec<(Stream, u64)>, StoreError> {
    with_part(document, |part| part.streams.iter().map(StoredStream::parse).collect())
}

/// Reads the commands that a projection returned, each with the `seq` of its record.
pub(super) fn decode_commands(document: &RawDocument) -> Result<Vec<(Mac, u64)>, StoreError> {
    with_part(document, |part| {
        let first = position(part.first, "_id")?;
        let entry = |entry: &StoredCommand| Ok((entry.parse()?, first + position(entry.n, "n")?));
        part.commands.iter().map(entry).collect()
    })
}

/// Reads the lines that a projection picked.
pub(super) fn decode_found(document: &RawDocument) -> Result<Vec<FoundLine>, StoreError> {
    with_part(document, |part| Ok(part.found))
}

fn with_part<T>(
    document: &RawDocument,
    read: impl FnOnce(StoredPart) -> Result<T, String>,
) -> Result<T, StoreError> {
    let part = bson::deserialize_from_slice(document.as_bytes());
    // The error's own text repeats what is stored.
    part.map_err(|_| "its parts are not those of a block".to_owned())
        .and_then(read)
        .map_err(|reason| malformed(document, 0, reason))
}

fn malformed(document: &RawDocument, asked: u64, reason: String) -> StoreError {
    let id = document.get_i64("_id").ok().and_then(|id| u64::try_from(id).ok());
    StoreError::Malformed { first: id.unwrap_or(asked), reason }
}

impl StoredStream {
    fn parse(&self) -> Result<(Stream, u64), String> {
        let stream: Stream = self.s.parse().map_err(|_| "an entry names no stream".to_owned())?;
        // Lookups compare the text: in another spelling of it the entry would not be found.
        if stream.to_string() != self.s {
            return Err("an entry spells its stream in another way".to_owned());
        }
        Ok((stream, position(self.v, "v")?))
    }
}

impl StoredCommand {
    fn parse(&self) -> Result<Mac, String> {
        bytes(&self.i, "a command's id").map(Mac::new)
    }
}

fn position(stored: i64, name: &str) -> Result<u64, String> {
    let position = u64::try_from(stored).ok().filter(|position| *position <= MAX_SAFE_INTEGER);
    position.ok_or_else(|| format!("{name} is {stored}"))
}

fn bytes(stored: &Binary, name: &str) -> Result<[u8; 32], String> {
    let bytes = <[u8; 32]>::try_from(stored.bytes.as_slice());
    match bytes {
        Ok(bytes) if stored.subtype == BinarySubtype::Generic => Ok(bytes),
        _ => Err(format!("{name} is not 32 bytes")),
    }
}
