//! What the checks of one block need to know of the ledger, all of it at hand.
//!
//! Memory alone is not enough: it forgets, also between looking and forming the block, and a
//! command that was forgotten looks like one that never was.

use std::collections::{BTreeMap, HashMap, HashSet};

use domain::{
    hash::Hash,
    ids::{Mac, Stream},
    record::Record,
};

use crate::{
    block::Block,
    plan::begins_stream,
    queue::Item,
    recent::{KnownCommand, Recent, receipt},
    store::{LedgerStore, StoreError},
};

/// Stream versions and commands; complete for the proposals that it was looked up for.
#[derive(Debug, Default)]
pub struct Known {
    /// The version of each stream, 0 for a stream without a record.
    pub versions: HashMap<Stream, u64>,
    /// The commands that the ledger holds.
    pub commands: HashMap<Mac, KnownCommand>,
}

/// What memory does not hold.
#[derive(Default)]
struct Missing {
    streams: HashSet<Stream>,
    commands: HashSet<Mac>,
}

/// Looks up what the checks of these items need, in memory and then in the store. `None` if
/// the store has one of the commands at `size` or after it: the ledger has to catch up first.
pub async fn look_up(
    store: &dyn LedgerStore,
    recent: &mut Recent,
    size: u64,
    items: &[Item],
) -> Result<Option<Known>, StoreError> {
    let (mut known, missing) = recall(recent, items);
    if !missing.streams.is_empty() {
        let streams: Vec<_> = missing.streams.into_iter().collect();
        let found = store.stream_versions(&streams).await?;
        for stream in streams {
            let version = found.get(&stream).copied().unwrap_or(0);
            recent.set_version(stream, version);
            known.versions.insert(stream, version);
        }
    }
    if !missing.commands.is_empty() {
        let commands: Vec<_> = missing.commands.into_iter().collect();
        let found = store.find_commands(&commands).await?;
        if found.values().any(|seq| *seq >= size) {
            return Ok(None);
        }
        for (id, command) in read_commands(store, found).await? {
            recent.set_command(id, command.clone());
            known.commands.insert(id, command);
        }
    }
    Ok(Some(known))
}

fn recall(recent: &Recent, items: &[Item]) -> (Known, Missing) {
    let mut known = Known::default();
    let mut missing = Missing::default();
    for Item { record, fresh, .. } in items {
        if let Some(stream) = record.stream {
            if let Some(version) = recent.version(&stream) {
                known.versions.insert(stream, version);
            } else if !begins_stream(record, *fresh) {
                missing.streams.insert(stream);
            }
        }
        if let Some(command) = record.command {
            if let Some(found) = recent.command(&command.id) {
                known.commands.insert(command.id, found.clone());
            } else if !fresh {
                missing.commands.insert(command.id);
            }
        }
    }
    (known, missing)
}

/// Reads the records of commands, each block once.
async fn read_commands(
    store: &dyn LedgerStore,
    found: HashMap<Mac, u64>,
) -> Result<Vec<(Mac, KnownCommand)>, StoreError> {
    let by_seq: BTreeMap<u64, Mac> = found.into_iter().map(|(id, seq)| (seq, id)).collect();
    let mut commands = Vec::with_capacity(by_seq.len());
    let mut block: Option<Block> = None;
    for (seq, id) in by_seq {
        if block.as_ref().is_none_or(|block| block.end() <= seq) {
            block = store.blocks_from(seq, 1).await?.into_iter().next();
        }
        let command = block.as_ref().and_then(|block| command_at(block, seq, id));
        let command = command.ok_or_else(|| StoreError::Malformed {
            first: seq,
            reason: "the record found by a command's id is not that command's".to_owned(),
        })?;
        commands.push((id, command));
    }
    Ok(commands)
}

fn command_at(block: &Block, seq: u64, id: Mac) -> Option<KnownCommand> {
    let line = block.line_at(seq)?;
    let record = Record::parse(line).ok()?;
    let command = record.command.filter(|command| command.id == id)?;
    Some(KnownCommand { digest: command.digest, receipt: receipt(&record, Hash::of_line(line)) })
}
