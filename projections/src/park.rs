//! Parked streams, for those who look at them and ask for another try.

use std::{collections::BTreeMap, time::Duration};

use domain::{ids::PatientId, time::Timestamp};
use serde::Serialize;
use tokio::time::Instant;

use crate::{
    documents::{Generation, Parked},
    store::{ProjectionStore, StoreError},
};

/// Streams that may be parked at most. More are not the fault of single streams but of something
/// that all need, such as the key ring: then the follower waits for that instead.
pub const MAX_PARKED: usize = 10_000;

/// Rows read at once.
const PAGE: usize = 1_000;

/// How often to look whether the follower has taken a request up.
const LOOK: Duration = Duration::from_millis(200);

/// A parked stream, as commands show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParkedStream {
    /// The patient.
    pub patient: PatientId,
    /// Position of the first record that was not applied.
    pub seq: u64,
    /// Why.
    pub reason: String,
    /// When it was parked, or tried again last.
    pub at: Timestamp,
    /// Somebody asked for another try that the follower has not taken up yet.
    pub retry: bool,
}

impl From<Parked> for ParkedStream {
    fn from(Parked { patient, seq, reason, at, retry }: Parked) -> Self {
        Self { patient, seq, reason, at, retry }
    }
}

/// What became of a stream that was to be tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Retried {
    /// The patient.
    pub patient: PatientId,
    /// What became of it.
    pub outcome: RetryOutcome,
    /// As it is parked now, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parked: Option<ParkedStream>,
}

/// What became of a stream that was to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RetryOutcome {
    /// It is whole, and followed again.
    Followed,
    /// It was tried and is parked as before.
    StillParked,
    /// No follower tried it in time.
    NotTakenUp,
    /// It was not parked.
    NotParked,
}

impl RetryOutcome {
    /// Whether nothing is left to be done.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Followed | Self::NotParked)
    }
}

/// All rows of a generation, at most [`MAX_PARKED`] and a page.
pub async fn load(
    store: &dyn ProjectionStore,
    generation: Generation,
) -> Result<BTreeMap<PatientId, Parked>, StoreError> {
    let mut rows = BTreeMap::new();
    let mut after = None;
    while rows.len() < MAX_PARKED {
        let page = store.parked(generation, after, PAGE).await?;
        let full = page.len() == PAGE;
        after = page.last().map(|row| row.patient);
        rows.extend(page.into_iter().map(|row| (row.patient, row)));
        if !full {
            break;
        }
    }
    Ok(rows)
}

/// The parked streams of the generation that serves, by patient.
pub async fn list(store: &dyn ProjectionStore) -> Result<Vec<ParkedStream>, StoreError> {
    let rows = load(store, store.serving().await?).await?;
    Ok(rows.into_values().map(ParkedStream::from).collect())
}

/// Asks the follower to try streams again, those of `patients` or all where there are none
/// named, and waits for it up to `patience`. One result for each stream, by patient.
pub async fn retry(
    store: &dyn ProjectionStore,
    patients: &[PatientId],
    patience: Duration,
) -> Result<Vec<Retried>, StoreError> {
    let generation = store.serving().await?;
    let before = load(store, generation).await?;
    let asked: Vec<PatientId> = match patients {
        [] => before.keys().copied().collect(),
        patients => patients.to_vec(),
    };
    store.retry_parked(generation, (!patients.is_empty()).then_some(patients)).await?;
    let deadline = Instant::now() + patience;
    loop {
        let rows = load(store, generation).await?;
        let waiting = asked.iter().any(|patient| rows.get(patient).is_some_and(|row| row.retry));
        if !waiting || Instant::now() >= deadline {
            return Ok(asked.iter().map(|patient| outcome(*patient, &before, &rows)).collect());
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn outcome(
    patient: PatientId,
    before: &BTreeMap<PatientId, Parked>,
    now: &BTreeMap<PatientId, Parked>,
) -> Retried {
    let parked = now.get(&patient).cloned().map(ParkedStream::from);
    let outcome = match &parked {
        Some(row) if row.retry => RetryOutcome::NotTakenUp,
        Some(_) => RetryOutcome::StillParked,
        None if before.contains_key(&patient) => RetryOutcome::Followed,
        None => RetryOutcome::NotParked,
    };
    Retried { patient, outcome, parked }
}
