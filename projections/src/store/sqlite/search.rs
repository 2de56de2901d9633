//! The search. Its queries name the index that they are answered from: SQLite has no statistics
//! here and would take any of those that fit, and a gender is shared by half of the patients.
//!
//! Every index of patients holds active patients alone, and the ids of equal values in order,
//! so that a page is read from its first row to its last and no further. Two classes of search
//! cannot be answered so:
//!
//! - Several criteria: those that have not led to a row may not fit it. A page costs as many
//!   rows as share the leading value at most.
//! - A range of birth dates, whose ids are in no order. A narrow one is read whole from its index,
//!   [`NARROW`] ids at most, and sorted. For a wide one patients are walked in the order of
//!   their ids: among `n` of them a page costs `n / NARROW` rows for each that it has, at most.

use domain::{content::Gender, ids::PatientId, search::SearchCriteria};
use rusqlite::{Connection, params_from_iter};

use super::{
    query::{Query, Value},
    rows::{ACTIVE, PATIENT, int, text},
};
use crate::documents::Generation;

/// Columns that lead to few patients; a range of birth dates would not lead to fewer.
const FEW: [&str; 4] = ["id", "insurance_number", "preferred_contact_number", "full_name"];

/// Columns that lead to more, those first that fewer patients share.
const SOME: [&str; 3] = ["last_name", "post_code", "first_name"];

/// Patients in a range of birth dates that are taken before [`SOME`].
const VERY_NARROW: u32 = 1_000;

/// Patients in a range of birth dates whose ids are sorted for each page; takes a few
/// milliseconds.
const NARROW: u32 = 20_000;

/// A query that finds a page of patients.
pub(super) fn query(
    connection: &Connection,
    generation: Generation,
    criteria: &SearchCriteria,
    after: Option<PatientId>,
    limit: usize,
) -> rusqlite::Result<Query> {
    let mut search = Search::new(generation, criteria, after);
    let lead = search.lead(connection)?;
    let sql = search.sql(lead, search.values.len() + 1);
    search.values.push(Box::new(int(limit as u64)));
    Ok(Query { sql, values: search.values })
}

/// What leads to the rows.
#[derive(Clone, Copy)]
enum Lead {
    /// One value of a column.
    Column(&'static str),
    /// The narrow range of birth dates.
    Born,
    /// All active patients, by id.
    All,
}

struct Search {
    n: u32,
    /// Column and comparison; their place is that of the value.
    conditions: Vec<(&'static str, &'static str)>,
    values: Vec<Value>,
}

impl Search {
    fn new(Generation(n): Generation, criteria: &SearchCriteria, after: Option<PatientId>) -> Self {
        let SearchCriteria {
            id,
            first_name,
            last_name,
            full_name,
            gender,
            post_code,
            insurance_number,
            preferred_contact_number,
            date_of_birth_from,
            date_of_birth_to,
        } = criteria.clone();
        let asked = [
            ("id", "=", id.map(text)),
            ("first_name", "=", first_name),
            ("last_name", "=", last_name),
            ("full_name", "=", full_name),
            ("gender", "=", gender.map(text)),
            ("post_code", "=", post_code),
            ("insurance_number", "=", insurance_number),
            ("preferred_contact_number", "=", preferred_contact_number),
            ("birth_day", ">=", date_of_birth_from.map(text)),
            ("birth_day", "<=", date_of_birth_to.map(text)),
            ("id", ">", after.map(text)),
        ];
        let mut search = Self { n, conditions: Vec::new(), values: Vec::new() };
        for (column, comparison, value) in asked {
            if let Some(value) = value {
                search.conditions.push((column, comparison));
                search.values.push(Box::new(value));
            }
        }
        search
    }

    fn lead(&self, connection: &Connection) -> rusqlite::Result<Lead> {
        let first = |columns: &[&'static str]| {
            let equal = |column: &&&str| self.conditions.contains(&(**column, "="));
            columns.iter().find(equal).copied().map(Lead::Column)
        };
        if let Some(lead) = first(&FEW) {
            return Ok(lead);
        }
        let equal = first(&SOME);
        let most = if equal.is_some() { VERY_NARROW } else { NARROW };
        if self.are_born(connection, most)? {
            return Ok(Lead::Born);
        }
        Ok(equal.or_else(|| first(&["gender"])).unwrap_or(Lead::All))
    }

    /// Whether there is a range of birth dates with at most so many patients.
    fn are_born(&self, connection: &Connection, most: u32) -> rusqlite::Result<bool> {
        let born = |condition: (&str, &str)| condition.0 == "birth_day";
        let Some(last) = self.conditions.iter().rposition(|condition| born(*condition)) else {
            return Ok(false);
        };
        // Without the cursor: entries before it would be looked at all the same.
        let sql = format!(
            "SELECT count(*) FROM (SELECT 1 FROM {} WHERE true{} LIMIT {})",
            self.indexed("birth_day"),
            self.all(born),
            most + 1
        );
        let mut statement = connection.prepare_cached(&sql)?;
        let values = params_from_iter(&self.values[..=last]);
        statement.query_row(values, |row| row.get(0)).map(|born: u32| born <= most)
    }

    /// The table, and the index of a column to read it by.
    fn indexed(&self, column: &str) -> String {
        format!("patients_g{0} INDEXED BY patients_g{0}_{column}", self.n)
    }

    /// The conditions of some columns.
    fn all(&self, which: impl Fn((&str, &str)) -> bool) -> String {
        let numbered = self.conditions.iter().zip(1..);
        let those = numbered.filter(|(condition, _)| which(**condition));
        let texts = those
            .map(|((column, comparison), place)| format!(" AND {column} {comparison} ?{place}"));
        texts.collect::<Vec<_>>().concat()
    }

    fn sql(&self, lead: Lead, limit: usize) -> String {
        let fits = self.all(|_| true);
        let select = |table: &str, more: &str| {
            format!("SELECT {PATIENT} FROM {table} WHERE status = '{ACTIVE}'{more}{fits}")
        };
        let page = format!("ORDER BY id LIMIT ?{limit}");
        let table = format!("patients_g{}", self.n);
        match lead {
            Lead::Column("id") => format!("{} {page}", select(&table, "")),
            Lead::Column(column) => format!("{} {page}", select(&self.indexed(column), "")),
            // The ids of the page first: they stand in the index, the rest would have to be
            // looked up for all who are born then.
            Lead::Born => {
                let born = self.indexed("birth_day");
                let ids = format!("SELECT id FROM {born} WHERE true{fits} {page}");
                format!("SELECT {PATIENT} FROM {table} WHERE id IN ({ids}) ORDER BY id")
            }
            // Every active patient has a gender, and no tombstone has. SQLite merges these.
            Lead::All => {
                let of = |gender: &Gender| {
                    select(&self.indexed("gender"), &format!(" AND gender = '{gender}'"))
                };
                let all: Vec<String> = Gender::ALL.iter().map(of).collect();
                format!("{} {page}", all.join(" UNION ALL "))
            }
        }
    }
}

#[cfg(test)]
mod tests;
