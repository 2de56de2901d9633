//! A read model that lags is never believed.

use domain::record::RecordType;
use http::{Method, StatusCode};
use projections::store::memory::Fault;
use serde_json::json;

use crate::{
    harness::{System, text},
    samples,
};

/// More applies than the commands of a test cause.
const EVERY: usize = 1_000;

#[tokio::test]
async fn reads_and_commands_go_on_from_the_ledger() {
    let system = System::start().await;
    system.store.fail_applies(Fault::Before, EVERY);
    let created = system.post("/patient", &samples::patient()).await.expect(StatusCode::CREATED);
    assert_eq!(created.header("x-projection"), "pending");
    let path = format!("/patient/{}", text(&created.body, "id"));

    // The read model has never heard of her.
    let loaded = system.get(&path).await.expect(StatusCode::OK);
    assert_eq!(loaded.body, created.body);
    let reads = system.records_of(RecordType::PatientRead);
    assert_eq!(reads.last().unwrap().version, Some(1));
    assert!(loaded.receipt().starts_with(&format!("seq={}, ", reads.last().unwrap().seq)));

    let body = samples::moved(&created.body, "4321");
    let amended = system.put(&path, &body).await.expect(StatusCode::OK);
    assert_eq!(amended.header("etag"), "\"2\"");
    assert_eq!(amended.header("x-projection"), "pending");
    assert_eq!(system.get(&path).await.expect(StatusCode::OK).body, amended.body);

    let tests = format!("{path}/tests");
    let test = system.post(&tests, &samples::test()).await.expect(StatusCode::CREATED);
    assert_eq!(system.get(&tests).await.expect(StatusCode::OK).body, json!([test.body]));
    let test_path = format!("{tests}/{}", text(&test.body, "id"));
    assert_eq!(system.get(&test_path).await.expect(StatusCode::OK).body, test.body);
    system.delete(&test_path).await.expect(StatusCode::NO_CONTENT);
    system.get(&test_path).await.expect(StatusCode::NOT_FOUND);
    assert_eq!(system.get(&tests).await.expect(StatusCode::OK).body, json!([]));

    system.delete(&path).await.expect(StatusCode::NO_CONTENT);
    system.get(&path).await.expect(StatusCode::NOT_FOUND);
    system.put(&path, &body).await.expect(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_condition_is_held_against_the_ledger() {
    let system = System::start().await;
    let created = system.registered(&samples::patient()).await;
    let path = format!("/patient/{}", text(&created, "id"));
    system.store.fail_applies(Fault::Before, 1);
    let put = |if_match: &str, post_code: &str| {
        let request = system.request(Method::PUT, &path).header("if-match", if_match);
        request.json(&samples::moved(&created, post_code)).send()
    };
    put("\"1\"", "0001").await.expect(StatusCode::OK);
    // The read model still has revision 1.
    put("\"1\"", "0002").await.expect(StatusCode::PRECONDITION_FAILED);
    put("\"2\"", "0003").await.expect(StatusCode::OK);
    assert_eq!(system.get(&path).await.body["postCode"], "0003");
}

#[tokio::test]
async fn a_half_written_change_is_not_shown_as_an_old_version() {
    let system = System::start().await;
    let path = system.any_patient().await;
    let tests = format!("{path}/tests");
    system.store.fail_applies(Fault::TestsOnly, 1);
    let test = system.post(&tests, &samples::test()).await.expect(StatusCode::CREATED);
    assert_eq!(test.header("x-projection"), "pending");
    let listed = system.get(&tests).await.expect(StatusCode::OK);
    assert_eq!(listed.body, json!([test.body]));
    let accesses = system.records_of(RecordType::TestsListed);
    assert_eq!(accesses.last().unwrap().version, Some(2));
}

#[tokio::test]
async fn a_later_command_repairs_what_an_earlier_one_could_not_apply() {
    let system = System::start().await;
    let created = system.registered(&samples::patient()).await;
    let path = format!("/patient/{}", text(&created, "id"));
    system.store.fail_applies(Fault::Before, 1);
    system.put(&path, &samples::moved(&created, "0001")).await.expect(StatusCode::OK);
    let test = system.post(&format!("{path}/tests"), &samples::test()).await;
    let test = test.expect(StatusCode::CREATED);
    assert_eq!(test.header("x-projection"), "");
    let search = json!({"id": created["id"], "postCode": "0001"});
    let found = system.post("/patient/search", &search).await.expect(StatusCode::OK);
    assert_eq!(found.body.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_store_that_hangs_makes_a_command_pending_in_time() {
    let counted = || {
        let metrics = runtime::metrics::process().text().unwrap();
        let line =
            metrics.lines().find_map(|it| it.strip_prefix("vitalog_projection_pending_total "));
        line.expect("it is shown from the start").parse::<u64>().unwrap()
    };
    let system = System::start().await;
    let before = counted();
    system.store.fail_applies(Fault::Hang, 1);
    let created = system.post("/patient", &samples::patient()).await.expect(StatusCode::CREATED);
    assert_eq!(created.header("x-projection"), "pending");
    assert!(counted() > before);
}
