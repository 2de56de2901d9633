//! The projection store in memory, with fault hooks: for tests.

mod reads;
mod upkeep;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use domain::ids::{PatientId, TestId};

use crate::{
    change::{StreamChange, TestChange},
    documents::{
        ActivityDoc, Erasure, Generation, Office, Parked, PatientDoc, Pointer, Position, TestDoc,
    },
    store::{Applied, Generations, StoreError, WriteModels},
};

/// What goes wrong in one call of `apply`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails and nothing is written.
    Before,
    /// It fails between the tests, which are written, and the patients, which are not.
    TestsOnly,
    /// It fails and everything is written.
    After,
    /// It writes nothing and never answers.
    Hang,
}

/// A store whose clones share their content, as processes share a database.
#[derive(Clone, Default)]
pub struct MemoryStore {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    pointer: Option<Pointer>,
    highest: u32,
    generations: BTreeMap<u32, Models>,
    apply_faults: VecDeque<Fault>,
    failing_reads: usize,
}

#[derive(Default)]
struct Models {
    patients: BTreeMap<PatientId, PatientDoc>,
    tests: BTreeMap<TestId, TestDoc>,
    activity: BTreeMap<u64, ActivityDoc>,
    erasures: BTreeMap<PatientId, Erasure>,
    position: Option<Position>,
    office: Option<Office>,
    parked: BTreeMap<PatientId, Parked>,
    note: Option<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("a fault was injected")]
struct Injected;

impl MemoryStore {
    /// Makes the next `times` calls of `apply` go wrong, after those asked for before.
    pub fn fail_applies(&self, fault: Fault, times: usize) {
        self.lock().apply_faults.extend(std::iter::repeat_n(fault, times));
    }

    /// Makes the next `times` reads of patients, tests, activity or cursors fail.
    pub fn fail_reads(&self, times: usize) {
        self.lock().failing_reads = times;
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(
        &self,
        generation: Generation,
        read: impl FnOnce(&Models) -> T,
    ) -> Result<T, StoreError> {
        let mut shared = self.lock();
        if shared.failing_reads > 0 {
            shared.failing_reads -= 1;
            return Err(injected());
        }
        shared.models(generation).map(|models| read(models))
    }
}

fn injected() -> StoreError {
    StoreError::Unavailable(Box::new(Injected))
}

impl Shared {
    fn models(&mut self, generation: Generation) -> Result<&mut Models, StoreError> {
        self.generations.get_mut(&generation.0).ok_or(StoreError::Generation(generation.0))
    }

    fn create(&mut self) -> Generation {
        self.highest += 1;
        self.generations.insert(self.highest, Models::default());
        Generation(self.highest)
    }
}

impl Models {
    fn cursor(&self, patient: PatientId) -> u64 {
        self.patients.get(&patient).map_or(0, |document| document.version)
    }

    fn verdict(&self, change: &StreamChange) -> Applied {
        let at = self.cursor(change.patient);
        if at >= change.to {
            Applied::Already
        } else if at < change.from || (at == 0 && change.state.is_none()) {
            Applied::Gap { at }
        } else {
            Applied::Done
        }
    }

    fn write_erasure(&mut self, change: &StreamChange) {
        let StreamChange { patient, erased, .. } = *change;
        self.erasures.extend(erased.map(|kid| (patient, Erasure { patient, kid })));
    }

    fn write_tests(&mut self, change: &StreamChange) {
        for (id, test) in &change.tests {
            self.write_test(change.patient, *id, test);
        }
        let Some(version) = change.tests_gone_at else { return };
        let of_patient = self.tests.values_mut().filter(|test| test.patient == change.patient);
        for test in of_patient.filter(|test| test.version < version) {
            test.version = version;
            test.current = None;
        }
    }

    fn write_test(&mut self, patient: PatientId, id: TestId, change: &TestChange) {
        let TestChange { version, first, current } = change.clone();
        if let Some(stored) = self.tests.get_mut(&id) {
            if stored.version < version {
                stored.version = version;
                stored.current = current;
            }
        } else if let Some(first) = first {
            self.tests.insert(id, TestDoc { id, patient, version, first, current });
        }
    }

