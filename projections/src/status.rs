//! How far the read models are.

use std::time::{Duration, Instant};

use audit_client::{AuditClient, ReadError};
use audit_verify::{checkpoint::LedgerKey, key_history::KeyHistory};
use domain::{ids::Stream, record::Record, time::Timestamp};
use serde::Serialize;

use crate::{
    documents::{Generation, Office, Pointer, Position},
    error::{FollowError, RebuildError},
    office::Terms,
    rebuild::{Until, note::standing},
    store::{ProjectionStore, StoreError, Upkeep},
};

/// Beats that a holder who is alive has moved in while it is watched.
const BEATS: u32 = 3;

/// Between two looks at the beats.
const LOOK: Duration = Duration::from_millis(100);

/// Parked streams counted in one page.
const PAGE: usize = 1_000;

/// The read models against the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The generation that serves.
    pub generation: u32,
    /// Its next record to follow.
    pub next_seq: u64,
    /// Records in the ledger, by its signed checkpoint; `None`, as the lags, where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger_size: Option<u64>,
    /// Records that the serving generation has to follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_records: Option<u64>,
    /// Age of the last record followed where there are more; else 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<u64>,
    /// Streams that the serving generation does not follow any more.
    pub parked: u64,
    /// Whether the embedded file may still hold, beside its documents, what erasures removed.
    pub scrub_due: bool,
    /// All generations, ascending.
    pub generations: Vec<GenerationStatus>,
}

/// One generation against the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GenerationStatus {
    /// Its number.
    pub generation: u32,
    /// What it is there for.
    pub state: GenerationState,
    /// The state of the ledger that it shows; `None` for all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
    /// The next record that it has to follow.
    pub next_seq: u64,
    /// Records between that and the ledger's end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_records: Option<u64>,
    /// Age of the last record followed where there are more; else 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<u64>,
    /// Streams that it does not follow any more.
    pub parked: u64,
    /// Who brings the ledger into it.
    pub holder: Holder,
}

/// What a generation is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum GenerationState {
    /// Requests read it.
    Serving,
    /// Commands write to it beside the one that serves, while the pointer is moved.
    Also,
    /// A rebuild is not at its end yet.
    Building,
    /// It is complete, and behind: kept for a rollback, or for the state that it shows.
    Kept,
}

/// Who brings the ledger into a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Holder {
    /// Nobody.
    Nobody,
    /// A process that shows that it is alive.
    Alive,
    /// A process that showed nothing for some seconds: it died, or cannot reach the store.
    Silent,
}

/// Records in the ledger. A pinned key, or one that it was rotated to, verifies the ledger's
/// checkpoint; without one, the key that the audit service shows.
pub async fn ledger_size(audit: &AuditClient, key: Option<LedgerKey>) -> Result<u64, RebuildError> {
    // Before the rotations are read: they then cover it, or trying again will.
    let checkpoint = audit.checkpoint().await.map_err(FollowError::from)?;
    let keys = if let Some(pinned) = key {
        rotations(audit, pinned, u64::MAX).await?
    } else {
        let shown = audit.verifier_key().await.map_err(FollowError::from)?;
        KeyHistory::with(shown.parse().map_err(FollowError::LedgerKey)?)
    };
    Ok(keys.open(&checkpoint)?.size)
}

/// Compares the store with a ledger of this size; `None` where that is not known. Takes some
/// seconds where a process in office does not show that it is alive.
pub async fn status(
    store: &dyn ProjectionStore,
    ledger_size: Option<u64>,
    now: Timestamp,
) -> Result<Status, RebuildError> {
    let generations = list(store, ledger_size, now).await?;
    let serving = store.serving().await?;
    let of_serving = generations.iter().find(|it| it.generation == serving.0);
    let of_serving = of_serving.ok_or(StoreError::Generation(serving.0))?;
    Ok(Status {
        generation: serving.0,
        next_seq: of_serving.next_seq,
        ledger_size,
        lag_records: of_serving.lag_records,
        lag_seconds: of_serving.lag_seconds,
        parked: of_serving.parked,
        scrub_due: store.scrub_due().await?,
        generations,
    })
}

