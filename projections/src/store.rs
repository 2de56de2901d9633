//! The projection store port.

use std::collections::HashMap;

use async_trait::async_trait;
use domain::{
    ids::{PatientId, TestId},
    search::SearchCriteria,
};
use uuid::Uuid;

use crate::{
    change::StreamChange,
    documents::{
        ActivityDoc, ActivityFilter, ActivityPage, Erasure, Generation, Office, Parked, PatientDoc,
        Pointer, Position, TestDoc,
    },
};

pub mod hooked;
pub mod memory;
pub mod mongo;
pub mod observed;
mod page;
pub mod sqlite;

pub use page::ACTIVITY_WINDOW;

/// Reading one generation. Reads see every write that this store value or another process
/// had acknowledged before the read began.
#[async_trait]
pub trait ReadModels: Send + Sync + 'static {
    /// The patient's document, tombstones included.
    async fn patient(
        &self,
        generation: Generation,
        id: PatientId,
    ) -> Result<Option<PatientDoc>, StoreError>;

    /// One test of a patient, tombstones included; `None` where it is another patient's.
    async fn test(
        &self,
        generation: Generation,
        patient: PatientId,
        id: TestId,
    ) -> Result<Option<TestDoc>, StoreError>;

    /// The patient's tests without tombstones, ordered by `first`.
    async fn tests(
        &self,
        generation: Generation,
        patient: PatientId,
    ) -> Result<Vec<TestDoc>, StoreError>;

    /// Active patients that match, ordered by id, after `after`, at most `limit`.
    async fn search(
        &self,
        generation: Generation,
        criteria: &SearchCriteria,
        after: Option<PatientId>,
        limit: usize,
    ) -> Result<Vec<PatientDoc>, StoreError>;

    /// Every patient document, tombstones included, ordered by id: for digests.
    async fn scan_patients(
        &self,
        generation: Generation,
        after: Option<PatientId>,
        limit: usize,
    ) -> Result<Vec<PatientDoc>, StoreError>;

    /// Every test document, tombstones included, ordered by id: for digests.
    async fn scan_tests(
        &self,
        generation: Generation,
        after: Option<TestId>,
        limit: usize,
    ) -> Result<Vec<TestDoc>, StoreError>;

    /// Activity that fits, newest first, with `seq` below `before`, at most `limit`. Looks at
    /// [`ACTIVITY_WINDOW`] documents at most, so a page may be short and not the last.
    async fn activity(
        &self,
        generation: Generation,
        filter: &ActivityFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<ActivityPage, StoreError>;

    /// Patients erased in this generation, ordered by id: [`StreamChange::erased`] of all that
    /// was applied.
    async fn erasures(
        &self,
        generation: Generation,
        after: Option<PatientId>,
        limit: usize,
    ) -> Result<Vec<Erasure>, StoreError>;

    /// The answers that this store gave before the call were those of its authority, not of one
    /// that was replaced. Asked by whoever has to know that something has not happened yet.
    async fn confirm(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Writing one generation. Every write is durable enough to survive a failover once it is
/// acknowledged, conditional, and changes nothing when done again.
#[async_trait]
pub trait WriteModels: Send + Sync + 'static {
    /// The cursors of streams; absent where nothing is applied.
    async fn cursors(
        &self,
        generation: Generation,
        patients: &[PatientId],
    ) -> Result<HashMap<PatientId, u64>, StoreError>;

    /// Applies changes, at most one a patient; one result a change, in order. Tests are
    /// written before the patient's document, which is the cursor, and an erasure before both,
    /// wherever the cursor is. A change may be applied in part when this fails or the process
    /// dies; applying it again completes it.
    async fn apply(
        &self,
        generation: Generation,
        changes: &[StreamChange],
    ) -> Result<Vec<Applied>, StoreError>;

    /// Writes activity documents; those already there stay.
    async fn write_activity(
        &self,
        generation: Generation,
        documents: &[ActivityDoc],
    ) -> Result<(), StoreError>;
}

/// The books of whoever brings the ledger into a generation: how far it is, who does it, and
/// what could not be applied. As durable as [`WriteModels`].
#[async_trait]
pub trait Upkeep: Send + Sync + 'static {
    /// How far the generation has followed the ledger; `None` before the first record.
    async fn position(&self, generation: Generation) -> Result<Option<Position>, StoreError>;

    /// Moves the position on, and the holder's beat with it; a position that is not ahead of the
    /// stored one moves the beat alone. [`StoreError::Fenced`], and nothing moved, where another
    /// has taken office since.
    async fn set_position(
        &self,
        generation: Generation,
        position: &Position,
        office: &Office,
    ) -> Result<(), StoreError>;

    /// Who is in office; `None` where nobody ever was.
    async fn office(&self, generation: Generation) -> Result<Option<Office>, StoreError>;

    /// Takes the office where it is still as `seen`, beat and all: the next term, with this
    /// holder. `None` where it is not; somebody else came first or the holder is alive.
    async fn take_office(
        &self,
        generation: Generation,
        seen: Option<Office>,
        holder: Uuid,
    ) -> Result<Option<Office>, StoreError>;

    /// Shows that the holder is alive. [`StoreError::Fenced`] where another has taken office.
    async fn beat(&self, generation: Generation, office: &Office) -> Result<(), StoreError>;

    /// Leaves the office, so that the next needs not wait; no effect where it is another's.
    async fn leave_office(&self, generation: Generation, office: &Office)
    -> Result<(), StoreError>;

    /// Remembers that a stream is not followed, in place of what was remembered of it.
    async fn park(&self, generation: Generation, parked: &Parked) -> Result<(), StoreError>;

    /// Streams that are not followed, ordered by patient, after `after`, at most `limit`.
    async fn parked(
        &self,
        generation: Generation,
        after: Option<PatientId>,
        limit: usize,
    ) -> Result<Vec<Parked>, StoreError>;

    /// Asks the follower to try parked streams again: those of these patients, or all. Returns
    /// how many.
    async fn retry_parked(
        &self,
        generation: Generation,
        patients: Option<&[PatientId]>,
    ) -> Result<u64, StoreError>;

    /// Forgets that a stream was parked.
    async fn unpark(&self, generation: Generation, patient: PatientId) -> Result<(), StoreError>;

    /// Whether the store's own files may still hold, beside its documents, what erasures removed.
    /// It is overwritten in the background. A store on a server cannot tell: there it ages out.
    async fn scrub_due(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// What the builder of a generation left for itself with [`Upkeep::set_note`].
    async fn note(&self, generation: Generation) -> Result<Option<String>, StoreError>;

    /// Leaves a text of some kilobytes at most for whoever goes on building.
    /// [`StoreError::Fenced`], and nothing written, where another has taken office.
    async fn set_note(
        &self,
        generation: Generation,
        note: &str,
        office: &Office,
    ) -> Result<(), StoreError>;
}

/// Making and choosing generations.
#[async_trait]
pub trait Generations: Send + Sync + 'static {
    /// The generations in use. A new store gets generation 1, made and serving.
    async fn pointer(&self) -> Result<Pointer, StoreError>;

    /// The generation that serves.
    async fn serving(&self) -> Result<Generation, StoreError> {
        Ok(self.pointer().await?.serving)
    }

    /// All generations, ascending.
    async fn list(&self) -> Result<Vec<Generation>, StoreError>;

    /// Makes an empty generation with its indexes, one above the highest ever made.
    async fn create(&self) -> Result<Generation, StoreError>;

    /// Lets commands write to one more generation, in place of any that was named so before.
    async fn join(&self, generation: Generation) -> Result<(), StoreError>;

    /// Makes a generation serve, where the pointer is as `expected`. Commands go on writing to the
    /// one that served until [`Generations::settle`]. `false`, and nothing changed, where the
    /// pointer is another; `true` also where an earlier call moved it so.
    async fn activate(&self, generation: Generation, expected: Pointer)
    -> Result<bool, StoreError>;

    /// Lets commands write to the serving generation alone, where `also` is still the other.
    async fn settle(&self, also: Generation) -> Result<(), StoreError>;

    /// Drops a generation that neither serves nor is written to.
    async fn drop_generation(&self, generation: Generation) -> Result<(), StoreError>;
}

/// All that a projection store does.
pub trait ProjectionStore: ReadModels + WriteModels + Upkeep + Generations {}

impl<T: ReadModels + WriteModels + Upkeep + Generations> ProjectionStore for T {}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The cursor is now at the change's `to`.
    Done,
    /// The cursor was there or further on already.
    Already,
    /// The cursor is before the change's `from`: events between are missing and the change
    /// must be made again from the ledger.
    Gap {
        /// Where the cursor is.
        at: u64,
    },
}

/// A call that gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store did not answer, or not in time.
    #[error("the projection store is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A stored document is not what this program writes. Never shows its content.
    #[error("a document of {collection} cannot be read")]
    Malformed {
        /// Which read model.
        collection: &'static str,
    },
    /// The embedded file is of a later version of this program.
    #[error(
        "the file of the read models has layout {0}, which this program does not know: update it"
    )]
    Layout(i64),
    /// The generation does not exist, or is in use and cannot be dropped.
    #[error("generation {0} cannot be used so")]
    Generation(u32),
    /// Another process has taken over what this one did.
    #[error("another process follows into this generation now")]
    Fenced,
}
