//! Applying what the read models miss of the records just followed.

use std::collections::HashSet;

use domain::{ids::PatientId, record::Record};

use crate::{
    applier::count_done,
    backoff::Transient,
    change::StreamChange,
    decode::{self, Decoded},
    erasure,
    error::{FollowError, reasons},
    store::Applied,
    tally::{By, TALLY},
};

use super::session::Session;

impl Session<'_> {
    /// Applies the events that their streams' cursors have not passed; only those are decrypted.
    /// What cannot be applied parks its stream, and what follows of a parked stream is left out,
    /// except that the patient is erased: that needs nothing of what was missed.
    pub(super) async fn apply_missing(
        &mut self,
        mut events: Vec<Record>,
    ) -> Result<(), FollowError> {
        let erased: HashSet<PatientId> = events
            .iter()
            .filter(|event| erasure::is_erasure(event))
            .filter_map(Record::patient)
            .collect();
        self.parked.pass_over(&mut events, &erased);
        if events.is_empty() {
            return Ok(());
        }
        let patients = decode::patients(&events);
        let mut cursors = self.deps.store.cursors(self.generation, &patients).await?;
        // Whoever applied an erasure may have died before the key was destroyed.
        cursors.retain(|patient, _| !erased.contains(patient));
        decode::drop_applied(&mut events, &cursors);
        if events.is_empty() {
            return Ok(());
        }
        let streams = decode::changes(&self.deps.audit, &self.deps.ring, &events)
            .await
            .map_err(FollowError::Decode)?;
        let mut changes = Vec::with_capacity(streams.len());
        let mut seqs = Vec::with_capacity(streams.len());
        for stream in streams {
            match stream {
                Ok(Decoded { change, .. }) if change.erased.is_some() => {
                    self.erase(&change).await?;
                }
                Ok(Decoded { change, seq }) => {
                    changes.push(change);
                    seqs.push(seq);
                }
                Err(error) => {
                    let latest = latest(&events, error.patient);
                    self.park(error.patient, error.seq, latest, reasons(&error)).await?;
                }
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        let results = self.deps.store.apply(self.generation, &changes).await?;
        TALLY.applied(By::Follower, count_done(&results));
        for ((change, seq), result) in changes.iter().zip(seqs).zip(results) {
            if let Applied::Gap { at } = result {
                self.repair_or_park(change, at, seq).await?;
            }
        }
        Ok(())
    }

    /// Completes an erasure, in every generation and the key ring, before the position moves.
    async fn erase(&mut self, change: &StreamChange) -> Result<(), FollowError> {
        erasure::complete(self.deps.store.as_ref(), &self.deps.ring, change).await?;
        TALLY.applied(By::Follower, 1);
        if self.parked.contains(change.patient) {
            self.unpark(change.patient).await?;
        }
        Ok(())
    }

    async fn repair_or_park(
        &mut self,
        change: &StreamChange,
        at: u64,
        seq: u64,
    ) -> Result<(), FollowError> {
        let StreamChange { patient, to, .. } = *change;
        let repaired = self.repairer.repair(self.generation, patient, at, to).await;
        TALLY.applied(By::Follower, repaired.is_ok().into());
        match repaired.map_err(|source| FollowError::Repair { seq, source }) {
            Err(error) if !error.is_transient() => {
                self.park(patient, seq, to, reasons(&error)).await
            }
            result => result,
        }
    }
}

/// The last version that these events have of a patient's stream.
fn latest(events: &[Record], of: PatientId) -> u64 {
    let versions = events.iter().filter(|event| event.patient() == Some(of));
    versions.filter_map(|event| event.version).max().unwrap_or(0)
}
