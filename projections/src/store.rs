//! The projection store port.

use std::collections::HashMap;

use async_trait::async_trait;
use domain::{
    ids::{PatientId, TestId},
    search::SearchCriteria,
};

use crate::{
    change::StreamChange,
    documents::{ActivityDoc, Generation, PatientDoc, Position, TestDoc},
};

pub mod memory;
pub mod mongo;
pub mod sqlite;

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

    /// Activity of a patient, newest first, with `seq` below `before`, at most `limit`.
    async fn activity(
        &self,
        generation: Generation,
        patient: PatientId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<ActivityDoc>, StoreError>;
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
    /// written before the patient's document, which is the cursor. A change may be applied
    /// in part when this fails or the process dies; applying it again completes it.
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

    /// How far the generation has followed the ledger; `None` before the first record.
    async fn position(&self, generation: Generation) -> Result<Option<Position>, StoreError>;

    /// Moves the position on; one that is not ahead of the stored one changes nothing.
    async fn set_position(
        &self,
        generation: Generation,
        position: &Position,
    ) -> Result<(), StoreError>;
}

/// Making and choosing generations.
#[async_trait]
pub trait Generations: Send + Sync + 'static {
    /// The generation that serves. A new store gets generation 1, made and serving.
    async fn serving(&self) -> Result<Generation, StoreError>;

    /// All generations, ascending.
    async fn list(&self) -> Result<Vec<Generation>, StoreError>;

    /// Makes an empty generation with its indexes, one above the highest ever made.
    async fn create(&self) -> Result<Generation, StoreError>;

    /// Makes a generation serve.
    async fn activate(&self, generation: Generation) -> Result<(), StoreError>;

    /// Drops a generation that does not serve.
    async fn drop_generation(&self, generation: Generation) -> Result<(), StoreError>;
}

/// All that a projection store does.
pub trait ProjectionStore: ReadModels + WriteModels + Generations {}

impl<T: ReadModels + WriteModels + Generations> ProjectionStore for T {}

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
    /// The generation does not exist, or serves and cannot be dropped.
    #[error("generation {0} cannot be used so")]
    Generation(u32),
}
