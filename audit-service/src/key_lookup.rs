//! The ledger's key history at start, without reading the whole ledger.
//!
//! The store's lookup is not trusted. Every rotation that it shows is vouched for, and the last
//! one leads to a key that this process holds, so none can be made up after a key of ours. One
//! that is hidden, made up before it or moved is noticed because the remembered checkpoint does
//! not open under the key of its size, because the blocks that are folded say otherwise, or
//! because it does not extend the history that was remembered beside the checkpoint.

use audit_verify::{checkpoint::LedgerKey, key_history::KeyHistory};
use domain::{ids::Stream, record::Record, time::Timestamp};

use crate::{
    checkpoint::{CheckpointError, CheckpointFile, CheckpointSigner, TreeHead},
    ledger::Ledger,
    start::StartError,
    store::LedgerStore,
};

/// Rotations looked up at once.
const PAGE: usize = 100;

/// Rotations of one ledger at most: one a day for decades.
const MAX_ROTATIONS: u64 = 20_000;

/// What the store's lookup shows.
#[derive(Debug, Clone)]
pub struct LookedUp {
    /// The keys.
    pub keys: KeyHistory,
    /// Records that the store held before: rotations among them must be in `keys`.
    covers: u64,
    /// When the last rotation was recorded.
    pub rotated: Option<Timestamp>,
}

/// Looks the key history up and checks that this process holds the key that signs now.
pub async fn look_up(
    store: &dyn LedgerStore,
    signer: &CheckpointSigner,
) -> Result<LookedUp, StartError> {
    let covers = store.head().await?.map_or(0, |head| head.end());
    let mut keys: Option<KeyHistory> = None;
    let mut rotated = None;
    let mut version = 0;
    loop {
        let lines = store.stream_lines(Stream::LedgerKeys, version + 1, PAGE).await?;
        if lines.is_empty() {
            break;
        }
        for line in &lines {
            version += 1;
            let refused = || StartError::Rotation { version };
            if version > MAX_ROTATIONS {
                return Err(refused());
            }
            let record = Record::parse(line).map_err(|_| refused())?;
            let known = match keys.take() {
                Some(known) => known,
                None => first_keys(&record, signer).ok_or_else(refused)?,
            };
            keys = Some(extended(known, &record).ok_or_else(refused)?);
            rotated = Some(record.recorded_at);
        }
    }
    let keys = keys.unwrap_or_else(|| KeyHistory::new(signer.first().clone()));
    require_newest(&keys, signer)?;
    Ok(LookedUp { keys, covers, rotated })
}

fn first_keys(record: &Record, signer: &CheckpointSigner) -> Option<KeyHistory> {
    let first = LedgerKey::new(signer.origin().clone(), record.key?.previous.0).ok()?;
    Some(KeyHistory::new(first))
}

fn extended(mut keys: KeyHistory, record: &Record) -> Option<KeyHistory> {
    record.key?;
    keys.follow(record).ok()?;
    Some(keys)
}

/// Checks that this process holds the key that signs now.
pub fn require_newest(keys: &KeyHistory, signer: &CheckpointSigner) -> Result<(), StartError> {
    if signer.holds(keys.newest()) {
        return Ok(());
    }
    Err(StartError::KeyMissing { key: keys.newest().to_string() })
}

/// The remembered checkpoint, opened with the key that the looked-up history names for its size.
pub fn remembered(
    file: &CheckpointFile,
    looked_up: &LookedUp,
    signer: &CheckpointSigner,
) -> Result<Option<TreeHead>, CheckpointError> {
    file.load(&looked_up.keys).inspect_err(|_| {
        // One of our keys signed it, but for the history it is another's turn.
        if file.read().is_ok_and(|note| note.is_some_and(|note| signer.open_any(&note).is_ok())) {
            tracing::error!(
                "the remembered checkpoint does not fit the rotations of the signing key that the \
                 store shows: one is hidden or made up, or the keys are given in the wrong order"
            );
        }
    })
}

/// Where the rotation to a key stands.
fn seq_of(key: Option<&(u64, LedgerKey)>) -> u64 {
    key.map_or(0, |(from, _)| from.saturating_sub(1))
}

impl LookedUp {
    /// Checks that nothing was hidden or changed of what this process knew before.
    pub fn check_known(&self, known: &[(u64, LedgerKey)]) -> Result<(), StartError> {
        let shown = self.keys.keys();
        let same = shown.iter().zip(known).take_while(|(shown, known)| shown == known).count();
        match known.get(same) {
            None => Ok(()),
            // The first key is named by the first rotation.
            Some(_) if same == 0 => Err(StartError::KeyHistory { seq: seq_of(known.get(1)) }),
            Some(hidden) => Err(StartError::KeyHistory { seq: seq_of(Some(hidden)) }),
        }
    }

    /// Checks that what was folded of the ledger has the rotations that the lookup showed, all
    /// of them and no other.
    pub fn check(&self, ledger: &Ledger) -> Result<(), StartError> {
        let (shown, folded) = (self.keys.keys(), ledger.keys().keys());
        let same = shown.iter().zip(folded).take_while(|(shown, folded)| shown == folded).count();
        let rotation = |keys: &[(u64, LedgerKey)]| keys.get(same).map(|key| seq_of(Some(key)));
        match (rotation(shown), rotation(folded)) {
            (None, None) => Ok(()),
            // Another process has just rotated the key.
            (None, Some(seq)) if seq >= self.covers => Ok(()),
            (shown, folded) => {
                let seq = shown.into_iter().chain(folded).min().unwrap_or_default();
                Err(StartError::KeyHistory { seq })
            }
        }
    }
}
