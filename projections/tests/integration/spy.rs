//! A store that counts and holds back what is applied to another.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use domain::{
    ids::{PatientId, TestId},
    search::SearchCriteria,
};
use projections::{
    change::StreamChange,
    documents::{ActivityDoc, Generation, PatientDoc, Position, TestDoc},
    store::{Applied, Generations, ReadModels, StoreError, WriteModels, memory::MemoryStore},
};
use tokio::sync::Semaphore;

pub(crate) struct Spy {
    pub(crate) inner: MemoryStore,
    /// One permit lets one call of `apply` through.
    pub(crate) gate: Semaphore,
    pub(crate) calls: AtomicUsize,
    pub(crate) most_at_once: AtomicUsize,
    at_once: AtomicUsize,
    in_flight: Mutex<HashSet<PatientId>>,
}

impl Spy {
    /// Lets `permits` calls of `apply` through to a store.
    pub(crate) fn over(inner: MemoryStore, permits: usize) -> Self {
        Self {
            inner,
            gate: Semaphore::new(permits),
            calls: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
            at_once: AtomicUsize::new(0),
            in_flight: Mutex::default(),
        }
    }
}

type Answer<T> = Result<T, StoreError>;

#[async_trait]
impl WriteModels for Spy {
    async fn apply(
        &self,
        generation: Generation,
        changes: &[StreamChange],
    ) -> Answer<Vec<Applied>> {
        let at_once = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(at_once, Ordering::SeqCst);
        self.calls.fetch_add(1, Ordering::SeqCst);
        for change in changes {
            let alone = self.in_flight.lock().unwrap().insert(change.patient);
            assert!(alone, "a patient is in two batches, or twice in one");
        }
        self.gate.acquire().await.unwrap().forget();
        let result = self.inner.apply(generation, changes).await;
        for change in changes {
            self.in_flight.lock().unwrap().remove(&change.patient);
        }
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        result
    }

    async fn cursors(
        &self,
        generation: Generation,
        patients: &[PatientId],
    ) -> Answer<HashMap<PatientId, u64>> {
        self.inner.cursors(generation, patients).await
    }

    async fn write_activity(
        &self,
        generation: Generation,
        documents: &[ActivityDoc],
    ) -> Answer<()> {
        self.inner.write_activity(generation, documents).await
    }

    async fn position(&self, generation: Generation) -> Answer<Option<Position>> {
        self.inner.position(generation).await
    }

    async fn set_position(&self, generation: Generation, position: &Position) -> Answer<()> {
        self.inner.set_position(generation, position).await
    }
}

#[async_trait]
impl ReadModels for Spy {
    async fn patient(&self, generation: Generation, id: PatientId) -> Answer<Option<PatientDoc>> {
        self.inner.patient(generation, id).await
    }

    async fn test(
        &self,
        generation: Generation,
        patient: PatientId,
        id: TestId,
    ) -> Answer<Option<TestDoc>> {
        self.inner.test(generation, patient, id).await
    }

    async fn tests(&self, generation: Generation, patient: PatientId) -> Answer<Vec<TestDoc>> {
        self.inner.tests(generation, patient).await
    }

    async fn search(
        &self,
        generation: Generation,
        criteria: &SearchCriteria,
        after: Option<PatientId>,
        limit: usize,
    ) -> Answer<Vec<PatientDoc>> {
        self.inner.search(generation, criteria, after, limit).await
    }

    async fn scan_patients(
        &self,
        generation: Generation,
        after: Option<PatientId>,
        limit: usize,
    ) -> Answer<Vec<PatientDoc>> {
        self.inner.scan_patients(generation, after, limit).await
    }

    async fn scan_tests(
        &self,
        generation: Generation,
        after: Option<TestId>,
        limit: usize,
    ) -> Answer<Vec<TestDoc>> {
        self.inner.scan_tests(generation, after, limit).await
    }

    async fn activity(
        &self,
        generation: Generation,
        patient: PatientId,
        before: Option<u64>,
        limit: usize,
    ) -> Answer<Vec<ActivityDoc>> {
        self.inner.activity(generation, patient, before, limit).await
    }
}

#[async_trait]
impl Generations for Spy {
    async fn serving(&self) -> Answer<Generation> {
        self.inner.serving().await
    }

    async fn list(&self) -> Answer<Vec<Generation>> {
        self.inner.list().await
    }

    async fn create(&self) -> Answer<Generation> {
        self.inner.create().await
    }

    async fn activate(&self, generation: Generation) -> Answer<()> {
        self.inner.activate(generation).await
    }

    async fn drop_generation(&self, generation: Generation) -> Answer<()> {
        self.inner.drop_generation(generation).await
    }
}
