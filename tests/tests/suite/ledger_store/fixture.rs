//! Blocks for the stores' tests. Stores do not check hashes, so these are made up.

use audit_service::{
    block::{Block, CommandEntry, StreamEntry},
    store::LedgerStore,
};
use domain::{
    hash::Hash,
    ids::{Mac, PatientId, Stream},
};
use uuid::Uuid;

/// One record of a block to be.
pub(super) struct Entry {
    pub(super) line: String,
    stream: Option<(Stream, u64)>,
    command: Option<Mac>,
}

/// Builds a block record by record.
pub(super) struct BlockBuilder(Block);

impl BlockBuilder {
    pub(super) fn new(first: u64) -> Self {
        Self(Block {
            first,
            lines: Vec::new(),
            streams: Vec::new(),
            commands: Vec::new(),
            frontier: Vec::new(),
            root: Hash::ZERO,
            seal: mac(0),
        })
    }

    pub(super) fn with(mut self, entry: Entry) -> Self {
        let line = u32::try_from(self.0.lines.len()).unwrap();
        self.0.lines.push(entry.line);
        self.0.streams.extend(entry.stream.map(|(stream, version)| StreamEntry {
            stream,
            version,
            line,
        }));
        self.0.commands.extend(entry.command.map(|id| CommandEntry { id, line }));
        self
    }

    pub(super) fn build(mut self) -> Block {
        let end = self.0.end();
        self.0.frontier =
            (0..end.count_ones()).map(|n| Hash::of_line(&format!("{end} {n}"))).collect();
        self.0.root = Hash::of_line(&end.to_string());
        self.0.seal = mac(end << 32);
        self.0
    }
}

/// A record that takes a version of a patient's stream, caused by a command.
pub(super) fn event(number: u64, version: u64, command: u64) -> Entry {
    Entry {
        line: format!("{{\"event\":{version},\"of\":\"{}\"}}", patient(number)),
        stream: Some((patient(number), version)),
        command: Some(mac(command)),
    }
}

/// A record that the lookups do not know.
pub(super) fn plain(line: &str) -> Entry {
    Entry { line: line.to_owned(), stream: None, command: None }
}

pub(super) fn patient(number: u64) -> Stream {
    Stream::Patient(PatientId::new(Uuid::from_u128(u128::from(number) << 64 | 7)))
}

pub(super) fn mac(number: u64) -> Mac {
    Mac::new(Hash::of_line(&number.to_string()).0)
}

/// Stores this many blocks of 1, 2, 3 … records, with all sorts of entries, and returns them.
pub(super) async fn fill(store: &dyn LedgerStore, blocks: u64) -> Vec<Block> {
    let mut stored: Vec<Block> = Vec::new();
    for size in 1..=blocks {
        let first = stored.last().map_or(0, Block::end);
        let mut block = BlockBuilder::new(first);
        for seq in first..first + size {
            let mut entry = event(seq % 3, seq + 1, seq);
            match seq % 4 {
                1 => entry = plain("{\"kind\":\"access\"}"),
                2 => entry.command = None,
                3 => entry.stream = Some((Stream::LedgerKeys, seq)),
                _ => {}
            }
            block = block.with(entry);
        }
        let block = block.build();
        store.append(&block).await.unwrap();
        stored.push(block);
    }
    stored
}