/// All generations, ascending, against a ledger of this size, if it is known.
pub async fn list(
    store: &dyn ProjectionStore,
    ledger_size: Option<u64>,
    now: Timestamp,
) -> Result<Vec<GenerationStatus>, RebuildError> {
    let pointer = store.pointer().await?;
    let mut rows = Vec::new();
    let mut offices = Vec::new();
    for generation in store.list().await? {
        let position = store.position(generation).await?;
        let office = store.office(generation).await?;
        let (state, until) = purpose(store, pointer, generation).await?;
        let next_seq = position.map_or(0, |position| position.next_seq);
        let lag_records = ledger_size.map(|size| size.saturating_sub(next_seq));
        rows.push(GenerationStatus {
            generation: generation.0,
            state,
            until,
            next_seq,
            lag_records,
            lag_seconds: lag_records.map(|lag| lag_seconds(position, lag, now)),
            parked: count_parked(store, generation).await?,
            holder: Holder::Nobody,
        });
        offices.push((generation, office));
    }
    for (row, holder) in rows.iter_mut().zip(holders(store, &offices).await?) {
        row.holder = holder;
    }
    Ok(rows)
}

async fn purpose(
    store: &dyn ProjectionStore,
    pointer: Pointer,
    generation: Generation,
) -> Result<(GenerationState, Option<Until>), RebuildError> {
    let standing = standing(store, generation, pointer.serving).await?;
    let state = if pointer.serving == generation {
        GenerationState::Serving
    } else if !standing.is_complete() {
        GenerationState::Building
    } else if pointer.also == Some(generation) {
        GenerationState::Also
    } else {
        GenerationState::Kept
    };
    Ok((state, standing.note().and_then(|note| note.until)))
}

fn lag_seconds(position: Option<Position>, lag_records: u64, now: Timestamp) -> u64 {
    position.filter(|_| lag_records > 0).map_or(0, |position| age_seconds(now, position.at))
}

async fn count_parked(store: &dyn Upkeep, generation: Generation) -> Result<u64, StoreError> {
    let (mut after, mut count) = (None, 0);
    loop {
        let page = store.parked(generation, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(count) };
        after = Some(last.patient);
        count += page.len() as u64;
    }
}

/// Watches the beats of those in office until all have moved, or for long enough.
async fn holders(
    store: &dyn Upkeep,
    offices: &[(Generation, Option<Office>)],
) -> Result<Vec<Holder>, StoreError> {
    let is_held = |office: &Option<Office>| office.is_some_and(|office| office.holder.is_some());
    let mut holders: Vec<Holder> = offices
        .iter()
        .map(|(_, office)| if is_held(office) { Holder::Silent } else { Holder::Nobody })
        .collect();
    let (watch, watched) = (BEATS * Terms::default().beat, Instant::now());
    while holders.contains(&Holder::Silent) && watched.elapsed() < watch {
        tokio::time::sleep(LOOK).await;
        for ((generation, seen), holder) in offices.iter().zip(&mut holders) {
            if *holder != Holder::Silent {
                continue;
            }
            let now = store.office(*generation).await?;
            if now != *seen {
                *holder = if is_held(&now) { Holder::Alive } else { Holder::Nobody };
            }
        }
    }
    Ok(holders)
}

/// The keys from a pinned one on, by the rotations among the first records of the ledger, each
/// of which is vouched for.
pub(crate) async fn rotations(
    audit: &AuditClient,
    pinned: LedgerKey,
    records: u64,
) -> Result<KeyHistory, RebuildError> {
    let mut keys = KeyHistory::with(pinned);
    for line in audit.stream(Stream::LedgerKeys, 1).await.map_err(FollowError::from)? {
        let record = Record::parse(&line).map_err(|_| FollowError::from(ReadError::Malformed))?;
        if record.seq < records {
            keys.follow(&record)?;
        }
    }
    Ok(keys)
}

/// Whole seconds from `then` to `now`; 0 where clocks disagree.
pub(crate) fn age_seconds(now: Timestamp, then: Timestamp) -> u64 {
    u64::try_from(now.millis().saturating_sub(then.millis())).unwrap_or(0) / 1_000
}
