//! One command, one effect, however often it is sent.

use domain::record::RecordType;
use http::{Method, StatusCode};

use crate::{
    harness::{Answer, Request, System, text},
    lossy::Lossy,
    samples,
};

fn keyed(system: &System, method: Method, path: &str, key: &str) -> Request {
    system.request(method, path).header("idempotency-key", key)
}

#[track_caller]
fn assert_same(one: &Answer, two: &Answer) {
    assert_eq!(one.status, two.status);
    assert_eq!(one.body, two.body);
    for name in ["audit-receipt", "etag", "location", "content-type"] {
        assert_eq!(one.header(name), two.header(name), "{name}");
    }
}

#[tokio::test]
async fn a_command_sent_again_gets_the_first_answer_and_has_one_effect() {
    let system = System::start().await;
    let post = || keyed(&system, Method::POST, "/patient", "k1").json(&samples::patient()).send();
    let created = post().await.expect(StatusCode::CREATED);
    assert_same(&created, &post().await);

    let path = format!("/patient/{}", text(&created.body, "id"));
    let body = samples::moved(&created.body, "4321");
    let put = || keyed(&system, Method::PUT, &path, "k1").json(&body).send();
    let amended = put().await.expect(StatusCode::OK);
    // Later changes do not show in the answer to an earlier command.
    system.put(&path, &samples::moved(&created.body, "9999")).await.expect(StatusCode::OK);
    assert_same(&amended, &put().await);
    assert_same(&created, &post().await);

    let tests = format!("{path}/tests");
    let record = || keyed(&system, Method::POST, &tests, "k1").json(&samples::test()).send();
    let recorded = record().await.expect(StatusCode::CREATED);
    assert_same(&recorded, &record().await);

    let test_path = format!("{tests}/{}", text(&recorded.body, "id"));
    for path in [&test_path, &path] {
        let remove = || keyed(&system, Method::DELETE, path, "k1").send();
        let removed = remove().await.expect(StatusCode::NO_CONTENT);
        assert_same(&removed, &remove().await);
    }
    assert_same(&created, &post().await);
    let types: Vec<_> = system.records().iter().map(|record| record.record_type).collect();
    assert_eq!(
        types,
        [
            RecordType::PatientRegistered,
            RecordType::PatientAmended,
            RecordType::PatientAmended,
            RecordType::TestRecorded,
            RecordType::TestRemoved,
            RecordType::PatientRemoved,
        ]
    );
}

/// While the command key is rotated, instances name commands under different keys.
#[tokio::test]
async fn a_command_sent_again_is_known_under_the_key_before() {
    let mut system = System::start().await;
    for keys in [&['c', 'd'][..], &['d', 'c'], &['d']] {
        system.add_instance_keyed(keys).await;
    }
    let [only_old, both, rotated, only_new] = [0, 1, 2, 3];
    let post = async |at: usize, key: &str| {
        let request = system.request_to(at, Method::POST, "/patient");
        request.header("idempotency-key", key).json(&samples::patient()).send().await
    };
    let first = post(only_old, "k1").await.expect(StatusCode::CREATED);
    assert_same(&first, &post(both, "k1").await);
    assert_same(&first, &post(rotated, "k1").await);
    let second = post(rotated, "k2").await.expect(StatusCode::CREATED);
    assert_same(&second, &post(both, "k2").await);
    assert_same(&second, &post(only_new, "k2").await);
    assert_eq!(system.records().len(), 2);
    // Under another body it is still the client's mistake.
    let other = samples::moved(&samples::patient(), "9999");
    let request = system.request_to(rotated, Method::POST, "/patient");
    let reused = request.header("idempotency-key", "k1").json(&other).send().await;
    reused.expect(StatusCode::UNPROCESSABLE_ENTITY);
    // Without the key before, nobody knows that it was sent already.
    post(only_new, "k1").await.expect(StatusCode::CREATED);
    assert_eq!(system.records().len(), 3);
}

