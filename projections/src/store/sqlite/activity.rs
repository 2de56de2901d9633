//! Pages of activity. Rows are read one by one in the order of an index, until the page is full.

use domain::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::{
    of_generation,
    query::Query,
    rows::{self, ACTIVITY, int, text},
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
    let failed = of_generation(generation);
    let mut statement = connection.prepare_cached(&query.sql).map_err(&failed)?;
    let mut rows = statement.query(params_from_iter(query.values)).map_err(&failed)?;
    while let Some(row) = rows.next().map_err(&failed)?
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
    let first = || {
        let mut statement = connection.prepare_cached(&sql)?;
        statement.query_row([time.millis()], |row| row.get(0)).optional()
    };
    first().map_err(of_generation(Generation(n)))
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{super::schema, *};

    #[track_caller]
    fn check(filter: &ActivityFilter, from: Option<i64>, before: Option<i64>, expected: &[&str]) {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::prepare(&mut connection).unwrap();
        schema::make(&connection, Generation(1)).unwrap();
        let query = query(Generation(1), filter, from, before).limit(" ORDER BY seq DESC", 10);
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {}", query.sql)).unwrap();
        let steps = plan.query_map(params_from_iter(query.values), |row| row.get("detail"));
        let steps: Vec<String> = steps.unwrap().map(Result::unwrap).collect();
        assert_eq!(steps, expected, "{filter:?}");
    }

    #[test]
    fn pages_come_in_the_order_of_one_index() {
        let patient = Some(domain::ids::PatientId::new(uuid::Uuid::from_u128(1)));
        let actor = Some("ann".parse().unwrap());
        let by_patient = ActivityFilter { patient, ..ActivityFilter::default() };
        let by_actor = ActivityFilter { actor, ..ActivityFilter::default() };
        let looked_up = "SEARCH activity_g1 USING INTEGER PRIMARY KEY (rowid=?)";
        // Backwards from the end, as far as the page goes.
        check(&ActivityFilter::default(), None, None, &["SCAN activity_g1"]);
        for (from, before, range) in [
            (None, None, ""),
            (None, Some(9), " AND seq<?"),
            (Some(1), None, " AND seq>?"),
            (Some(1), Some(9), " AND seq>? AND seq<?"),
        ] {
            let patients =
                format!("SEARCH activity_patients_g1 USING PRIMARY KEY (patient=?{range})");
            check(&by_patient, from, before, &[&patients, looked_up]);
            let range = range.replace("seq", "rowid");
            let actors =
                format!("SEARCH activity_g1 USING INDEX activity_g1_actor (<expr>=?{range})");
            check(&by_actor, from, before, &[&actors]);
            if let Some(range) = range.strip_prefix(" AND ") {
                let all = format!("SEARCH activity_g1 USING INTEGER PRIMARY KEY ({range})");
                check(&ActivityFilter::default(), from, before, &[&all]);
            }
        }
    }
}
