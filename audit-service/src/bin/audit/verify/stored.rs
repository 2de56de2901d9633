//! Verifying a store directly: blocks, and what stands beside their lines.

use std::{collections::VecDeque, sync::Arc};

use anyhow::{Context, bail};
use audit_service::store::{
    LedgerStore, StoreError,
    mongo::{MongoLedger, MongoOptions},
    sqlite::SqliteLedger,
};
use audit_verify::{
    block::MAX_BLOCK_RECORDS,
    report::Finding,
    report::Problem,
    verifier::{Chunk, Options, Read, Start},
};
use domain::{ids::Name, record::Record};
use runtime::store_location::StoreLocation;
use tokio::runtime::Handle;

use super::{Verified, VerifyArgs, anchored::Anchored, check_checkpoint, engine, expected_of};
use crate::output::Failure;

/// Blocks read at once.
const PAGE: usize = 64;

/// Verifies every block of a store, and the checkpoint if there is one.
pub(super) async fn verify(
    args: &VerifyArgs,
    location: &StoreLocation,
) -> Result<Verified, Failure> {
    let store = open(args, location).await?;
    let trust = args.verifier_keys.load()?;
    let mut unchecked = Vec::new();
    let (origin, keys) = if let Some(trust) = &trust {
        (trust.origin().clone(), trust.keys().to_vec())
    } else {
        unchecked.push("signatures: no --verifier-key was given".to_owned());
        (origin_of(&*store).await?, Vec::new())
    };
    let mut expected = Vec::new();
    let mut cosigned = Vec::new();
    let mut note = None;
    let mut checkpoint_size = None;
    if let Some(path) = &args.checkpoint {
        let checkpoint = expected_of("the checkpoint", path, &origin)?;
        let text = checkpoint.note.clone().unwrap_or_default();
        cosigned = check_checkpoint(args, &text)?;
        note = Some(text);
        checkpoint_size = Some(checkpoint.head.size);
        expected.push(checkpoint);
    } else {
        if !args.witnesses.witness_keys.is_empty() {
            let error = "give the --checkpoint that the witnesses cosigned";
            return Err(anyhow::anyhow!(error).into());
        }
        unchecked.push(
            "whether the end was cut off or everything rewritten: no --checkpoint was given"
                .to_owned(),
        );
    }
    expected.extend(args.trusted(&origin)?);
    let (anchored, compared, _) = Anchored::read(args, &origin).await?.within(0, u64::MAX);
    expected.extend(anchored);
    let seal_keys = args.seal_keys()?;
    if seal_keys.is_none() {
        unchecked.push("the blocks' seals: no --seal-key was given".to_owned());
    }
    let total = store.head().await.ok().flatten().map_or(0, |head| head.end());
    let options =
        Options { origin, keys, start: Start::Genesis, expected, covers: None, seal_keys };
    let blocks = Blocks {
        store: store.clone(),
        next: 0,
        last: None,
        page: PAGE,
        ready: VecDeque::new(),
        handle: Handle::current(),
        ended: false,
    };
    let mut report = engine(options, blocks, args.threads(), total).await?;
    let covered = checkpoint_size.unwrap_or(report.head.size);
    if covered < report.head.size {
        unchecked.push(format!(
            "signatures over the records from {covered} on: the checkpoint does not cover them"
        ));
    }
    // What no block accounts for counts only where the blocks themselves are right.
    if report.is_intact() {
        let stray = match store.stray().await {
            Ok(None) => None,
            Ok(Some(stray)) => Some((stray.first, stray.reason)),
            Err(StoreError::Malformed { first, reason }) => Some((first, reason)),
            Err(error) => return Err(anyhow::Error::new(error).into()),
        };
        if let Some((first, reason)) = stray {
            report.findings.push(Finding::at(first, Problem::Store { first, reason }));
        }
    }
    Ok(Verified {
        report,
        what: format!("the store {location}"),
        checkpoint: note,
        cosigned,
        compared,
        unchecked,
    })
}

