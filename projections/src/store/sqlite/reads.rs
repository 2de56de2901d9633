//! Reading: single rows by id, pages by id, and the search.

use async_trait::async_trait;
use domain::{
    ids::{PatientId, TestId},
    search::SearchCriteria,
};

use super::{
    SqliteStore, activity, of_generation,
    query::Query,
    rows::{self, ACTIVE, ERASURE, PATIENT, TEST, text},
    search,
};
use crate::{
    documents::{ActivityFilter, ActivityPage, Erasure, Generation, PatientDoc, TestDoc},
    store::{ReadModels, StoreError},
};

#[async_trait]
impl ReadModels for SqliteStore {
    async fn patient(
        &self,
        generation: Generation,
        id: PatientId,
    ) -> Result<Option<PatientDoc>, StoreError> {
        let mut query = Query::new(format!("SELECT {PATIENT} FROM patients_g{}", generation.0));
        query.and(" WHERE id = ?", text(id));
        Ok(self.query(generation, query, rows::patient).await?.pop())
    }

    async fn test(
        &self,
        generation: Generation,
        patient: PatientId,
        id: TestId,
    ) -> Result<Option<TestDoc>, StoreError> {
        let mut query = Query::new(format!("SELECT {TEST} FROM tests_g{}", generation.0));
        query.and(" WHERE id = ?", text(id));
        query.and(" AND patient_id = ?", text(patient));
        Ok(self.query(generation, query, rows::test).await?.pop())
    }

    async fn tests(
        &self,
        generation: Generation,
        patient: PatientId,
    ) -> Result<Vec<TestDoc>, StoreError> {
        let mut query = Query::new(format!("SELECT {TEST} FROM tests_g{}", generation.0));
        query.and(" WHERE patient_id = ?", text(patient));
        query.and(" AND status = ? ORDER BY first", ACTIVE);
        self.query(generation, query, rows::test).await
    }

    async fn search(
        &self,
        generation: Generation,
        criteria: &SearchCriteria,
        after: Option<PatientId>,
        limit: usize,
    ) -> Result<Vec<PatientDoc>, StoreError> {
        let criteria = criteria.clone();
        self.read(move |connection| {
            search::query(connection, generation, &criteria, after, limit)
                .map_err(of_generation(generation))?
                .all(connection, generation, rows::patient)
        })
        .await
    }

    async fn scan_patients(
        &self,
        generation: Generation,
        after: Option<PatientId>,
        limit: usize,
    ) -> Result<Vec<PatientDoc>, StoreError> {
        let mut query = Query::new(format!("SELECT {PATIENT} FROM patients_g{}", generation.0));
        query.and_if(" WHERE id > ?", after.map(text));
        self.query(generation, query.limit(" ORDER BY id", limit), rows::patient).await
    }

    async fn scan_tests(
        &self,
        generation: Generation,
        after: Option<TestId>,
        limit: usize,
    ) -> Result<Vec<TestDoc>, StoreError> {
        let mut query = Query::new(format!("SELECT {TEST} FROM tests_g{}", generation.0));
        query.and_if(" WHERE id > ?", after.map(text));
        self.query(generation, query.limit(" ORDER BY id", limit), rows::test).await
    }

    async fn erasures(
        &self,
        generation: Generation,
        after: Option<PatientId>,
        limit: usize,
    ) -> Result<Vec<Erasure>, StoreError> {
        let mut query = Query::new(format!("SELECT {ERASURE} FROM erasures_g{}", generation.0));
        query.and_if(" WHERE patient > ?", after.map(text));
        self.query(generation, query.limit(" ORDER BY patient", limit), rows::erasure).await
    }

    async fn activity(
        &self,
        generation: Generation,
        filter: &ActivityFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<ActivityPage, StoreError> {
        let filter = filter.clone();
        self.read(move |connection| activity::page(connection, generation, &filter, before, limit))
            .await
    }
}
