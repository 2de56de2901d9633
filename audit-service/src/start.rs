//! Opening a ledger: the stored one must extend the highest checkpoint known outside its store.

use std::sync::Arc;

use domain::{
    chain::Link,
    merkle::Frontier,
    record::{ParseError, Record},
};

use crate::{
    block::Block,
    checkpoint::TreeHead,
    key_lookup::LookedUp,
    ledger::{FoldError, Ledger},
    seal::SealKeys,
    store::{LedgerStore, StoreError},
};

/// Blocks read at once.
const PAGE: usize = 64;

/// Why the stored ledger was refused at start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store did not answer.
    #[error("the ledger store cannot be read")]
    Store(#[from] StoreError),
    /// Records that were signed are gone. A restored backup begins a new origin.
    #[error(
        "the stored ledger was cut back: it has {stored} records, and {signed} were signed; \
         restore it, or begin a new ledger under a new origin"
    )]
    CutBack {
        /// Records in the store.
        stored: u64,
        /// Records under the remembered checkpoint.
        signed: u64,
    },
    /// Other records than those that were signed.
    #[error("the stored ledger differs from the one that was signed, at or before record {seq}")]
    Differs {
        /// The last record under the remembered checkpoint.
        seq: u64,
    },
    /// A block does not follow from what is known.
    #[error("the stored ledger does not verify at record {}", .0.seq())]
    Fold(#[from] FoldError),
    /// What the store's lookup shows is no rotation of the signing key.
    #[error("what the store shows as rotation {version} of the signing key is none")]
    Rotation {
        /// Its version in `ledger/keys`.
        version: u64,
    },
    /// The store's lookup hides a rotation of the signing key, or shows one that is not there.
    #[error(
        "the rotations of the signing key that the store shows are not those of the ledger, at \
         record {seq}"
    )]
    KeyHistory {
        /// The first rotation that was hidden or made up.
        seq: u64,
    },
    /// The ledger's current signing key is another.
    #[error(
        "the ledger's signing key was rotated, and this process does not hold the current one: \
         give it the secret of {key}"
    )]
    KeyMissing {
        /// The current verifier key.
        key: String,
    },
    /// A line under the remembered checkpoint cannot be read.
    #[error("record {seq} cannot be read")]
    Record {
        /// Its position.
        seq: u64,
        /// Why.
        source: ParseError,
    },
}

/// Reads the end of the ledger and verifies everything since the remembered checkpoint; all of
/// it where there is none. The rotations of the signing key in what was read must be those that
/// were looked up.
pub async fn open(
    store: &dyn LedgerStore,
    looked_up: &LookedUp,
    seal_keys: Arc<SealKeys>,
    remembered: Option<TreeHead>,
) -> Result<Ledger, StartError> {
    let mut ledger = Ledger::genesis(looked_up.keys.at(0).clone(), seal_keys);
    match remembered {
        Some(signed) if signed.size > 0 => {
            ledger = resume_at(store, ledger, looked_up, signed).await?;
        }
        _ => tracing::info!("no checkpoint is remembered; the whole ledger is verified"),
    }
    loop {
        let blocks = store.blocks_from(ledger.size(), PAGE).await?;
        if blocks.is_empty() {
            looked_up.check(&ledger)?;
            return Ok(ledger);
        }
        for block in &blocks {
            ledger.fold(block)?;
        }
    }
}

/// The ledger as it was when `signed` was signed.
///
/// Its last block is authentic if folding its lines onto the frontier before it gives the
/// signed root: another frontier or other lines with the same root would be a collision.
async fn resume_at(
    store: &dyn LedgerStore,
    ledger: Ledger,
    looked_up: &LookedUp,
    signed: TreeHead,
) -> Result<Ledger, StartError> {
    let seq = signed.size - 1;
    let differs = || StartError::Differs { seq };
    let Some(last) = block_holding(store, seq).await? else {
        let stored = store.head().await?.map_or(0, |head| head.end());
        if stored >= signed.size {
            return Err(differs());
        }
        return Err(StartError::CutBack { stored, signed: signed.size });
    };
    let before = if last.first == 0 {
        Frontier::default()
    } else {
        let block = block_holding(store, last.first - 1).await?.ok_or_else(differs)?;
        Frontier::from_parts(last.first, block.frontier).ok_or_else(differs)?
    };
    let first_line = last.lines.first().ok_or_else(differs)?;
    let first = Record::parse(first_line)
        .map_err(|source| StartError::Record { seq: last.first, source })?;
    let link = Link { next_seq: last.first, hash: first.prev, at: first.recorded_at };
    let keys = looked_up.keys.until(last.first);
    let mut ledger = ledger.resume(link, before, keys);
    ledger.fold(&last)?;
    if ledger.size() == signed.size && ledger.root() == signed.root {
        Ok(ledger)
    } else {
        Err(differs())
    }
}

async fn block_holding(store: &dyn LedgerStore, seq: u64) -> Result<Option<Block>, StoreError> {
    let block = store.blocks_from(seq, 1).await?.into_iter().next();
    Ok(block.filter(|block| block.first <= seq && seq < block.end()))
}
