//! Streams that are not followed, and bringing them back.
//!
//! What this session knows is what counts; the store's rows tell operators, and the next session.
//! Rows and knowledge are compared again and again, and any difference is a reason to try the
//! stream again: whoever was in office before may have written late.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};

use domain::{ids::PatientId, record::Record};

use crate::{
    backoff::Transient,
    documents::{Generation, Parked},
    error::{FollowError, RepairError, reasons},
    history::HistoryError,
    park::{self, MAX_PARKED},
    store::{ProjectionStore, StoreError},
};

use super::session::Session;

/// How often the rows are looked at.
const CHECK: Duration = Duration::from_secs(1);

/// Streams tried again in one round at most, so that following goes on meanwhile.
const RETRIES: usize = 100;

/// The streams that this session passes over.
pub(super) struct ParkedStreams {
    streams: HashMap<PatientId, Held>,
    /// `None` where the rows are to be looked at in the next round.
    checked: Option<Instant>,
}

struct Held {
    row: Parked,
    /// The last version passed over, as far as this session saw.
    latest: u64,
}

impl ParkedStreams {
    pub(super) async fn load(
        store: &dyn ProjectionStore,
        generation: Generation,
    ) -> Result<Self, StoreError> {
        let rows = park::load(store, generation).await?;
        let streams = rows.into_iter().map(|(patient, row)| (patient, Held { row, latest: 0 }));
        Ok(Self { streams: streams.collect(), checked: None })
    }

    pub(super) fn count(&self) -> u64 {
        self.streams.len() as u64
    }

    pub(super) fn contains(&self, patient: PatientId) -> bool {
        self.streams.contains_key(&patient)
    }

    /// Leaves out the events of parked streams, and remembers how far those went, except of
    /// patients that are `erased`.
    pub(super) fn pass_over(&mut self, events: &mut Vec<Record>, erased: &HashSet<PatientId>) {
        if self.streams.is_empty() {
            return;
        }
        events.retain(|event| {
            let patient = event.patient();
            let held = patient.and_then(|patient| self.streams.get_mut(&patient));
            let Some(held) = held else { return true };
            held.latest = held.latest.max(event.version.unwrap_or(0));
            patient.is_some_and(|patient| erased.contains(&patient))
        });
    }

    fn latest(&self, patient: PatientId) -> u64 {
        self.streams.get(&patient).map_or(0, |held| held.latest)
    }

    /// What is to be tried again: what somebody asked for, and rows that are not as this session
    /// left them.
    fn due(&self, stored: BTreeMap<PatientId, Parked>) -> Vec<Parked> {
        let vanished = self.streams.iter().filter(|(patient, _)| !stored.contains_key(patient));
        let mut due: Vec<Parked> = vanished.map(|(_, held)| held.row.clone()).collect();
        let rows = stored.into_values();
        due.extend(rows.filter(|row| row.retry || !self.contains(row.patient)));
        due
    }
}

impl Session<'_> {
    /// Passes over a stream from now on. Its events up to version `latest` were seen.
    pub(super) async fn park(
        &mut self,
        patient: PatientId,
        seq: u64,
        latest: u64,
        reason: String,
    ) -> Result<(), FollowError> {
        let at = (self.deps.clock)();
        let row = Parked { patient, seq, reason, at, retry: false };
        self.park_as(row, latest).await
    }

    async fn park_as(&mut self, row: Parked, latest: u64) -> Result<(), FollowError> {
        let Self { deps, generation, office, parked, .. } = self;
        if parked.streams.len() >= MAX_PARKED && !parked.contains(row.patient) {
            return Err(FollowError::TooManyParked { seq: row.seq });
        }
        // Rows are not fenced by themselves: one who lost the office must not write them.
        deps.store.beat(*generation, office).await?;
        deps.store.park(*generation, &row).await?;
        tracing::error!(seq = row.seq, reason = row.reason, "a stream is parked");
        parked.streams.insert(row.patient, Held { row, latest });
        Ok(())
    }

    pub(super) async fn unpark(&mut self, patient: PatientId) -> Result<(), FollowError> {
        let Self { deps, generation, office, parked, .. } = self;
        deps.store.beat(*generation, office).await?;
        deps.store.unpark(*generation, patient).await?;
        let seq = parked.streams.remove(&patient).map(|held| held.row.seq);
        tracing::info!(seq, "a parked stream is followed again");
        Ok(())
    }

    /// Tries streams again where that is asked for or due. A failure keeps the stream parked.
    pub(super) async fn tend_parked(&mut self) -> Result<(), FollowError> {
        if self.parked.checked.is_some_and(|at| at.elapsed() < CHECK) {
            return Ok(());
        }
        let stored = park::load(self.deps.store.as_ref(), self.generation).await?;
        let due = self.parked.due(stored);
        if !due.is_empty() {
            // Streams are brought as far as the ledger serves them, so it has to serve all that
            // was followed.
            self.tail.confirm().await?;
        }
        let more = due.len() > RETRIES;
        for row in due.into_iter().take(RETRIES) {
            self.retry(row).await?;
        }
        if more {
            self.wait = Duration::ZERO;
        }
        self.parked.checked = (!more).then(Instant::now);
        Ok(())
    }

    async fn retry(&mut self, row: Parked) -> Result<(), FollowError> {
        let latest = self.parked.latest(row.patient);
        match self.bring(&row, latest).await {
            Ok(()) => self.unpark(row.patient).await,
            // Asked for as before, so that it is tried again, and nobody else has to wait.
            Err(error) if error.is_transient() => {
                let error = reasons(&error);
                tracing::warn!(
                    seq = row.seq,
                    error,
                    "a parked stream could not be tried again yet"
                );
                Ok(())
            }
            Err(error) => {
                let (reason, at) = (reasons(&error), (self.deps.clock)());
                self.park_as(Parked { reason, at, retry: false, ..row }, latest).await
            }
        }
    }

    /// Applies all that the ledger has of a stream after its cursor.
    async fn bring(&self, row: &Parked, latest: u64) -> Result<(), RepairError> {
        let Parked { patient, seq, .. } = *row;
        let cursors = self.deps.store.cursors(self.generation, &[patient]).await?;
        let at = cursors.get(&patient).copied().unwrap_or(0);
        match self.repairer.repair(self.generation, patient, at, latest).await {
            // It was brought before, by one who died before saying so.
            Err(RepairError::NothingToLoad { .. }) if self.has_passed(seq, at).await? => Ok(()),
            result => result,
        }
    }

    /// Whether a cursor at a version has passed a record of its stream.
    async fn has_passed(&self, seq: u64, at: u64) -> Result<bool, RepairError> {
        let line = self.deps.audit.record(seq).await.map_err(HistoryError::from)?;
        let Some(line) = line else { return Ok(false) };
        let record = Record::parse(&line).map_err(HistoryError::from)?;
        Ok(record.version.is_some_and(|version| version <= at))
    }
}