async fn open(args: &VerifyArgs, location: &StoreLocation) -> anyhow::Result<Arc<dyn LedgerStore>> {
    if let StoreLocation::Sqlite(path) = location {
        let shown = || format!("{} cannot be read", path.display());
        return Ok(Arc::new(SqliteLedger::open_to_read(path).with_context(shown)?));
    }
    let Some(uri) = location.mongo_uri()? else { bail!("the store is not one that is known") };
    let database = format!("{}_ledger", args.database_prefix);
    let options = MongoOptions { cosmos_consistency: args.cosmos_consistency };
    Ok(Arc::new(MongoLedger::connect_to_read(uri.text()?, &database, options).await?))
}

/// The ledger's name as its first record has it.
async fn origin_of(store: &dyn LedgerStore) -> Result<Name, Failure> {
    let unreadable = |what: String| Failure::tampered(0, what);
    let first = match store.blocks_from(0, 1).await {
        Ok(blocks) => blocks.into_iter().next(),
        Err(StoreError::Malformed { first, reason }) => {
            return Err(Failure::tampered(first, format!("there is no block: {reason}")));
        }
        Err(error) => return Err(anyhow::Error::new(error).into()),
    };
    let Some(block) = first else {
        return Err(anyhow::anyhow!(
            "the store holds no record, and no --verifier-key names the ledger"
        )
        .into());
    };
    let line =
        block.lines.first().ok_or_else(|| unreadable("the first block is empty".to_owned()))?;
    let record = Record::parse(line).map_err(|error| unreadable(format!("record 0: {error}")))?;
    Ok(record.ledger)
}

/// The blocks in order, read while those before them are checked.
struct Blocks {
    store: Arc<dyn LedgerStore>,
    next: u64,
    /// `first` of the last block read, which is read again at the beginning of the next page: what
    /// stands between its first record and the next block must not be passed over.
    last: Option<u64>,
    page: usize,
    ready: VecDeque<Read>,
    handle: Handle,
    ended: bool,
}

impl Blocks {
    fn fetch(&mut self) -> anyhow::Result<()> {
        let alone = self.page == 1;
        // Where something cannot be read, the blocks before it are asked for one by one.
        let from = if alone { self.next } else { self.last.map_or(0, |last| last + 1) };
        // One more than a page, for the block that comes again if it has several records.
        let count = self.page + usize::from(from < self.next);
        match self.handle.block_on(self.store.blocks_from(from, count)) {
            Ok(blocks) => {
                let new: Vec<_> =
                    blocks.into_iter().filter(|block| Some(block.first) != self.last).collect();
                self.ended = new.is_empty();
                for block in new {
                    self.last = Some(block.first);
                    self.next = block.end().max(self.next + 1);
                    self.ready.push_back(Read::Chunk(Chunk::of_block(block)));
                }
            }
            // One bad block hides those before it on the same page.
            Err(StoreError::Malformed { .. }) if self.page > 1 => self.page = 1,
            Err(StoreError::Malformed { first, reason }) => {
                self.ended = true;
                self.ready.push_back(bad(self.next, first, reason));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// What cannot be read at `first`, where the block at `next` was asked for.
fn bad(next: u64, first: u64, reason: String) -> Read {
    // Within the block that should be there, the place may be that of a record. A document that is
    // damaged enough names none.
    let within = next..next + MAX_BLOCK_RECORDS as u64;
    if within.contains(&first.max(next)) {
        return Read::Bad { first: first.max(next), reason };
    }
    let reason = format!("no block, and what is there next, at {first}, cannot be read: {reason}");
    Read::Bad { first: next, reason }
}

impl Iterator for Blocks {
    type Item = anyhow::Result<Read>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && !self.ended {
            if let Err(error) = self.fetch() {
                self.ended = true;
                return Some(Err(error));
            }
        }
        self.ready.pop_front().map(Ok)
    }
}
