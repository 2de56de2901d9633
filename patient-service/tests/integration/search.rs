//! Searching over HTTP.

use std::collections::HashSet;

use domain::{actor::Outcome, record::RecordType};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    harness::{System, id, text},
    samples,
};

#[tokio::test]
async fn a_search_finds_what_matches_at_once_and_is_recorded_with_whom_it_showed() {
    let system = System::start().await;
    let one = system.registered(&samples::patient()).await;
    let path = format!("/patient/{}", text(&one, "id"));
    let search = async |criteria: Value| system.post("/patient/search", &criteria).await;

    let found = search(json!({"id": one["id"]})).await.expect(StatusCode::OK);
    assert_eq!(found.body, json!([one]));
    let record = system.records().pop().unwrap();
    assert_eq!(record.record_type, RecordType::PatientsSearched);
    assert_eq!((record.outcome, record.subjects), (Outcome::Success, vec![id(&one)]));
    assert!(record.data.is_some() && record.stream.is_none());
    assert!(found.receipt().starts_with(&format!("seq={}, ", record.seq)));

    let day = json!({"dateOfBirthFrom": "1980-07-14", "dateOfBirthTo": "1980-07-14"});
    search(day.clone()).await.expect(StatusCode::OK);
    let mut body = one.clone();
    body["dateOfBirth"] = "1981".into();
    system.put(&path, &body).await.expect(StatusCode::OK);
    let missed = search(day).await.expect(StatusCode::NOT_FOUND);
    assert_eq!(missed.body["message"], "No patients found with provided criteria");
    let record = system.records().pop().unwrap();
    assert_eq!((record.outcome, record.subjects), (Outcome::NotFound, vec![]));
    assert!(missed.receipt().starts_with(&format!("seq={}, ", record.seq)));
    search(json!({"dateOfBirthFrom": "1981"})).await.expect(StatusCode::OK);

    system.delete(&path).await.expect(StatusCode::NO_CONTENT);
    search(json!({})).await.expect(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn pages_link_to_the_next_and_cover_everybody_once() {
    let system = System::start().await;
    let mut expected = HashSet::new();
    for _ in 0..5 {
        expected.insert(text(&system.registered(&samples::patient()).await, "id").to_owned());
    }
    let mut seen = Vec::new();
    let mut query = "?limit=2".to_owned();
    loop {
        let answer = system.post(&format!("/patient/search{query}"), &json!({})).await;
        let answer = answer.expect(StatusCode::OK);
        let page: Vec<_> = answer.body.as_array().unwrap().iter().map(|p| text(p, "id")).collect();
        assert!(page.len() <= 2);
        seen.extend(page.into_iter().map(str::to_owned));
        let link = answer.header("link");
        if link.is_empty() {
            break;
        }
        let target = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap();
        query = target.to_owned();
    }
    assert!(seen.is_sorted(), "ordered by id");
    assert_eq!(seen.len(), 5);
    assert_eq!(seen.into_iter().collect::<HashSet<_>>(), expected);
}

#[tokio::test]
async fn bad_searches_are_refused_and_leave_no_record() {
    let system = System::start().await;
    for query in ["?limit=0", "?limit=1001", "?limit=x", "?cursor=x", "?limit=1&limit=2"] {
        let answer = system.post(&format!("/patient/search{query}"), &json!({})).await;
        answer.expect(StatusCode::BAD_REQUEST);
    }
    for criteria in [json!({"firstName": {"$ne": ""}}), json!({"x": "y"}), json!({"id": "1"})] {
        system.post("/patient/search", &criteria).await.expect(StatusCode::BAD_REQUEST);
    }
    let answer = system.request(Method::GET, "/patient/search").send().await;
    answer.expect(StatusCode::METHOD_NOT_ALLOWED);
    assert!(system.records().is_empty());
}

#[tokio::test]
async fn what_is_given_twice_is_named_and_not_repeated() {
    let system = System::start().await;
    let path = system.any_patient().await;
    let before = system.records().len();
    let history = format!("{path}/history");
    for (method, path) in [(Method::POST, "/patient/search"), (Method::GET, &*history)] {
        for name in ["limit", "cursor"] {
            let query = format!("{path}?{name}=plum&x=1&{name}=pluot");
            let request = system.request(method.clone(), &query).json(&json!({}));
            let answer = request.send().await.expect(StatusCode::BAD_REQUEST);
            assert_eq!(answer.body["detail"], format!("{name} must be given at most once"));
            assert!(!answer.text.contains("plu"), "{}", answer.text);
        }
    }
    assert_eq!(system.records().len(), before);
}
