//! Queries with their values.

use rusqlite::{Connection, Row, ToSql, params_from_iter};

use super::{SqliteStore, of_generation};
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

    /// Reads every row.
    pub(super) fn all<T>(
        self,
        connection: &Connection,
        generation: Generation,
        read: fn(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let failed = of_generation(generation);
        let mut statement = connection.prepare_cached(&self.sql).map_err(&failed)?;
        let mut rows = statement.query(params_from_iter(self.values)).map_err(&failed)?;
        let mut documents = Vec::new();
        // That a table is gone may show only here: the connection may remember it.
        while let Some(row) = rows.next().map_err(&failed)? {
            documents.push(read(row)?);
        }
        Ok(documents)
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
        self.read(move |connection| query.all(connection, generation, read)).await
    }
}
