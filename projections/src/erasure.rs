//! Erasing a patient: what the ledger says of it, and bringing it about wherever it is missing.

use std::{slice, time::Duration};

use audit_client::AuditClient;
use audit_verify::{
    checkpoint::{CheckpointError, LedgerKey, read_unverified},
    keys::KeyError,
};
use domain::{
    ids::{KeyId, Name, PatientId, Stream, TestId},
    record::{Record, RecordType},
    sealed::parse_compact,
};
use runtime::{health::Component, retry};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Transient,
    change::StreamChange,
    error::TailError,
    history::{HistoryError, records_of},
    key_ring::{KeyRing, KeyRingError},
    store::{ProjectionStore, StoreError},
    tail::{Tail, Verified},
};

/// Erasures, or records of the ledger, looked at in one page.
const PAGE: usize = 1_000;

/// How long one read waits for a record that the checkpoint says is there.
const READ_WAIT: Duration = Duration::from_secs(1);

/// Events of one stream looked at in one page.
const STREAM_PAGE: usize = 500;

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

/// Why erasures could not be re-applied.
#[derive(Debug, thiserror::Error)]
pub enum ReapplyError {
    /// One could not be completed.
    #[error(transparent)]
    Erase(#[from] EraseError),
    /// The ledger could not be read on.
    #[error(transparent)]
    Ledger(#[from] TailError),
    /// The patient's stream could not be read.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The audit service shows something that is no verifier key.
    #[error("the audit service shows no verifier key")]
    LedgerKey(#[from] KeyError),
    /// The audit service shows something that is no checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl Transient for EraseError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Keys(error) => error.is_transient(),
            Self::Store(error) => error.is_transient(),
        }
    }
}

impl Transient for ReapplyError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Erase(error) => error.is_transient(),
            Self::Ledger(error) => error.seq().is_none(),
            Self::History(error) => error.is_transient(),
            Self::LedgerKey(_) | Self::Checkpoint(_) => false,
        }
    }
}

/// What a patient's stream says in the clear, as far as an erasure needs it. Its size is that of
/// the ids of her tests.
#[derive(Debug, Default)]
pub struct Trail {
    /// Version of the last event; 0 where there is none.
    pub version: u64,
    /// The line of the record that erased her, and the record.
    pub erased: Option<(String, Record)>,
    kid: Option<KeyId>,
    tests: Vec<(TestId, u64)>,
}

impl Trail {
    /// Reads a patient's stream page by page. Needs no key.
    pub async fn read(audit: &AuditClient, patient: PatientId) -> Result<Self, HistoryError> {
        let mut trail = Self::default();
        loop {
            let from = trail.version + 1;
            let (lines, more) =
                audit.stream_page(Stream::Patient(patient), from, STREAM_PAGE).await?;
            let end = lines.is_empty() || !more;
            let records = records_of(patient, from, &lines)?;
            for (line, record) in lines.into_iter().zip(records) {
                trail.add(line, record);
            }
            if end {
                return Ok(trail);
            }
        }
    }

    fn add(&mut self, line: String, record: Record) {
        self.version = record.version.unwrap_or_default();
        if self.kid.is_none() {
            let sealed = record.data.as_deref().and_then(|data| parse_compact(data).ok());
            self.kid = sealed.map(|data| data.header.kid);
        }
        if record.record_type == RecordType::TestRecorded {
            self.tests.extend(record.test().map(|test| (test, self.version)));
        }
        if self.erased.is_none() && is_erasure(&record) {
            self.erased = Some((line, record));
        }
    }

    /// What the erasure leaves of the patient; `None` where she was not erased.
    pub fn change(self, patient: PatientId) -> Result<Option<StreamChange>, HistoryError> {
        let Some((_, erased)) = self.erased else { return Ok(None) };
        let version = erased.version.unwrap_or_default();
        let kid = self.kid.ok_or(HistoryError::NothingSealed { version })?;
        Ok(Some(StreamChange::erasure(patient, kid, version, self.tests)))
    }
}

/// What an erasure leaves of a patient, by her stream in the ledger; `None` where she was not
/// erased. Needs no key.
pub async fn find(
    audit: &AuditClient,
    patient: PatientId,
) -> Result<Option<StreamChange>, HistoryError> {
    Trail::read(audit, patient).await?.change(patient)
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

/// Brings about every erasure that the ledger holds and the stores may not, because a backup of
/// one of them was restored: before anything is read under a key that must not exist any more.
///
/// Those that the serving generation has followed stand in it, with their keys. The others are
/// read from the ledger, every link checked: they matter where the read models are older than
/// the ledger, as the key ring may be.
pub async fn reapply(
    store: &dyn ProjectionStore,
    ring: &KeyRing,
    audit: &AuditClient,
    ledger: &Name,
) -> Result<(), ReapplyError> {
    let serving = store.serving().await.map_err(EraseError::from)?;
    let (mut after, mut revived) = (None, 0);
    loop {
        let page = store.erasures(serving, after, PAGE).await.map_err(EraseError::from)?;
        let Some(last) = page.last() else { break };
        after = Some(last.patient);
        let kids: Vec<_> = page.iter().map(|erasure| erasure.kid).collect();
        revived += ring.destroy_remaining(&kids).await.map_err(EraseError::from)?;
    }
    if revived > 0 {
        tracing::warn!(revived, "keys of erased patients were in the key ring and are destroyed");
    }
    let position = store.position(serving).await.map_err(EraseError::from)?;
    let mut tail = Tail::resume(audit.clone(), ledger.clone(), position);
    let note = audit.checkpoint().await.map_err(TailError::from)?;
    let size = read_unverified(&note)?.1.size;
    while tail.next_seq() < size {
        let records = match tail.next(PAGE, READ_WAIT).await {
            // What follows a broken link is nobody's word. The follower stops there, and says so.
            Err(error) if error.seq().is_some() => return Ok(()),
            records => records?,
        };
        for Verified { record, .. } in records.iter().filter(|it| is_erasure(&it.record)) {
            let patient = record.patient();
            if let Some(patient) = patient
                && let Some(erasure) = find(audit, patient).await?
            {
                complete(store, ring, &erasure).await?;
            }
        }
    }
    Ok(())
}

/// As [`reapply`] at the start of a process, trying again while a store or the ledger is away;
/// `component` is not ready before it is done. `None` when shutdown came first.
pub async fn reapply_at_start(
    store: &dyn ProjectionStore,
    ring: &KeyRing,
    audit: &AuditClient,
    component: &Component,
    shutdown: &CancellationToken,
) -> Option<Result<(), ReapplyError>> {
    let done = retry::until_ready("reapplying erasures", component, shutdown, || async {
        let reapplied = async {
            let key: LedgerKey = audit.verifier_key().await.map_err(TailError::from)?.parse()?;
            reapply(store, ring, audit, key.origin()).await
        };
        match reapplied.await {
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
