//! Reading the maps.

use std::ops::Bound;

use async_trait::async_trait;
use domain::{
    ids::{PatientId, TestId},
    search::SearchCriteria,
    time::Timestamp,
};

use super::MemoryStore;
use crate::{
    documents::{
        ActivityFilter, ActivityPage, Erasure, Generation, PatientDoc, PatientState, TestDoc,
    },
    store::{
        ReadModels, StoreError,
        page::{self, PageBuilder},
    },
};

fn after<K>(after: Option<K>) -> (Bound<K>, Bound<K>) {
    (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}

#[async_trait]
impl ReadModels for MemoryStore {
    async fn patient(
        &self,
        generation: Generation,
        id: PatientId,
    ) -> Result<Option<PatientDoc>, StoreError> {
        self.read(generation, |models| models.patients.get(&id).cloned())
    }

    async fn test(
        &self,
        generation: Generation,
        patient: PatientId,
        id: TestId,
    ) -> Result<Option<TestDoc>, StoreError> {
        self.read(generation, |models| {
            models.tests.get(&id).filter(|test| test.patient == patient).cloned()
        })
    }

    async fn tests(
        &self,
        generation: Generation,
        patient: PatientId,
    ) -> Result<Vec<TestDoc>, StoreError> {
        self.read(generation, |models| {
            let of_patient = models.tests.values().filter(|test| test.patient == patient);
            let mut tests: Vec<TestDoc> =
                of_patient.filter(|test| test.current.is_some()).cloned().collect();
            tests.sort_by_key(|test| test.first);
            tests
        })
    }

    async fn search(
        &self,
        generation: Generation,
        criteria: &SearchCriteria,
        last: Option<PatientId>,
        limit: usize,
    ) -> Result<Vec<PatientDoc>, StoreError> {
        let matches = |document: &PatientDoc| match &document.state {
            PatientState::Active { current, .. } => criteria.matches(document.id, &current.content),
            PatientState::Removed | PatientState::Erased => false,
        };
        self.read(generation, |models| {
            let found = models.patients.range(after(last)).map(|(_, document)| document);
            found.filter(|document| matches(document)).take(limit).cloned().collect()
        })
    }

    async fn scan_patients(
        &self,
        generation: Generation,
        last: Option<PatientId>,
        limit: usize,
    ) -> Result<Vec<PatientDoc>, StoreError> {
        self.read(generation, |models| {
            models.patients.range(after(last)).take(limit).map(|(_, it)| it.clone()).collect()
        })
    }

    async fn scan_tests(
        &self,
        generation: Generation,
        last: Option<TestId>,
        limit: usize,
    ) -> Result<Vec<TestDoc>, StoreError> {
        self.read(generation, |models| {
            models.tests.range(after(last)).take(limit).map(|(_, it)| it.clone()).collect()
        })
    }

    async fn activity(
        &self,
        generation: Generation,
        filter: &ActivityFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<ActivityPage, StoreError> {
        self.read(generation, |models| {
            // The first document of that time or later.
            let first = |time: Timestamp| {
                models.activity.values().find(|it| it.at >= time).map_or(u64::MAX, |it| it.seq)
            };
            let from = filter.from.map_or(0, first);
            let until = filter.until.map_or(u64::MAX, first).min(before.unwrap_or(u64::MAX));
            let mut page = PageBuilder::new(filter, limit);
            if from < until {
                let concerned = models.activity.range(from..until).map(|(_, it)| it);
                let mut concerned = concerned.filter(|it| page::indexed(filter, it));
                while let Some(document) = concerned.next_back()
                    && page.add(document.clone())
                {}
            }
            page.finish()
        })
    }

    async fn erasures(
        &self,
        generation: Generation,
        last: Option<PatientId>,
        limit: usize,
    ) -> Result<Vec<Erasure>, StoreError> {
        self.read(generation, |models| {
            models.erasures.range(after(last)).take(limit).map(|(_, it)| *it).collect()
        })
    }
}
