//! Plans, and what they cost, on a table of some ten thousand patients.
#![allow(clippy::unwrap_used)]

use rusqlite::{StatementStatus, params};
use serde_json::{Value as Json, json};

use super::{
    super::{rows, schema},
    *,
};
use crate::documents::{PatientDoc, PatientState};

const PATIENTS: u32 = 60_000;

/// Steps of SQLite's machine for one row that is looked at; some thirty are usual.
const STEPS: usize = 60;

const LIMIT: usize = 100;

const G: Generation = Generation(1);

/// Patients by id: every second one is a tombstone, two names of three are common, a birth
/// date is one of 60 years, and one gender is rare.
fn filled() -> Connection {
    let mut connection = Connection::open_in_memory().unwrap();
    schema::prepare(&mut connection).unwrap();
    schema::make(&connection, G).unwrap();
    let transaction = connection.transaction().unwrap();
    let sql = format!(
        "INSERT INTO patients_g1 ({PATIENT}) VALUES
         (?1, 1, ?2, ?3, 1, 1, ?4, ?5, ?6, ?7, ?8, ?8, ?9, ?10, ?11)"
    );
    let mut insert = transaction.prepare(&sql).unwrap();
    for i in 0..PATIENTS {
        let active = i % 2 == 0;
        let some = |text: String| active.then_some(text);
        let gender = if i % 10_000 == 0 { "other" } else { ["male", "female"][i as usize % 4 / 2] };
        let name =
            |every: u32| if i % 3 == 0 { "COMMON".into() } else { format!("N{}", i % every) };
        let born = format!("{}-{:02}-{:02}", 1940 + i % 61, i % 12 + 1, i % 28 + 1);
        insert
            .execute(params![
                id(i),
                if active { "active" } else { "removed" },
                some(id(i)),
                some(name(500)),
                some(name(700)),
                some(format!("F{i}")),
                some(gender.to_owned()),
                some(born),
                some(format!("{:04}", i % 1_000)),
                some(format!("I{i}")),
                some(format!("C{i}")),
            ])
            .unwrap();
    }
    drop(insert);
    transaction.commit().unwrap();
    connection
}

/// An id whose order is not that of the numbers.
fn id(i: u32) -> String {
    let mixed = i.wrapping_mul(0x9E37_79B1);
    uuid::Uuid::from_u128(u128::from(mixed) << 96 | u128::from(i)).to_string()
}

fn criteria(body: &Json) -> SearchCriteria {
    SearchCriteria::from_body(body.as_object().unwrap()).unwrap()
}

fn plan(connection: &Connection, query: &Query) -> Vec<String> {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {}", query.sql)).unwrap();
    let rows = statement.query_map(params_from_iter(&query.values), |row| row.get("detail"));
    rows.unwrap().map(Result::unwrap).collect()
}

/// The ids that a query finds, and the steps that it took.
fn ids(connection: &Connection, query: &Query) -> (Vec<String>, usize) {
    let mut statement = connection.prepare(&query.sql).unwrap();
    let rows = statement.query_map(params_from_iter(&query.values), |row| row.get(0)).unwrap();
    let ids = rows.map(Result::unwrap).collect();
    (ids, usize::try_from(statement.get_status(StatementStatus::VmStep)).unwrap())
}

/// All patients by id.
fn all(connection: &Connection) -> Vec<PatientDoc> {
    let sql = format!("SELECT {PATIENT} FROM patients_g1 NOT INDEXED ORDER BY id");
    Query::new(sql).all(connection, G, rows::patient).unwrap()
}

/// The ids of those that match.
fn model(all: &[PatientDoc], criteria: &SearchCriteria) -> Vec<String> {
    let fits = |document: &&PatientDoc| match &document.state {
        PatientState::Active { current, .. } => criteria.matches(document.id, &current.content),
        _ => false,
    };
    all.iter().filter(fits).map(|it| text(it.id)).collect()
}

/// Checks a search: its results, page by page, what leads to them, and that no page looks at
/// more than `rows` rows.
#[track_caller]
fn check(connection: &Connection, all: &[PatientDoc], body: &Json, index: &str, rows: usize) {
    let criteria = criteria(body);
    let mut found = Vec::new();
    loop {
        let after = found.last().map(|id: &String| id.parse().unwrap());
        let query = query(connection, G, &criteria, after, LIMIT).unwrap();
        let plan = plan(connection, &query);
        assert!(plan.iter().any(|step| step.contains(index)), "{body}: {plan:?}");
        assert!(!plan.iter().any(|step| step.starts_with("SCAN")), "{body}: {plan:?}");
        let sorts = plan.iter().any(|step| step.contains("TEMP B-TREE"));
        assert_eq!(sorts, index.ends_with("birth_day"), "{body}: {plan:?}");
        let (ids, steps) = ids(connection, &query);
        assert!(steps < STEPS * (rows + LIMIT), "{body}: {steps} steps");
        if ids.is_empty() {
            break;
        }
        found.extend(ids);
        // The first pages and the last one tell enough.
        if found.len() == 3 * LIMIT {
            let all = model(all, &criteria);
            assert_eq!(found, all[..found.len()]);
            found = all[..all.len() - LIMIT / 2].to_vec();
        }
    }
    assert!(found == model(all, &criteria), "{body}");
}

