//! Erasing a patient: what the ledger says of it, and bringing it about wherever it is missing.

use std::slice;

use audit_client::AuditClient;
use domain::{
    ids::{PatientId, Stream},
    record::{Record, RecordType},
    sealed::parse_compact,
};
use runtime::{health::Component, retry};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Transient,
    change::StreamChange,
    history::{HistoryError, records_of},
    key_ring::{KeyRing, KeyRingError},
    store::{ProjectionStore, StoreError},
};

/// Erasures looked at in one page.
const PAGE: usize = 1_000;

/// Why an erasure could not be completed now. It is in the ledger, and the follower completes it.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// The data key could not be destroyed.
    #[error(transparent)]
    Keys(#[from] KeyRingError),
    /// The documents could not be removed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Transient for EraseError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Keys(error) => error.is_transient(),
            Self::Store(error) => error.is_transient(),
        }
    }
}

/// What an erasure leaves of a patient, by her stream in the ledger; `None` where she was not
/// erased. Needs no key.
pub async fn find(
    audit: &AuditClient,
    patient: PatientId,
) -> Result<Option<StreamChange>, HistoryError> {
    let lines = audit.stream(Stream::Patient(patient), 1).await?;
    of_records(patient, &records_of(patient, 1, &lines)?)
}

/// As [`find`], of the records of the whole stream.
pub(crate) fn of_records(
    patient: PatientId,
    records: &[Record],
) -> Result<Option<StreamChange>, HistoryError> {
    let version_of = |record: &Record| record.version.unwrap_or_default();
    let Some(erased) = records.iter().find(|record| is_erasure(record)) else { return Ok(None) };
    let version = version_of(erased);
    let sealed = records.iter().find_map(|record| record.data.as_deref());
    let kid = sealed
        .and_then(|data| parse_compact(data).ok())
        .map(|data| data.header.kid)
        .ok_or(HistoryError::NothingSealed { version })?;
    let tests = records
        .iter()
        .filter(|record| record.record_type == RecordType::TestRecorded)
        .filter_map(|record| Some((record.test()?, version_of(record))));
    Ok(Some(StreamChange::erasure(patient, kid, version, tests)))
}

/// Whether a record says that its patient was erased.
pub fn is_erasure(record: &Record) -> bool {
    record.record_type == RecordType::PatientErased
}

/// Destroys the key and writes what the erasure leaves into every generation there is, also
/// those that are kept or being built. Doing it again changes nothing.
///
/// The key goes first: whoever builds a generation that is not listed below yet cannot read the
/// content any more.
pub async fn complete(
    store: &dyn ProjectionStore,
    ring: &KeyRing,
    erasure: &StreamChange,
) -> Result<(), EraseError> {
    if let Some(kid) = erasure.erased {
        ring.destroy(kid).await?;
    }
    for generation in store.list().await? {
        match store.apply(generation, slice::from_ref(erasure)).await {
            // Dropped since it was listed.
            Ok(_) | Err(StoreError::Generation(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Destroys the keys of erased patients that are in the ring all the same, because a backup of
/// it was restored. Returns how many there were.
pub async fn reapply(store: &dyn ProjectionStore, ring: &KeyRing) -> Result<usize, EraseError> {
    let generation = store.serving().await?;
    let (mut after, mut revived) = (None, 0);
    loop {
        let page = store.erasures(generation, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.patient);
        let kids: Vec<_> = page.iter().map(|erasure| erasure.kid).collect();
        revived += ring.destroy_remaining(&kids).await?;
    }
    if revived > 0 {
        tracing::warn!(revived, "keys of erased patients were in the key ring and are destroyed");
    }
    Ok(revived)
}

/// As [`reapply`] at the start of a process, trying again while a store is away; `component` is
/// not ready before it is done. `None` when shutdown came first.
pub async fn reapply_at_start(
    store: &dyn ProjectionStore,
    ring: &KeyRing,
    component: &Component,
    shutdown: &CancellationToken,
) -> Option<Result<usize, EraseError>> {
    let done = retry::until_ready("reapplying erasures", component, shutdown, || async {
        match reapply(store, ring).await {
            Err(error) if error.is_transient() => Err(error),
            answer => Ok(answer),
        }
    });
    let answer = done.await?;
    if answer.is_err() {
        component.not_ready("cannot be reapplied");
    }
    Some(answer)
}
