//! From verified batches to what is to be written, ahead of the writing.

use std::collections::{HashMap, VecDeque};

use domain::{ids::PatientId, record::Record};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{
    Until,
    reader::{After, Batch},
};
use crate::{
    activity,
    backoff::{Transient, persist},
    change::StreamChange,
    decode::{self, Decoded, events_by_stream},
    documents::{ActivityDoc, Generation, PatientState, Position},
    erasure,
    error::{FollowError, NotApplicable, NotApplicableReason, RebuildError},
    follower::Deps,
};

/// Batches that may be on their way to the store while the next one is looked at: one is
/// written, one waits. One more does no harm.
const IN_FLIGHT: usize = 3;

/// What one batch changes.
pub(super) struct Decrypted {
    pub(super) after: After,
    /// After the last record whose event belongs to the generation's state.
    pub(super) applied: Option<Position>,
    /// Events of patients that belong to it.
    pub(super) events: u64,
    pub(super) changes: Vec<StreamChange>,
    /// `seq` of the first event of each change.
    pub(super) seqs: Vec<u64>,
    pub(super) activity: Vec<ActivityDoc>,
}

/// Which cursors are right.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) generation: Generation,
    pub(super) until: Option<Until>,
    /// Events of records below this may have been applied before.
    pub(super) ahead_below: u64,
    /// A stream that is behind is brought up from the ledger: the generation was followed into,
    /// not built. Else that is an error.
    pub(super) repair: bool,
}

/// Where a stream is.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    version: u64,
    erased: bool,
}

/// Looks at cursors and decrypts.
pub(super) struct Decoder {
    deps: Deps,
    rules: Rules,
    /// Cursors after the batches in flight: the store may not show them yet.
    in_flight: VecDeque<HashMap<PatientId, Cursor>>,
}

impl Decoder {
    pub(super) fn new(deps: Deps, rules: Rules) -> Self {
        Self { deps, rules, in_flight: VecDeque::with_capacity(IN_FLIGHT) }
    }

    pub(super) async fn run(
        mut self,
        mut batches: mpsc::Receiver<Batch>,
        decrypted: mpsc::Sender<Decrypted>,
    ) -> Result<(), RebuildError> {
        while let Some(batch) = batches.recv().await {
            if decrypted.send(self.decrypt(batch).await?).await.is_err() {
                return Err(RebuildError::Interrupted);
            }
        }
        Ok(())
    }

    async fn decrypt(&mut self, batch: Batch) -> Result<Decrypted, RebuildError> {
        let Batch { mut records, after } = batch;
        let Rules { until, generation, .. } = self.rules;
        let covered = until.map_or(records.len(), |until| {
            records.partition_point(|verified| until.covers(&verified.record))
        });
        let later = records.split_off(covered);
        let applied = records.last().map(|last| Position {
            next_seq: last.record.seq + 1,
            hash: last.hash,
            at: last.record.recorded_at,
        });
        let activity =
            records.iter().map(|verified| activity::of_record(&verified.record)).collect();
        let mut events = events_by_stream(records);
        let count = events.len() as u64;
        let patients = decode::patients(&events);
        let mut cursors = self.cursors(generation, &patients).await?;
        let behind = self.check(&events, &mut cursors).await?;
        let versions = cursors.iter().map(|(patient, at)| (*patient, at.version)).collect();
        decode::drop_applied(&mut events, &versions);
        events.retain(|record| !record.patient().is_some_and(|it| behind.contains_key(&it)));
        // What was erased later is erased in every state.
        let erased = later.into_iter().filter(|it| erasure::is_erasure(&it.record));
        let erased: Vec<Record> = erased.map(|verified| verified.record).collect();
        if !erased.is_empty() {
            events.extend(erased);
            events.sort_by_key(Record::patient);
        }
        let mut streams = self.changes(&events).await?;
        for (patient, (seq, at)) in behind {
            streams.extend(self.repaired(patient, seq, at).await?);
        }
        let (seqs, changes): (Vec<u64>, Vec<StreamChange>) =
            streams.into_iter().map(|Decoded { seq, change }| (seq, change)).unzip();
        self.remember(&changes);
        Ok(Decrypted { after, applied, events: count, changes, seqs, activity })
    }

