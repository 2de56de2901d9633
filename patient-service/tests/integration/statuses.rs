//! The contract's status table.

use http::{Method, StatusCode};
use runtime::service_keys::SERVICE_KEY_HEADER;
use serde_json::{Value, json};

use crate::{
    harness::{OTHER_KEY, System, text},
    samples::{self, UNKNOWN},
};

#[tokio::test]
async fn a_patient_goes_through_her_life() {
    let system = System::start().await;
    let created = system.post("/patient", &samples::patient()).await.expect(StatusCode::CREATED);
    let path = format!("/patient/{}", text(&created.body, "id"));
    assert_eq!(created.header("location"), path);
    assert_eq!(created.header("etag"), "\"1\"");
    assert_eq!(created.body["firstName"], "JANE");
    assert!(created.receipt().starts_with("seq=0, hash=\""), "{}", created.receipt());

    let loaded = system.get(&path).await.expect(StatusCode::OK);
    assert_eq!(loaded.body, created.body);
    assert_eq!(loaded.header("etag"), "\"1\"");
    assert!(loaded.receipt().starts_with("seq=1, "));

    // What is left out is removed.
    let mut body = samples::moved(&loaded.body, "9999");
    body.as_object_mut().unwrap().remove("insuranceNumber");
    let amended = system.put(&path, &body).await.expect(StatusCode::OK);
    assert_eq!(amended.body["postCode"], "9999");
    assert_eq!(amended.body["insuranceNumber"], Value::Null);
    assert_eq!(amended.header("etag"), "\"2\"");
    assert_eq!(system.get(&path).await.expect(StatusCode::OK).body, amended.body);

    let removed = system.delete(&path).await.expect(StatusCode::NO_CONTENT);
    assert!(removed.text.is_empty());
    assert!(removed.receipt().starts_with("seq=4, "));
    let gone = system.get(&path).await.expect(StatusCode::NOT_FOUND);
    assert!(gone.receipt().starts_with("seq=5, "), "not-found reads are recorded");
    assert_eq!(gone.body["message"], "Patient not found");
    system.put(&path, &body).await.expect(StatusCode::NOT_FOUND);
    system.delete(&path).await.expect(StatusCode::NOT_FOUND);
    system.post(&format!("{path}/tests"), &samples::test()).await.expect(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_test_goes_through_its_life() {
    let system = System::start().await;
    let patient = system.any_patient().await;
    let tests = format!("{patient}/tests");
    assert_eq!(system.get(&tests).await.expect(StatusCode::OK).body, json!([]));

    let created = system.post(&tests, &samples::test()).await.expect(StatusCode::CREATED);
    let path = format!("{tests}/{}", text(&created.body, "id"));
    assert_eq!(created.header("location"), path);
    assert_eq!(format!("/patient/{}", text(&created.body, "patientId")), patient);
    assert_eq!(created.body["observations"], samples::test()["observations"]);
    assert_eq!(system.get(&path).await.expect(StatusCode::OK).body, created.body);
    assert_eq!(system.get(&tests).await.body, json!([created.body]));

    let second = system.post(&tests, &samples::test()).await.expect(StatusCode::CREATED);
    assert_eq!(system.get(&tests).await.body, json!([created.body, second.body]));

    let mut body = created.body.clone();
    body["performer"] = "Laboratory 8".into();
    let amended = system.put(&path, &body).await.expect(StatusCode::OK);
    assert_eq!(amended.body["performer"], "Laboratory 8");
    assert_eq!(system.get(&path).await.body, amended.body);
    assert_eq!(system.get(&tests).await.body, json!([amended.body, second.body]));

    system.delete(&path).await.expect(StatusCode::NO_CONTENT);
    let gone = system.get(&path).await.expect(StatusCode::NOT_FOUND);
    assert_eq!(gone.body["message"], "Test not found.");
    system.put(&path, &body).await.expect(StatusCode::NOT_FOUND);
    system.delete(&path).await.expect(StatusCode::NOT_FOUND);
    assert_eq!(system.get(&tests).await.body, json!([second.body]));
}

#[tokio::test]
async fn ids_that_are_none_are_not_found_except_for_a_new_test() {
    let system = System::start().await;
    let patient = system.any_patient().await;
    let records = system.records().len();
    for path in
        ["/patient/1", "/patient/1/tests", "/patient/%ff", &format!("/patient/1/tests/{UNKNOWN}")]
    {
        let answer = system.get(path).await.expect(StatusCode::NOT_FOUND);
        assert_eq!(answer.body["message"], "Patient not found", "{path}");
    }
    for path in ["/patient/1", &format!("/patient/1/tests/{UNKNOWN}")] {
        system.put(path, &samples::patient()).await.expect(StatusCode::NOT_FOUND);
        system.delete(path).await.expect(StatusCode::NOT_FOUND);
    }
    let test = format!("{patient}/tests/1");
    let answer = system.get(&test).await.expect(StatusCode::NOT_FOUND);
    assert_eq!(answer.body["message"], "Test not found.");
    system.put(&test, &samples::test()).await.expect(StatusCode::NOT_FOUND);
    let answer = system.post("/patient/1/tests", &samples::test()).await;
    let answer = answer.expect(StatusCode::BAD_REQUEST);
    assert_eq!(answer.body["detail"], "\"patientId\" must be a valid GUID");
    assert_eq!(system.records().len(), records);
}

#[tokio::test]
async fn unknown_patients_and_tests_are_not_found() {
    let system = System::start().await;
    let one = system.any_patient().await;
    let other = system.any_patient().await;
    let created = system.post(&format!("{one}/tests"), &samples::test()).await;
    let foreign = format!("{other}/tests/{}", text(&created.body, "id"));
    let mut amended = samples::patient();
    amended["id"] = UNKNOWN.into();
    let mut test = samples::test();
    test["id"] = created.body["id"].clone();
    let unknown = format!("/patient/{UNKNOWN}");

    for (method, path, body, message) in [
        (Method::GET, unknown.clone(), None, "Patient not found"),
        (Method::PUT, unknown.clone(), Some(amended), "Patient not found"),
        (Method::DELETE, unknown.clone(), None, "Patient not found"),
        (Method::GET, format!("{unknown}/tests"), None, "Patient not found"),
        (Method::POST, format!("{unknown}/tests"), Some(samples::test()), "Patient not found"),
        (Method::GET, format!("{one}/tests/{UNKNOWN}"), None, "Test not found."),
        (Method::GET, foreign.clone(), None, "Test not found."),
        (Method::PUT, foreign.clone(), Some(test), "Test not found."),
        (Method::DELETE, foreign, None, "Test not found."),
    ] {
        let mut request = system.request(method.clone(), &path);
        if let Some(body) = &body {
            request = request.json(body);
        }
        let answer = request.send().await.expect(StatusCode::NOT_FOUND);
        assert_eq!(answer.body["message"], message, "{method} {path}");
        // A read that finds nothing is recorded; a command that is refused is not.
        assert_eq!(answer.receipt().is_empty(), method != Method::GET, "{method} {path}");
    }
}

#[tokio::test]
async fn ids_are_compared_without_regard_to_case() {
    let system = System::start().await;
    let created = system.registered(&samples::patient()).await;
    let path = format!("/patient/{}", text(&created, "id").to_uppercase());
    assert_eq!(system.get(&path).await.expect(StatusCode::OK).body, created);
    let mut body = samples::moved(&created, "4321");
    body["id"] = text(&created, "id").to_uppercase().into();
    let amended = system.put(&path, &body).await.expect(StatusCode::OK);
    assert_eq!(amended.body["id"], created["id"]);
}

#[tokio::test]
async fn bad_content_is_named_field_by_field_and_changes_nothing() {
    let system = System::start().await;
    let patient = system.any_patient().await;
    let records = system.records().len();

    let body = json!({"gender": "f", "dateOfBirth": "1980-02-30", "postCode": "12345"});
    let answer = system.post("/patient", &body).await.expect(StatusCode::BAD_REQUEST);
    assert_eq!(answer.body["detail"], "\"firstName\" is required");
    assert_eq!(answer.body["message"], "\"firstName\" is required");
    let fields: Vec<_> =
        answer.body["errors"].as_array().unwrap().iter().map(|e| text(e, "field")).collect();
    assert_eq!(fields, ["firstName", "gender", "dateOfBirth", "postCode"]);

    let mut body = samples::patient();
    body["id"] = UNKNOWN.into();
    let answer = system.put(&patient, &body).await.expect(StatusCode::BAD_REQUEST);
    assert_eq!(answer.body["detail"], "Inconsistent registration IDs");

    let mut body = samples::test();
    body["patientId"] = "1".into();
    let path = format!("{patient}/tests");
    let answer = system.post(&path, &body).await.expect(StatusCode::BAD_REQUEST);
    assert_eq!(answer.body["detail"], "\"patientId\" must be a valid GUID");

    for body in ["", " ", "[]", "\"x\"", "{", "{\"firstName\":\"A\",\"firstName\":\"B\"}", "\u{0}"]
    {
        for (method, path) in [
            (Method::POST, "/patient"),
            (Method::PUT, patient.as_str()),
            (Method::POST, "/patient/search"),
            (Method::POST, path.as_str()),
        ] {
            let request = system.request(method.clone(), path).bytes(body.to_owned());
            request.send().await.expect(StatusCode::BAD_REQUEST);
        }
    }
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
    let request = system.request(Method::POST, "/patient").bytes(deep);
    request.send().await.expect(StatusCode::BAD_REQUEST);
    assert_eq!(system.records().len(), records);
}

#[tokio::test]
async fn bodies_are_read_whatever_they_are_called_but_for_two_kinds() {
    let system = System::start().await;
    let body = samples::patient().to_string();
    for content_type in ["application/json", "application/xml", "text/plain; charset=utf-8"] {
        let request = system.request(Method::POST, "/patient").header("content-type", content_type);
        request.bytes(body.clone()).send().await.expect(StatusCode::CREATED);
    }
    let request = system.request(Method::POST, "/patient");
    request.bytes(body.clone()).send().await.expect(StatusCode::CREATED);
    let chunks = body.as_bytes().chunks(7).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let stream = futures::stream::iter(chunks.into_iter().map(Ok::<_, std::io::Error>));
    let request = system.request(Method::POST, "/patient");
    let request = request.bytes(reqwest::Body::wrap_stream(stream));
    request.send().await.expect(StatusCode::CREATED);

    for content_type in ["multipart/form-data; boundary=x", "application/octet-stream"] {
        let request = system.request(Method::POST, "/patient").header("content-type", content_type);
        request.bytes(body.clone()).send().await.expect(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_with_the_limit() {
    let system = System::start().await;
    let patient = system.any_patient().await;
    let records = system.records().len();
    let huge = "x".repeat(1024 * 1024 + 1);
    let request = system.request(Method::POST, "/patient").bytes(huge);
    let answer = request.send().await.expect(StatusCode::PAYLOAD_TOO_LARGE);
    assert!(text(&answer.body, "detail").contains("1048576"));

    let mut body = samples::test();
    let observation = body["observations"][0].clone();
    let mut large = observation.clone();
    large["measurement"] = "x".repeat(1_000).into();
    body["observations"] = vec![large; 50].into();
    let path = format!("{patient}/tests");
    let answer = system.post(&path, &body).await.expect(StatusCode::PAYLOAD_TOO_LARGE);
    assert!(text(&answer.body, "detail").contains("47000"));
    assert_eq!(system.records().len(), records);

    // The largest content that is accepted fits a line, whatever its characters.
    let mut dense = observation;
    dense["measurement"] = "\u{1}".repeat(1_000).into();
    body["observations"] = vec![dense; 7].into();
    system.post(&path, &body).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn routes_and_methods_that_do_not_exist() {
    let system = System::start().await;
    let answer = system.get("/patients").await.expect(StatusCode::NOT_FOUND);
    assert_eq!(answer.body["message"], "Resource not found");
    let answer = system.get("/patient").await.expect(StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.header("allow"), "POST");
    let answer = system.request(Method::PATCH, &format!("/patient/{UNKNOWN}")).send().await;
    answer.expect(StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn conditions_are_on_the_revision_of_the_resource() {
    let system = System::start().await;
    let created = system.registered(&samples::patient()).await;
    let path = format!("/patient/{}", text(&created, "id"));
    let tests = format!("{path}/tests");
    let test = system.post(&tests, &samples::test()).await.expect(StatusCode::CREATED);
    assert_eq!(test.header("etag"), "\"2\"");
    let amend = |if_match: &str| {
        let body = samples::moved(&created, "4321");
        system.request(Method::PUT, &path).header("if-match", if_match).json(&body)
    };
    // The patient's revision is that of her own last event, not of the stream's.
    amend("\"2\"").send().await.expect(StatusCode::PRECONDITION_FAILED);
    amend("W/\"1\"").send().await.expect(StatusCode::PRECONDITION_FAILED);
    amend("1").send().await.expect(StatusCode::BAD_REQUEST);
    amend("\"7\", \"1\"").send().await.expect(StatusCode::OK);
    amend("\"1\"").send().await.expect(StatusCode::PRECONDITION_FAILED);
    amend("*").send().await.expect(StatusCode::OK);

    let test_path = format!("{tests}/{}", text(&test.body, "id"));
    let remove =
        |if_match: &str| system.request(Method::DELETE, &test_path).header("if-match", if_match);
    remove("\"1\"").send().await.expect(StatusCode::PRECONDITION_FAILED);
    remove("\"2\"").send().await.expect(StatusCode::NO_CONTENT);

    let current = system.request(Method::GET, &path).header("if-none-match", "W/\"4\"");
    let answer = current.send().await.expect(StatusCode::NOT_MODIFIED);
    assert!(answer.text.is_empty() && !answer.receipt().is_empty());
    assert_eq!(answer.header("etag"), "\"4\"");
    let older = system.request(Method::GET, &path).header("if-none-match", "\"1\"");
    older.send().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn only_the_gateway_is_let_in_and_must_say_who_asks() {
    let system = System::start().await;
    let path = system.any_patient().await;
    let url = format!("{}{path}", system.patients[0].url);
    let http = reqwest::Client::new();
    let answer = http.get(&url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let answer = http.get(&url).header(SERVICE_KEY_HEADER, "wrong").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let answer = http.get(&url).header(SERVICE_KEY_HEADER, OTHER_KEY).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let unnamed = http.get(&url).header(SERVICE_KEY_HEADER, crate::harness::GATEWAY_KEY);
    assert_eq!(unnamed.send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    let health = http.get(format!("{}/healthz", system.patients[0].url)).send().await.unwrap();
    assert_eq!(health.status(), StatusCode::OK);
}

#[tokio::test]
async fn malformed_headers_are_refused() {
    let system = System::start().await;
    let path = system.any_patient().await;
    let purpose = |value: &str| system.request(Method::GET, &path).header("purpose-of-use", value);
    purpose("CURIOSITY").send().await.expect(StatusCode::BAD_REQUEST);
    purpose("HRESCH").send().await.expect(StatusCode::OK);
    let key = system.request(Method::POST, "/patient").header("idempotency-key", "a b");
    key.json(&samples::patient()).send().await.expect(StatusCode::BAD_REQUEST);
}