#[tokio::test]
async fn a_key_used_again_with_another_body_is_refused() {
    let system = System::start().await;
    let post = |body| keyed(&system, Method::POST, "/patient", "k1").json(&body).send();
    let created = post(samples::patient()).await.expect(StatusCode::CREATED);
    let other = samples::moved(&samples::patient(), "9999");
    post(other).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    let invalid = serde_json::json!({"firstName": 1});
    post(invalid).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(system.records().len(), 1);

    // The same key of another client, or for another path, is another command.
    let actor = r#"{"id":"other-clinic","kind":"subscription"}"#;
    let request = keyed(&system, Method::POST, "/patient", "k1").json(&samples::patient());
    let mut request = request.0.build().unwrap();
    request.headers_mut().insert(runtime::headers::ACTOR_HEADER, actor.parse().unwrap());
    let answer = reqwest::Client::new().execute(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    let path = format!("/patient/{}/tests", text(&created.body, "id"));
    let answer = keyed(&system, Method::POST, &path, "k1").json(&samples::test()).send().await;
    answer.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn two_of_the_same_command_at_once_have_one_effect() {
    let system = System::with_instances(2).await;
    let posts = (0..20).map(|turn| {
        system
            .request_to(turn % 2, Method::POST, "/patient")
            .header("idempotency-key", "k1")
            .json(&samples::patient())
            .send()
    });
    let answers = futures::future::join_all(posts).await;
    for answer in &answers {
        assert_same(&answers[0], answer);
    }
    assert_eq!(answers[0].status, StatusCode::CREATED);
    assert_eq!(system.records().len(), 1);
    let id = text(&answers[0].body, "id");
    assert_eq!(system.get(&format!("/patient/{id}")).await.body, answers[0].body);
}

#[tokio::test]
async fn an_answer_lost_between_services_does_not_double_the_effect() {
    let mut system = System::with_instances(0).await;
    let (lossy, url) = Lossy::start(&system.audit.url).await;
    system.add_instance(&url).await;
    lossy.lose(1);
    let created = system.post("/patient", &samples::patient()).await.expect(StatusCode::CREATED);
    assert_eq!(system.records_of(RecordType::PatientRegistered).len(), 1);
    let path = format!("/patient/{}", text(&created.body, "id"));
    assert_eq!(system.get(&path).await.expect(StatusCode::OK).body, created.body);

    lossy.lose(1);
    let body = samples::moved(&created.body, "4321");
    let amended = system.put(&path, &body).await.expect(StatusCode::OK);
    assert_eq!(amended.header("etag"), "\"2\"");
    lossy.lose(1);
    system.delete(&path).await.expect(StatusCode::NO_CONTENT);
    assert_eq!(system.records_of(RecordType::PatientAmended).len(), 1);
    assert_eq!(system.records_of(RecordType::PatientRemoved).len(), 1);
}

#[tokio::test]
async fn a_command_of_unknown_outcome_is_learnt_by_sending_it_again() {
    let mut system = System::with_instances(0).await;
    let (lossy, url) = Lossy::start(&system.audit.url).await;
    system.add_instance(&url).await;
    let post = || keyed(&system, Method::POST, "/patient", "k1").json(&samples::patient()).send();
    lossy.lose(usize::MAX);
    let unknown = post().await.expect(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(unknown.body["outcome"], "unknown");
    assert!(text(&unknown.body, "detail").contains("same Idempotency-Key"));
    assert!(!unknown.header("retry-after").is_empty());
    lossy.lose(0);
    let created = post().await.expect(StatusCode::CREATED);
    assert!(created.receipt().starts_with("seq=0, "), "the first try's receipt");
    assert_same(&created, &post().await);
    assert_eq!(system.records().len(), 1);
    let path = format!("/patient/{}", text(&created.body, "id"));
    assert_eq!(system.get(&path).await.expect(StatusCode::OK).body, created.body);
}

#[tokio::test]
async fn only_an_id_made_for_this_request_is_said_to_be_fresh() {
    let mut system = System::with_instances(0).await;
    let (lossy, url) = Lossy::start(&system.audit.url).await;
    system.add_instance(&url).await;
    let post = || keyed(&system, Method::POST, "/patient", "k1").json(&samples::patient()).send();
    post().await.expect(StatusCode::CREATED);
    post().await.expect(StatusCode::CREATED);
    assert_eq!(lossy.fresh(), 0);
    system.registered(&samples::patient()).await;
    assert_eq!(lossy.fresh(), 1);
}