    /// Where streams are once the batches in flight are written.
    async fn cursors(
        &self,
        generation: Generation,
        patients: &[PatientId],
    ) -> Result<HashMap<PatientId, Cursor>, RebuildError> {
        let mut cursors = HashMap::with_capacity(patients.len());
        if patients.is_empty() {
            return Ok(cursors);
        }
        let store = &self.deps.store;
        let stored = persist("reading cursors", || store.cursors(generation, patients)).await?;
        for patient in patients {
            let version = stored.get(patient).copied().unwrap_or(0);
            let in_flight = self.in_flight.iter().filter_map(|batch| batch.get(patient));
            let latest = in_flight.copied().max_by_key(|at| at.version).unwrap_or_default();
            let erased = latest.erased;
            cursors.insert(*patient, Cursor { version: version.max(latest.version), erased });
        }
        Ok(cursors)
    }

    /// Checks that each stream goes on where its cursor is: an event that repeats a version would
    /// change nothing, and must not pass in silence. Returns the streams that are behind, each
    /// with its first event here and its cursor, where that may be.
    async fn check(
        &self,
        events: &[Record],
        cursors: &mut HashMap<PatientId, Cursor>,
    ) -> Result<HashMap<PatientId, (u64, u64)>, RebuildError> {
        let mut behind = HashMap::new();
        for stream in events.chunk_by(|one, next| one.stream == next.stream) {
            let Some((patient, first)) = stream.first().and_then(|it| Some((it.patient()?, it)))
            else {
                continue;
            };
            for (one, next) in stream.iter().zip(stream.iter().skip(1)) {
                if version(next) != version(one) + 1 {
                    return Err(wrong_version(patient, next.seq));
                }
            }
            let Some(cursor) = cursors.get(&patient).copied() else { continue };
            let seq = first.seq;
            if version(first) > cursor.version + 1 {
                if !self.rules.repair {
                    return Err(wrong_version(patient, seq));
                }
                behind.insert(patient, (seq, cursor.version));
            } else if version(first) <= cursor.version
                && seq >= self.rules.ahead_below
                && !cursor.erased
                && !self.is_erased(patient).await?
            {
                return Err(wrong_version(patient, seq));
            }
        }
        Ok(behind)
    }

    /// Whether an erasure has come before the events: it is written into every generation at once.
    async fn is_erased(&self, patient: PatientId) -> Result<bool, RebuildError> {
        let (store, generation) = (&self.deps.store, self.rules.generation);
        let document = persist("reading a patient", || store.patient(generation, patient)).await?;
        Ok(document.is_some_and(|document| document.state == PatientState::Erased))
    }

    async fn changes(&self, events: &[Record]) -> Result<Vec<Decoded>, RebuildError> {
        let Deps { audit, ring, .. } = &self.deps;
        let streams = persist("decrypting events", || decode::changes(audit, ring, events)).await;
        let streams = streams.map_err(FollowError::Decode)?.into_iter();
        Ok(streams.collect::<Result<Vec<_>, _>>().map_err(FollowError::from)?)
    }

    /// The rest of a stream that is behind; `None` where it was parked and has to stay so.
    async fn repaired(
        &self,
        patient: PatientId,
        seq: u64,
        at: u64,
    ) -> Result<Option<Decoded>, RebuildError> {
        let Deps { audit, ring, .. } = &self.deps;
        let loading = || decode::load_change(audit, ring, patient, at);
        match persist("reading a stream", loading).await {
            Ok(change) => Ok(Some(Decoded { change, seq })),
            Err(error) if !error.is_transient() && self.is_parked(patient).await? => Ok(None),
            Err(source) => Err(FollowError::Repair { seq, source }.into()),
        }
    }

    async fn is_parked(&self, patient: PatientId) -> Result<bool, RebuildError> {
        let (store, generation) = (&self.deps.store, self.rules.generation);
        let before = patient.uuid().as_u128().checked_sub(1).map(Uuid::from_u128);
        let looking = || store.parked(generation, before.map(PatientId::new), 1);
        let next = persist("looking for a parked stream", looking).await?;
        Ok(next.first().is_some_and(|parked| parked.patient == patient))
    }

    fn remember(&mut self, changes: &[StreamChange]) {
        if self.in_flight.len() == IN_FLIGHT {
            self.in_flight.pop_front();
        }
        let cursor = |change: &StreamChange| {
            let erased = change.state == Some(PatientState::Erased);
            (change.patient, Cursor { version: change.to, erased })
        };
        self.in_flight.push_back(changes.iter().map(cursor).collect());
    }
}

pub(super) fn wrong_version(patient: PatientId, seq: u64) -> RebuildError {
    let reason = NotApplicableReason::Version;
    FollowError::from(NotApplicable { patient, seq, reason }).into()
}

fn version(record: &Record) -> u64 {
    record.version.unwrap_or_default()
}
