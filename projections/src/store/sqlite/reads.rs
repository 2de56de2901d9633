//! Reading: single rows by id, pages by id, and the search.

use async_trait::async_trait;
use domain::{
    ids::{PatientId, TestId},
    search::SearchCriteria,
};

use super::{
    SqliteStore, activity,
    query::Query,
    rows::{self, ACTIVE, ERASURE, PATIENT, TEST, text},
};
use crate::{
    documents::{ActivityFilter, ActivityPage, Erasure, Generation, PatientDoc, TestDoc},
    store::{ReadModels, StoreError},
};

fn search_query(
    Generation(n): Generation,
    criteria: &SearchCriteria,
    after: Option<PatientId>,
) -> Query {
    let mut query = Query::new(format!("SELECT {PATIENT} FROM patients_g{n} WHERE"));
    query.and(" status = ?", ACTIVE);
    query.and_if(" AND id = ?", criteria.id.map(text));
    query.and_if(" AND first_name = ?", criteria.first_name.clone());
    query.and_if(" AND last_name = ?", criteria.last_name.clone());
    query.and_if(" AND full_name = ?", criteria.full_name.clone());
    query.and_if(" AND gender = ?", criteria.gender.map(domain::content::Gender::as_str));
    query.and_if(" AND post_code = ?", criteria.post_code.clone());
    query.and_if(" AND insurance_number = ?", criteria.insurance_number.clone());
    query.and_if(" AND preferred_contact_number = ?", criteria.preferred_contact_number.clone());
    query.and_if(" AND birth_day >= ?", criteria.date_of_birth_from.map(text));
    query.and_if(" AND birth_day <= ?", criteria.date_of_birth_to.map(text));
    query.and_if(" AND id > ?", after.map(text));
    query
}

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
        let query = search_query(generation, criteria, after).limit(" ORDER BY id", limit);
        self.query(generation, query, rows::patient).await
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
