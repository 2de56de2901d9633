//! A block: what one group commit stores atomically.

use domain::{
    hash::Hash,
    ids::{Mac, Stream},
    record::Record,
};

/// Records of one block at most.
pub const MAX_BLOCK_RECORDS: usize = domain::wire::MAX_APPEND_ITEMS;

/// Bytes of one block's lines at most; Azure Cosmos DB takes documents of 2 MB.
pub const MAX_BLOCK_BYTES: usize = 1_500_000;

/// A run of consecutive records with the Merkle tree's state after them.
///
/// The lines alone are the record; everything else is derived from them, stored for lookups
/// and for starting without reading the whole ledger, and checked whenever a block is folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// `seq` of the first record; unique in the store, which is the fence.
    pub first: u64,
    /// The records' lines, 1 to [`MAX_BLOCK_RECORDS`].
    pub lines: Vec<String>,
    /// Events and admin acts of this block, for lookups by stream.
    pub streams: Vec<StreamEntry>,
    /// Commands of this block, for lookups by command id.
    pub commands: Vec<CommandEntry>,
    /// Roots of the full subtrees after this block, largest first.
    pub frontier: Vec<Hash>,
    /// Merkle root after this block.
    pub root: Hash,
    /// HMAC-SHA256 over origin, size and root under the seal key.
    pub seal: Mac,
}

/// A version of a stream and the line that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamEntry {
    /// The stream.
    pub stream: Stream,
    /// The version that the record takes in it.
    pub version: u64,
    /// Index into [`Block::lines`].
    pub line: u32,
}

/// A command and the line that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandEntry {
    /// The command's id.
    pub id: Mac,
    /// Index into [`Block::lines`].
    pub line: u32,
}

impl Block {
    /// Records in the ledger after this block; `first` of the next one.
    pub fn end(&self) -> u64 {
        self.first + self.lines.len() as u64
    }

    /// The line of a record, if it is in this block.
    pub fn line_at(&self, seq: u64) -> Option<&String> {
        self.lines.get(usize::try_from(seq.checked_sub(self.first)?).ok()?)
    }
}

/// The lookup entries of a block's records.
pub fn entries(records: &[Record]) -> (Vec<StreamEntry>, Vec<CommandEntry>) {
    let mut streams = Vec::new();
    let mut commands = Vec::new();
    for (line, record) in (0..).zip(records) {
        if let Some((stream, version)) = record.stream_version() {
            streams.push(StreamEntry { stream, version, line });
        }
        if let Some(command) = record.command {
            commands.push(CommandEntry { id: command.id, line });
        }
    }
    (streams, commands)
}