    fn write_patient(&mut self, change: &StreamChange) {
        let StreamChange { patient: id, to: version, state, .. } = change.clone();
        match (self.patients.get_mut(&id), state) {
            (Some(stored), state) => {
                stored.version = version;
                if let Some(state) = state {
                    stored.state = state;
                }
            }
            (None, Some(state)) => {
                self.patients.insert(id, PatientDoc { id, version, state });
            }
            // `verdict` called this a gap.
            (None, None) => {}
        }
    }
}

#[async_trait]
impl WriteModels for MemoryStore {
    async fn cursors(
        &self,
        generation: Generation,
        patients: &[PatientId],
    ) -> Result<HashMap<PatientId, u64>, StoreError> {
        self.read(generation, |models| {
            let stored = patients.iter().filter_map(|id| models.patients.get(id));
            stored.map(|document| (document.id, document.version)).collect()
        })
    }

    async fn apply(
        &self,
        generation: Generation,
        changes: &[StreamChange],
    ) -> Result<Vec<Applied>, StoreError> {
        let fault = self.lock().apply_faults.pop_front();
        match fault {
            Some(Fault::Before) => return Err(injected()),
            Some(Fault::Hang) => std::future::pending::<()>().await,
            Some(Fault::TestsOnly | Fault::After) | None => {}
        }
        let mut shared = self.lock();
        let models = shared.models(generation)?;
        let mut results = Vec::with_capacity(changes.len());
        for change in changes {
            let verdict = models.verdict(change);
            results.push(verdict);
            models.write_erasure(change);
            if verdict == Applied::Done {
                models.write_tests(change);
                if fault != Some(Fault::TestsOnly) {
                    models.write_patient(change);
                }
            }
        }
        if fault.is_some() { Err(injected()) } else { Ok(results) }
    }

    async fn write_activity(
        &self,
        generation: Generation,
        documents: &[ActivityDoc],
    ) -> Result<(), StoreError> {
        let mut shared = self.lock();
        let models = shared.models(generation)?;
        for document in documents {
            models.activity.entry(document.seq).or_insert_with(|| document.clone());
        }
        Ok(())
    }
}

#[async_trait]
impl Generations for MemoryStore {
    async fn pointer(&self) -> Result<Pointer, StoreError> {
        let mut shared = self.lock();
        if let Some(pointer) = shared.pointer {
            return Ok(pointer);
        }
        let first = Pointer { serving: shared.create(), also: None };
        shared.pointer = Some(first);
        Ok(first)
    }

    async fn list(&self) -> Result<Vec<Generation>, StoreError> {
        Ok(self.lock().generations.keys().copied().map(Generation).collect())
    }

    async fn create(&self) -> Result<Generation, StoreError> {
        self.serving().await?;
        Ok(self.lock().create())
    }

    async fn join(&self, generation: Generation) -> Result<(), StoreError> {
        let serving = self.serving().await?;
        let mut shared = self.lock();
        shared.models(generation)?;
        if serving == generation {
            return Err(StoreError::Generation(generation.0));
        }
        shared.pointer = Some(Pointer { serving, also: Some(generation) });
        Ok(())
    }

    async fn activate(
        &self,
        generation: Generation,
        expected: Pointer,
    ) -> Result<bool, StoreError> {
        self.pointer().await?;
        let mut shared = self.lock();
        shared.models(generation)?;
        let moved = expected.moved_to(generation);
        if shared.pointer == Some(expected) {
            shared.pointer = Some(moved);
        }
        Ok(shared.pointer == Some(moved))
    }

    async fn settle(&self, also: Generation) -> Result<(), StoreError> {
        let mut shared = self.lock();
        if let Some(pointer) = &mut shared.pointer
            && pointer.also == Some(also)
        {
            pointer.also = None;
        }
        Ok(())
    }

    async fn drop_generation(&self, generation: Generation) -> Result<(), StoreError> {
        let mut shared = self.lock();
        let used = shared.pointer.is_some_and(|it| it.written().any(|used| used == generation));
        if used {
            return Err(StoreError::Generation(generation.0));
        }
        shared.models(generation)?;
        shared.generations.remove(&generation.0);
        Ok(())
    }
}
