//! Reading: single rows by id, pages by id, and the search.

use async_trait::async_trait;
use domain::{
    ids::{PatientId, TestId},
    search::SearchCriteria,
};
use rusqlite::{Row, ToSql, params_from_iter};

use super::{
    SqliteStore, of_generation,
    rows::{self, ACTIVE, ACTIVITY, PATIENT, TEST, int, text},
    unavailable,
};
use crate::{
    documents::{ActivityFilter, ActivityPage, Erasure, Generation, PatientDoc, TestDoc},
    store::{ReadModels, StoreError},
};

/// A value of a query.
type Value = Box<dyn ToSql + Send>;

/// A query with its values, in their order.
struct Query {
    sql: String,
    values: Vec<Value>,
}

impl Query {
    fn new(sql: String) -> Self {
        Self { sql, values: Vec::new() }
    }

    /// Adds a fixed text with one `?` and its value.
    fn and(&mut self, sql: &'static str, value: impl ToSql + Send + 'static) {
        self.sql.push_str(sql);
        self.values.push(Box::new(value));
    }

    /// As [`Query::and`], where there is a value.
    fn and_if(&mut self, sql: &'static str, value: Option<impl ToSql + Send + 'static>) {
        if let Some(value) = value {
            self.and(sql, value);
        }
    }

    /// Adds the end of a page.
    fn limit(mut self, order: &'static str, limit: usize) -> Self {
        self.sql.push_str(order);
        self.and(" LIMIT ?", i64::try_from(limit).unwrap_or(i64::MAX));
        self
    }
}

impl SqliteStore {
    async fn query<T: Send + 'static>(
        &self,
        generation: Generation,
        query: Query,
        read: fn(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        self.read(move |connection| {
            let prepared = connection.prepare_cached(&query.sql);
            let mut statement = prepared.map_err(of_generation(generation))?;
            let rows = statement.query(params_from_iter(query.values));
            rows::all(&mut rows.map_err(unavailable)?, read)
        })
        .await
    }
}

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
        _: Generation,
        _: Option<PatientId>,
        _: usize,
    ) -> Result<Vec<Erasure>, StoreError> {
        Ok(Vec::new())
    }

    async fn activity(
        &self,
        generation: Generation,
        filter: &ActivityFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<ActivityPage, StoreError> {
        let n = generation.0;
        let mut query = Query::new(format!(
            "SELECT {ACTIVITY} FROM activity_g{n} WHERE seq IN
             (SELECT seq FROM activity_patients_g{n}"
        ));
        query.and(" WHERE patient = ?", filter.patient.map(text).unwrap_or_default());
        query.and_if(" AND seq < ?", before.map(int));
        let query = query.limit(" ORDER BY seq DESC", limit);
        let Query { mut sql, values } = query;
        sql.push_str(") ORDER BY seq DESC");
        let documents = self.query(generation, Query { sql, values }, rows::activity).await?;
        Ok(ActivityPage { documents, next: None })
    }
}