#[test]
fn every_search_is_led_by_an_index_and_looks_at_little() {
    let connection = filled();
    let all = all(&connection);
    let someone = id(30_000);
    for (body, index, rows) in [
        (json!({}), "patients_g1_gender", LIMIT),
        (json!({ "id": someone }), "PRIMARY KEY", 1),
        (json!({ "id": someone, "gender": "male", "lastName": "COMMON" }), "PRIMARY KEY", 1),
        (json!({ "id": id(1) }), "PRIMARY KEY", 1),
        (json!({ "insuranceNumber": "I30000" }), "patients_g1_insurance_number", 1),
        (json!({ "preferredContactNumber": "C30000" }), "patients_g1_preferred_contact_number", 1),
        (json!({ "fullName": "F30000" }), "patients_g1_full_name", 1),
        (json!({ "lastName": "N2" }), "patients_g1_last_name", LIMIT),
        (json!({ "lastName": "COMMON" }), "patients_g1_last_name", LIMIT),
        (json!({ "firstName": "N2" }), "patients_g1_first_name", LIMIT),
        (json!({ "postCode": "0002" }), "patients_g1_post_code", LIMIT),
        (json!({ "gender": "male" }), "patients_g1_gender", LIMIT),
        (json!({ "gender": "other" }), "patients_g1_gender", LIMIT),
        (json!({ "gender": "unknown" }), "patients_g1_gender", LIMIT),
        (json!({ "gender": "male", "insuranceNumber": "I30000" }), "insurance_number", 1),
        (json!({ "gender": "female", "lastName": "N2" }), "patients_g1_last_name", LIMIT),
        (json!({ "postCode": "0000", "firstName": "COMMON" }), "patients_g1_post_code", 2 * LIMIT),
        // Led by the range where hardly anybody is born then.
        (
            json!({ "lastName": "COMMON", "dateOfBirthFrom": "1950-06-01",
            "dateOfBirthTo": "1950-06-30" }),
            "patients_g1_birth_day",
            LIMIT,
        ),
        (json!({ "lastName": "N2", "dateOfBirthFrom": "1950" }), "patients_g1_last_name", LIMIT),
        (
            json!({ "dateOfBirthFrom": "1950-06-01", "dateOfBirthTo": "1950-06-30" }),
            "patients_g1_birth_day",
            LIMIT,
        ),
        (json!({ "dateOfBirthTo": "1939" }), "patients_g1_birth_day", 1),
        (json!({ "dateOfBirthFrom": "2001" }), "patients_g1_birth_day", 1),
        (json!({ "dateOfBirthFrom": "1960", "dateOfBirthTo": "1959" }), "patients_g1_birth_day", 1),
        (
            json!({ "dateOfBirthFrom": "1980", "dateOfBirthTo": "1999", "gender": "other" }),
            "patients_g1_birth_day",
            NARROW as usize,
        ),
        (
            json!({ "dateOfBirthFrom": "1980", "dateOfBirthTo": "1999" }),
            "patients_g1_birth_day",
            NARROW as usize,
        ),
    ] {
        check(&connection, &all, &body, index, rows);
    }
}

/// More than [`NARROW`] are born then: sorting them for every page would cost more.
#[test]
fn a_wide_range_of_birth_dates_is_walked_by_id() {
    let connection = filled();
    let all = all(&connection);
    for body in [
        json!({ "dateOfBirthFrom": "1945" }),
        json!({ "dateOfBirthFrom": "1945", "dateOfBirthTo": "1999" }),
        json!({ "dateOfBirthFrom": "1945", "gender": "female" }),
    ] {
        let query = query(&connection, G, &criteria(&body), None, LIMIT).unwrap();
        let plan = plan(&connection, &query);
        assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{body}: {plan:?}");
        let steps = ids(&connection, &query).1;
        assert!(steps < STEPS * 2 * LIMIT, "{body}: {steps} steps");
        let after = ids(&connection, &query).0.last().map(|id| id.parse().unwrap());
        let next = super::query(&connection, G, &criteria(&body), after, LIMIT).unwrap();
        let found = [ids(&connection, &query).0, ids(&connection, &next).0].concat();
        assert_eq!(found, model(&all, &criteria(&body))[..2 * LIMIT]);
    }
}
