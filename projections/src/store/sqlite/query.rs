//! Queries with their values.

use rusqlite::{Row, ToSql, params_from_iter};

use super::{SqliteStore, of_generation, unavailable};
use crate::{documents::Generation, store::StoreError};

/// A value of a query.
pub(super) type Value = Box<dyn ToSql + Send>;

/// A query with its values, in their order.
pub(super) struct Query {
    pub(super) sql: String,
    pub(super) values: Vec<Value>,
}

impl Query {
    pub(super) fn new(sql: String) -> Self {
        Self { sql, values: Vec::new() }
    }

    /// Adds a fixed text with one `?` and its value.
    pub(super) fn and(&mut self, sql: &'static str, value: impl ToSql + Send + 'static) {
        self.sql.push_str(sql);
        self.values.push(Box::new(value));
    }

    /// As [`Query::and`], where there is a value.
    pub(super) fn and_if(&mut self, sql: &'static str, value: Option<impl ToSql + Send + 'static>) {
        if let Some(value) = value {
            self.and(sql, value);
        }
    }

    /// Adds the end of a page.
    pub(super) fn limit(mut self, order: &'static str, limit: usize) -> Self {
        self.sql.push_str(order);
        self.and(" LIMIT ?", i64::try_from(limit).unwrap_or(i64::MAX));
        self
    }
}

impl SqliteStore {
    /// Reads every row of a query.
    pub(super) async fn query<T: Send + 'static>(
        &self,
        generation: Generation,
        query: Query,
        read: fn(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        self.read(move |connection| {
            let prepared = connection.prepare_cached(&query.sql);
            let mut statement = prepared.map_err(of_generation(generation))?;
            let rows = statement.query(params_from_iter(query.values));
            let (mut rows, mut documents) = (rows.map_err(unavailable)?, Vec::new());
            while let Some(row) = rows.next().map_err(unavailable)? {
                documents.push(read(row)?);
            }
            Ok(documents)
        })
        .await
    }
}
