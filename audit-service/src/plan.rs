//! Forming one block: every proposal is checked against the ledger and against the records
//! ahead of it in the same block. Pure.

use audit_verify::key_history::NotVouchedFor;
use domain::{
    hash::Hash,
    ids::Stream,
    record::{Kind, Record},
    time::Timestamp,
    wire::{AppendResult, Receipt, Stored},
};

use crate::{
    block::Block,
    known::Known,
    ledger::{Ledger, entries},
    recent::{KnownCommand, receipt},
};

/// A block in the making.
pub struct Plan {
    ledger: Ledger,
    /// What the ledger will hold with this block.
    known: Known,
    now: Timestamp,
    first: u64,
    records: Vec<Record>,
    hashes: Vec<Hash>,
    lines: Vec<String>,
}

/// A formed block, with what is true once it is durable.
pub struct Formed {
    /// The block.
    pub block: Block,
    /// The ledger after it.
    pub ledger: Ledger,
    /// Its records with their hashes.
    pub records: Vec<(Record, Hash)>,
}

impl Plan {
    /// Begins a block after `ledger` at the time `now`. `known` must be complete for every
    /// proposal that will be offered.
    pub fn new(ledger: &Ledger, known: Known, now: Timestamp) -> Self {
        Self {
            first: ledger.size(),
            now: now.max(ledger.link().at),
            ledger: ledger.clone(),
            known,
            records: Vec::new(),
            hashes: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// Checks one proposal, whose place in the ledger is not set yet, and takes it into the
    /// block if it passes. The result holds once the block is durable.
    ///
    /// The command id is checked before the version: a retried command gets its receipt, not
    /// the conflict with itself.
    pub fn offer(&mut self, proposed: &Record, fresh: bool) -> AppendResult {
        if let Some(result) = self.check_command(proposed) {
            return result;
        }
        let current = match proposed.stream {
            Some(stream) => match self.current_version(stream, proposed, fresh) {
                Some(current) => Some((stream, current)),
                None => return AppendResult::Unavailable { stored: Stored::NothingStored },
            },
            None => None,
        };
        if let (Some((stream, actual)), Some(version), true) =
            (current, proposed.version, proposed.kind != Kind::Access)
            && version != actual + 1
        {
            return AppendResult::Conflict { stream, expected: version - 1, actual };
        }
        let Ok(mut receipt) = self.take(proposed.clone()) else {
            let reason = "the ledger's signing key did not vouch for this rotation".to_owned();
            return AppendResult::Refused { reason };
        };
        if proposed.kind == Kind::Access {
            receipt.current_version = current.map(|(_, version)| version);
        }
        AppendResult::Appended(receipt)
    }

    /// The block, unless nothing was taken into it.
    pub fn finish(self) -> Option<Formed> {
        if self.lines.is_empty() {
            return None;
        }
        let block = self.ledger.close_block(self.first, self.lines, entries(&self.records));
        let records = self.records.into_iter().zip(self.hashes).collect();
        Some(Formed { block, ledger: self.ledger, records })
    }

    fn check_command(&self, proposed: &Record) -> Option<AppendResult> {
        let command = proposed.command.as_ref()?;
        let known = self.known.commands.get(&command.id)?;
        if known.digest != command.digest {
            return Some(AppendResult::CommandReused);
        }
        let receipt = Receipt { replayed: true, ..known.receipt.clone() };
        Some(AppendResult::Appended(receipt))
    }

    /// `None` only where the caller forgot to look the stream up.
    fn current_version(&self, stream: Stream, proposed: &Record, fresh: bool) -> Option<u64> {
        let known = self.known.versions.get(&stream).copied();
        known.or_else(|| begins_stream(proposed, fresh).then_some(0))
    }

    fn take(&mut self, mut record: Record) -> Result<Receipt, NotVouchedFor> {
        record.seq = self.ledger.size();
        record.prev = self.ledger.link().hash;
        record.recorded_at = self.now;
        let line = record.to_line();
        let hash = self.ledger.push(&record, &line)?;
        let receipt = receipt(&record, hash);
        if let Some((stream, version)) = record.stream_version() {
            self.known.versions.insert(stream, version);
        }
        if let Some(command) = record.command {
            let known = KnownCommand { digest: command.digest, receipt: receipt.clone() };
            self.known.commands.insert(command.id, known);
        }
        self.lines.push(line);
        self.hashes.push(hash);
        self.records.push(record);
        Ok(receipt)
    }
}

/// Whether a record begins a stream whose id was made for this very request: the ledger
/// cannot hold that stream.
pub fn begins_stream(proposed: &Record, fresh: bool) -> bool {
    fresh && proposed.kind == Kind::Event && proposed.version == Some(1)
}
