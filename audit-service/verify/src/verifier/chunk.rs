//! What can be said of a run of lines by itself.

use std::str::Utf8Error;

use domain::{
    chain::{ChainError, Link},
    hash::Hash,
    ids::Name,
    merkle::Run,
    record::{ParseError, Record},
};

use crate::{
    block::{Block, entries},
    versions::Entry,
};

/// Consecutive lines as they were read.
pub struct Chunk(Lines);

enum Lines {
    Text(Vec<u8>),
    Block(Box<Block>),
}

impl Chunk {
    /// NDJSON: whole lines, each with its newline but perhaps the last.
    pub fn of_text(text: Vec<u8>) -> Self {
        Self(Lines::Text(text))
    }

    /// A stored block; what stands beside its lines is checked as well.
    pub fn of_block(block: Block) -> Self {
        Self(Lines::Block(Box::new(block)))
    }
}

/// A chunk of which everything is known that the chunk alone tells.
#[derive(Default)]
pub struct Checked {
    /// What the first record says about its place.
    pub(super) first: Option<Link>,
    /// Hashes of the records that follow from the first, which is one of them.
    pub(super) hashes: Vec<Hash>,
    /// Their part of the Merkle tree, where the first record says that it is.
    pub(super) run: Option<Run>,
    /// The end of the chain of these records.
    pub(super) link: Option<Link>,
    pub(super) versions: Vec<Entry>,
    pub(super) rotations: Vec<Record>,
    pub(super) bytes: u64,
    /// The first line that does not follow.
    pub(super) broken: Option<Broken>,
    pub(super) block: Option<CheckedBlock>,
}

/// A line that does not follow from the one before it, or is none.
pub(super) enum Broken {
    /// Its error names the line's place; for the first line of a chunk the place is not known.
    Error(ChainError),
    /// A record that does not name the hash of the one before it.
    Unlinked(Unlinked),
}

/// A record that does not name the hash of the one before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unlinked {
    pub(super) seq: u64,
    /// The hash that it names.
    pub(super) names: Hash,
    /// Its own hash.
    pub(super) hash: Hash,
    /// The hash that the record after it names.
    pub(super) next_names: Option<Hash>,
    /// Whether it is the last of its chunk.
    pub(super) is_last: bool,
}

/// A stored block without its lines.
pub(super) struct CheckedBlock {
    pub(super) block: Block,
    /// Lines that it holds.
    pub(super) lines: u64,
    pub(super) entries_fit: bool,
}

/// Checks a chunk by itself: every line canonical, every record within its rules, of this ledger
/// and following from the one before it; hashes, and the chunk's part of the tree.
pub fn check(origin: &Name, chunk: Chunk) -> Checked {
    let mut checked = Checked::default();
    match chunk.0 {
        Lines::Text(text) => {
            if !text.is_empty() {
                let whole = text.strip_suffix(b"\n").unwrap_or(&text);
                let lines = whole.split(|byte| *byte == b'\n').map(std::str::from_utf8);
                checked.read(origin, lines, |_| {});
            }
        }
        Lines::Block(mut block) => {
            let mut records = Vec::with_capacity(block.lines.len());
            let lines = block.lines.iter().map(|line| Ok(line.as_str()));
            checked.read(origin, lines, |record| records.push(record));
            let (streams, commands) = entries(&records);
            let entries_fit = streams == block.streams && commands == block.commands;
            let lines = std::mem::take(&mut block.lines).len() as u64;
            checked.block = Some(CheckedBlock { block: *block, lines, entries_fit });
        }
    }
    checked
}

impl Checked {
    fn read<'a>(
        &mut self,
        origin: &Name,
        lines: impl Iterator<Item = Result<&'a str, Utf8Error>>,
        mut keep: impl FnMut(Record),
    ) {
        let mut lines = lines.peekable();
        while let Some(line) = lines.next() {
            match self.line(origin, line) {
                Ok(record) => keep(record),
                Err(error) => {
                    let next = lines.peek().copied();
                    self.broken = Some(broken(error, line, next));
                    return;
                }
            }
        }
    }

    fn line(&mut self, origin: &Name, text: Result<&str, Utf8Error>) -> Result<Record, ChainError> {
        let seq = self.link.as_ref().map_or(0, |link| link.next_seq);
        let line = text.map_err(|error| {
            let source = ParseError::Malformed { column: error.valid_up_to() + 1 };
            ChainError::Parse { seq, source }
        })?;
        if self.link.is_none() {
            // The first record is taken at its word; the verifier knows better.
            let record = Record::parse(line).map_err(|source| ChainError::Parse { seq, source })?;
            let claimed = Link { next_seq: record.seq, hash: record.prev, at: record.recorded_at };
            self.run = Some(Run::at(claimed.next_seq));
            self.first = Some(claimed.clone());
            self.link = Some(claimed);
        }
        let (Some(end), Some(tree)) = (&mut self.link, &mut self.run) else {
            return Err(ChainError::Seq { expected: seq, found: seq });
        };
        let record = end.follow(origin, line)?;
        tree.push(end.hash);
        self.hashes.push(end.hash);
        self.bytes += line.len() as u64;
        if let Some((stream, version)) = record.stream_version() {
            self.versions.push(Entry::new(stream, version, record.seq));
        }
        if record.key.is_some() {
            self.rotations.push(record.clone());
        }
        Ok(record)
    }

    /// The first record as one that does not name the hash of the record before it.
    pub(super) fn first_unlinked(&self) -> Option<Unlinked> {
        let first = self.first.as_ref()?;
        let hash = *self.hashes.first()?;
        let next_names = match (self.hashes.get(1), &self.broken) {
            (Some(_), _) => Some(hash),
            (None, Some(Broken::Unlinked(next))) => Some(next.names),
            _ => None,
        };
        let is_last = self.hashes.len() == 1 && self.broken.is_none();
        Some(Unlinked { seq: first.next_seq, names: first.hash, hash, next_names, is_last })
    }
}

fn broken(
    error: ChainError,
    line: Result<&str, Utf8Error>,
    next: Option<Result<&str, Utf8Error>>,
) -> Broken {
    let (ChainError::Prev { seq }, Ok(line)) = (&error, line) else { return Broken::Error(error) };
    let Ok(record) = Record::parse(line) else { return Broken::Error(error) };
    let next_record = next.and_then(Result::ok).and_then(|next| Record::parse(next).ok());
    Broken::Unlinked(Unlinked {
        seq: *seq,
        names: record.prev,
        hash: Hash::of_line(line),
        next_names: next_record.map(|next| next.prev),
        is_last: next.is_none(),
    })
}
