//! Real input: a cohort of FHIR bundles through the public API and back.

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use tests::{
    fhir::{self, Case},
    http::Api,
    samples::{a_place, expect_content, id_of},
    system::{Store, System},
};

/// Clients at once.
const CLIENTS: usize = 16;

/// A case as the system knows it.
struct Stored {
    patient: Value,
    tests: Vec<Value>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cohort_is_loaded_and_read_back_equal_on_sqlite() {
    let _place = a_place().await;
    load_and_read_back(System::standalone(Store::Sqlite).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cohort_is_loaded_and_read_back_equal_on_mongodb() {
    let _place = a_place().await;
    load_and_read_back(System::standalone(Store::shared_mongo().await).await).await;
}

async fn load_and_read_back(system: System) {
    let clinic = system.clinic();
    let cohort = fhir::cohort().unwrap();
    let observations: usize = cohort.iter().flat_map(|case| &case.tests).map(observations_of).sum();
    assert_eq!((cohort.len(), observations), (200, 5_200));

    let stored: Vec<Stored> = stream::iter(cohort)
        .map(|case| Ok::<_, ()>(load(clinic.clone(), case)))
        .try_buffer_unordered(CLIENTS)
        .try_collect()
        .await
        .unwrap();
    stream::iter(&stored)
        .for_each_concurrent(CLIENTS, |case| read_back(clinic.clone(), case))
        .await;
    search_as_the_model_does(&clinic, &stored).await;
    system.equals_its_rebuild().await;
    system.finish().await;
}

fn observations_of(test: &Value) -> usize {
    test["observations"].as_array().unwrap().len()
}

async fn load(clinic: Api, case: Case) -> Result<Stored, ()> {
    let patient = clinic.post("/patient", &case.patient).await.expect(201).json();
    expect_content(&patient, &case.patient);
    let path = format!("/patient/{}/tests", id_of(&patient));
    let mut tests = Vec::new();
    for sent in &case.tests {
        let test = clinic.post(&path, sent).await.expect(201).json();
        expect_content(&test, sent);
        tests.push(test);
    }
    Ok(Stored { patient, tests })
}

async fn read_back(clinic: Api, case: &Stored) {
    let path = format!("/patient/{}", id_of(&case.patient));
    assert_eq!(clinic.get(&path).await.expect(200).json(), case.patient);
    let list = clinic.get(&format!("{path}/tests")).await.expect(200).json();
    assert_eq!(list, json!(case.tests));
    for test in &case.tests {
        let read = clinic.get(&format!("{path}/tests/{}", id_of(test))).await.expect(200);
        assert_eq!(read.json(), *test);
    }
}

async fn search_as_the_model_does(clinic: &Api, stored: &[Stored]) {
    let mut searches = Vec::new();
    for (from, to) in [("1932", "1950-06-30"), ("1972-10-22", "1972-10-22"), ("1990-01", "2007")] {
        searches.push(json!({"dateOfBirthFrom": from, "dateOfBirthTo": to}));
        searches.push(json!({"dateOfBirthFrom": from, "gender": "male"}));
    }
    for case in stored.iter().step_by(9) {
        let patient = &case.patient;
        searches.push(json!({"fullName": patient["fullName"]}));
        searches.push(json!({"lastName": patient["lastName"], "gender": "female"}));
        searches.push(json!({"insuranceNumber": patient["insuranceNumber"]}));
    }
    searches.push(json!({}));
    for criteria in searches {
        let mut expected: Vec<&Value> =
            stored.iter().map(|case| &case.patient).filter(|it| matches(&criteria, it)).collect();
        expected.sort_unstable_by_key(|patient| id_of(patient));
        let answer = clinic.post("/patient/search", &criteria).await;
        if expected.is_empty() {
            answer.problem(404);
        } else {
            assert_eq!(answer.expect(200).json(), json!(expected), "{criteria}");
        }
    }
}

/// Written anew from the contract: all births of the cohort are whole days, so that texts compare
/// like days.
fn matches(criteria: &Value, patient: &Value) -> bool {
    let born = patient["dateOfBirth"].as_str().unwrap();
    criteria.as_object().unwrap().iter().all(|(name, asked)| {
        let first_day = |text: &str| format!("{text}-01-01")[..10].to_owned();
        match (name.as_str(), asked.as_str().unwrap()) {
            ("dateOfBirthFrom", from) => *born >= *first_day(from),
            ("dateOfBirthTo", to) => *born <= *first_day(to),
            (_, asked) => patient[name] == asked,
        }
    })
}
