//! Pages of activity. Rows are read one by one in the order of an index, until the page is full.

use domain::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::{
    of_generation,
    query::Query,
    rows::{self, ACTIVITY, int, text},
    unavailable,
};
use crate::{
    documents::{ActivityFilter, ActivityPage, Generation},
    store::{StoreError, page::PageBuilder},
};

pub(super) fn page(
    connection: &Connection,
    generation: Generation,
    filter: &ActivityFilter,
    before: Option<u64>,
    limit: usize,
) -> Result<ActivityPage, StoreError> {
    let mut page = PageBuilder::new(filter, limit);
    let first = |time: Option<Timestamp>| {
        time.map(|time| first_seq(connection, generation, time)).transpose()
    };
    let from = match first(filter.from)? {
        // Nothing is that new.
        Some(None) => return Ok(page.finish()),
        from => from.flatten(),
    };
    let until = first(filter.until)?.flatten();
    let before = before.map(int);
    let before = before.into_iter().chain(until).min();
    let query = query(generation, filter, from, before).limit(" ORDER BY seq DESC", page.most());
    let mut statement = connection.prepare_cached(&query.sql).map_err(of_generation(generation))?;
    let mut rows = statement.query(params_from_iter(query.values)).map_err(unavailable)?;
    while let Some(row) = rows.next().map_err(unavailable)?
        && page.add(rows::activity(row)?)
    {}
    Ok(page.finish())
}

/// Position of the first record of a time or later: times never decrease.
fn first_seq(
    connection: &Connection,
    Generation(n): Generation,
    time: Timestamp,
) -> Result<Option<i64>, StoreError> {
    let sql = format!("SELECT seq FROM activity_g{n} WHERE at >= ?1 ORDER BY at, seq LIMIT 1");
    let mut statement = connection.prepare_cached(&sql).map_err(of_generation(Generation(n)))?;
    statement.query_row([time.millis()], |row| row.get(0)).optional().map_err(unavailable)
}

/// The documents to look at. One index alone can give them in their order.
fn query(
    Generation(n): Generation,
    filter: &ActivityFilter,
    from: Option<i64>,
    before: Option<i64>,
) -> Query {
    let tables = match filter.patient {
        Some(_) => format!("activity_patients_g{n} CROSS JOIN activity_g{n} USING (seq)"),
        None => format!("activity_g{n}"),
    };
    let mut query = Query::new(format!("SELECT {ACTIVITY} FROM {tables} WHERE true"));
    if let Some(patient) = filter.patient {
        query.and(" AND patient = ?", text(patient));
    } else {
        query.and_if(" AND actor ->> '$.id' = ?", filter.actor.as_ref().map(text));
    }
    query.and_if(" AND seq >= ?", from);
    query.and_if(" AND seq < ?", before);
    query
}
