//! Without the audit service's acknowledgement nothing happens and nothing is shown.

use audit_service::store::memory::AppendFault;
use http::{Method, StatusCode};
use serde_json::json;

use crate::{
    harness::{System, text},
    samples,
};

#[tokio::test]
async fn without_the_audit_service_everything_fails_closed() {
    let mut system = System::start().await;
    let created = system.registered(&samples::patient()).await;
    let path = format!("/patient/{}", text(&created, "id"));
    let tests = format!("{path}/tests");
    let records = system.records().len();
    system.stop_audit().await;

    let amended = samples::moved(&created, "4321");
    for (method, path, body) in [
        (Method::POST, "/patient", samples::patient()),
        (Method::PUT, path.as_str(), amended),
        (Method::DELETE, path.as_str(), json!(null)),
        (Method::POST, tests.as_str(), samples::test()),
        (Method::GET, path.as_str(), json!(null)),
        (Method::GET, tests.as_str(), json!(null)),
        (Method::POST, "/patient/search", json!({})),
    ] {
        for key in [None, Some("k1")] {
            let mut request = system.request(method.clone(), path).json(&body);
            if let Some(key) = key {
                request = request.header("idempotency-key", key);
            }
            let answer = request.send().await.expect(StatusCode::SERVICE_UNAVAILABLE);
            // Of a command with a key an earlier try may be stored, and nobody can look.
            let command = method != Method::GET && !path.ends_with("/search");
            let outcome = if command && key.is_some() { "unknown" } else { "nothingStored" };
            assert_eq!(answer.body["outcome"], outcome, "{method} {path} {key:?}");
            assert!(!answer.header("retry-after").is_empty());
            assert!(!answer.text.contains("JANE"), "no data leaves");
            assert!(answer.receipt().is_empty());
        }
    }

    system.start_audit().await;
    assert_eq!(system.records().len(), records);
    let loaded = system.get(&path).await.expect(StatusCode::OK);
    assert_eq!(loaded.body, created);
    assert_eq!(system.get(&tests).await.expect(StatusCode::OK).body, json!([]));
    let found = system.post("/patient/search", &json!({})).await.expect(StatusCode::OK);
    assert_eq!(found.body, json!([created]));
}

#[tokio::test]
async fn a_store_that_refuses_stores_nothing_and_shows_nothing() {
    let system = System::start().await;
    let path = system.any_patient().await;
    system.ledger.fail_append(AppendFault::Refuse);
    let answer = system.get(&path).await.expect(StatusCode::SERVICE_UNAVAILABLE);
    assert!(!answer.text.contains("JANE"));
    system.get(&path).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_block_without_a_majority_is_answered_when_it_has_one() {
    let system = System::start().await;
    let post = || {
        let request = system.request(Method::POST, "/patient").header("idempotency-key", "k1");
        request.json(&samples::patient()).send()
    };
    system.ledger.fail_append(AppendFault::Hide);
    let unknown = post().await.expect(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(unknown.body["outcome"], "unknown");
    assert_eq!(system.records().len(), 0);
    system.ledger.reveal();
    let created = post().await.expect(StatusCode::CREATED);
    assert!(created.receipt().starts_with("seq=0, "));
    assert_eq!(system.records().len(), 1);
}

#[tokio::test]
async fn readiness_names_what_is_missing() {
    let mut system = System::start().await;
    system.stop_audit().await;
    let url = format!("{}/readyz", system.patients[0].url);
    let wait = async {
        loop {
            let answer = reqwest::get(&url).await.unwrap();
            let status = answer.status();
            let body: serde_json::Value = answer.json().await.unwrap();
            if status == StatusCode::SERVICE_UNAVAILABLE {
                return body;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let body = tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.unwrap();
    assert_ne!(body["components"]["audit service"], "ready");
    assert_eq!(body["components"]["projection store"], "ready");
}
