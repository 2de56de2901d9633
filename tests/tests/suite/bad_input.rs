//! Bad input through the public door: each its own clear problem, and no event.

use futures::stream;
use reqwest::{Body, Method, RequestBuilder};
use serde_json::{Value, json};
use tests::{
    http::{Api, send},
    ledger::Ledger,
    samples::{a_place, id_of, patient, test, unknown_id},
    system::{Store, System},
};

/// The largest body, in bytes.
const MAX_BODY: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_has_clear_answers_and_leaves_no_event() {
    let _place = a_place().await;
    let system = System::standalone(Store::Sqlite).await;
    let clinic = system.clinic();
    let created = clinic.post("/patient", &patient("JANE")).await.expect(201).json();
    let id = id_of(&created);
    let recorded = clinic.post(&format!("/patient/{id}/tests"), &test(1)).await.expect(201).json();
    let before = Ledger::read(&system.compliance()).await.events();

    bodies(&clinic, &id).await;
    contents(&clinic, &id).await;
    updates(&clinic, &created, &recorded).await;
    searches(&clinic).await;
    too_large(&clinic, &id).await;
    ids_and_methods(&clinic, &id).await;
    headers(&clinic, &created).await;
    ledger_queries(&system.compliance()).await;

    let ledger = Ledger::read(&system.compliance()).await;
    assert_eq!(ledger.events(), before);
    let log = system.logs().remove("standalone").unwrap();
    assert!(!log.contains("\"ERROR\""), "{log}");
    system.finish().await;
}

/// The answer must be this problem; `detail` is part of its text.
async fn refused(request: RequestBuilder, status: u16, detail: &str) -> Value {
    let answer = send(request).await;
    let problem = answer.problem(status);
    let text = problem["detail"].as_str().unwrap();
    assert!(text.contains(detail), "{answer:?} does not say {detail:?}");
    problem
}

fn post(clinic: &Api, path: &str, body: impl Into<Body>) -> RequestBuilder {
    clinic.request(Method::POST, path).body(body)
}

/// Bodies that are no JSON object, on every route that takes one.
async fn bodies(clinic: &Api, id: &str) {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(40), "]".repeat(40));
    let bottomless = "[".repeat(900_000);
    let table: [(&[u8], &str); 14] = [
        (b"", "the body is empty"),
        (b" \n\t", "the body is empty"),
        (b"{", "not valid JSON"),
        (b"{\"firstName\":\"JANE\"", "not valid JSON"),
        (b"{'firstName':1}", "not valid JSON"),
        (b"{} {}", "not valid JSON"),
        (b"NaN", "not valid JSON"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b"{\"firstName\":\"\xff\"}", "not valid JSON"),
        (b"[]", "must be of type object"),
        (b"null", "must be of type object"),
        (b"\"JANE\"", "must be of type object"),
        (b"{\"firstName\":\"A\",\"firstName\":\"B\"}", "duplicate member"),
        (deep.as_bytes(), "16 levels deep"),
    ];
    for (body, detail) in table {
        for path in
            ["/patient".to_owned(), format!("/patient/{id}/tests"), "/patient/search".into()]
        {
            refused(post(clinic, &path, body.to_vec()), 400, detail).await;
        }
        let put = clinic.request(Method::PUT, &format!("/patient/{id}")).body(body.to_vec());
        refused(put, 400, detail).await;
    }
    refused(post(clinic, "/patient", bottomless), 400, "16 levels deep").await;
    for kind in ["multipart/form-data; boundary=x", "application/octet-stream"] {
        let request = post(clinic, "/patient", patient("JANE").to_string());
        refused(request.header("content-type", kind), 415, "").await;
    }
}

/// Patients and tests that break rules.
async fn contents(clinic: &Api, id: &str) {
    let with = |mut base: Value, name: &str, value: Value| {
        base[name] = value;
        base
    };
    let without = |mut base: Value, name: &str| {
        base.as_object_mut().unwrap().remove(name);
        base
    };
    let good = patient("JANE");
    for (body, detail) in [
        (without(good.clone(), "firstName"), "\"firstName\" is required"),
        (with(good.clone(), "firstName", json!(7)), "\"firstName\" must be a string"),
        (with(good.clone(), "firstName", json!(null)), "\"firstName\" must be a string"),
        (with(good.clone(), "lastName", json!("")), "\"lastName\" is not allowed to be empty"),
        (with(good.clone(), "lastName", json!("x".repeat(65))), "less than or equal to 64"),
        (with(good.clone(), "gender", json!("f")), "must be one of [male, female, other, unknown]"),
        (with(good.clone(), "dateOfBirth", json!("2001-02-29")), "fails to match the date pattern"),
        (with(good.clone(), "postCode", json!("123")), "length must be 4 characters long"),
        (with(good.clone(), "id", json!(unknown_id())), "Id unexpected."),
        (with(good.clone(), "lastUpdated", json!("2020")), "lastUpdated unexpected."),
        (with(good.clone(), "nickname", json!("J")), "\"nickname\" is not allowed"),
        (with(good.clone(), "Jane Doe", json!(1)), "is not allowed"),
    ] {
        refused(post(clinic, "/patient", body.to_string()), 400, detail).await;
    }
    let several = refused(post(clinic, "/patient", "{\"gender\":1}"), 400, "is required").await;
    assert_eq!(several["errors"].as_array().unwrap().len(), 4, "{several}");

    let path = format!("/patient/{id}/tests");
    let good = test(1);
    let observation = good["observations"][0].clone();
    let of = |observation: Value| with(test(1), "observations", json!([observation]));
    for (body, detail) in [
        (without(good.clone(), "performer"), "\"performer\" is required"),
        (without(good.clone(), "observations"), "\"observations\" is required"),
        (with(good.clone(), "observations", json!({})), "\"observations\" must be an array"),
        (
            with(good.clone(), "observations", json!([1])),
            "\"observations[0]\" must be of type object",
        ),
        (of(without(observation.clone(), "id")), "\"observations[0].id\" is required"),
        (of(with(observation.clone(), "issued", json!("Feb 15 2002"))), "must be a valid date"),
        (of(with(observation.clone(), "issued", json!(1_013_767_200))), "must be a string"),
        (with(good.clone(), "patientId", json!("1")), "\"patientId\" must be a valid GUID"),
        (with(good.clone(), "id", json!(unknown_id())), "Id unexpected."),
        (test(501), "less than or equal to 500 items"),
    ] {
        refused(post(clinic, &path, body.to_string()), 400, detail).await;
    }
}

async fn updates(clinic: &Api, patient: &Value, test: &Value) {
    let path = format!("/patient/{}", id_of(patient));
    let test_path = format!("{path}/tests/{}", id_of(test));
    let mut without = patient.clone();
    without.as_object_mut().unwrap().remove("id");
    let mut other = patient.clone();
    other["id"] = json!(unknown_id());
    let mut other_test = test.clone();
    other_test["id"] = json!(unknown_id());
    for (path, body, detail) in [
        (&path, &without, "\"id\" is required"),
        (&path, &other, "Inconsistent registration IDs"),
        (&test_path, &other_test, "Inconsistent test IDs"),
    ] {
        let request = clinic.request(Method::PUT, path).body(body.to_string());
        refused(request, 400, detail).await;
    }
}

async fn searches(clinic: &Api) {
    for (body, detail) in [
        (json!({"firstName": {"$ne": ""}}), "must be a string"),
        (json!({"firstName": null}), "must be a string"),
        (json!({"firstName": ""}), "not allowed to be empty"),
        (json!({"$where": "1"}), "is not allowed"),
        (json!({"id": "1"}), "must be a valid GUID"),
        (json!({"dateOfBirthFrom": "yesterday"}), "fails to match the date pattern"),
    ] {
        refused(post(clinic, "/patient/search", body.to_string()), 400, detail).await;
    }
    for (query, detail) in [
        ("limit=0", "limit must be"),
        ("limit=1001", "limit must be"),
        ("limit=ten", "limit must be"),
        ("cursor=1", "cursor must be"),
    ] {
        refused(post(clinic, &format!("/patient/search?{query}"), "{}"), 400, detail).await;
    }
}

async fn too_large(clinic: &Api, id: &str) {
    let over = vec![b' '; MAX_BODY + 1];
    refused(post(clinic, "/patient", over.clone()), 413, "1048576").await;
    let chunks: Vec<Result<Vec<u8>, std::io::Error>> =
        over.chunks(10_000).map(|chunk| Ok(chunk.to_vec())).collect();
    let chunked = Body::wrap_stream(stream::iter(chunks));
    refused(post(clinic, "/patient", chunked), 413, "1048576").await;
    // Within the limit of bodies, over that of content.
    let path = format!("/patient/{id}/tests");
    let mut large = test(100);
    for observation in large["observations"].as_array_mut().unwrap() {
        observation["measurement"] = json!("x".repeat(500));
    }
    refused(post(clinic, &path, large.to_string()), 413, "47000").await;
    // Characters that take six bytes each count as such.
    let mut control = test(1);
    control["observations"] = json!(vec![control["observations"][0].clone(); 10]);
    for observation in control["observations"].as_array_mut().unwrap() {
        observation["measurement"] = json!("\u{1}".repeat(1_000));
    }
    refused(post(clinic, &path, control.to_string()), 413, "47000").await;
}

async fn ids_and_methods(clinic: &Api, id: &str) {
    let unknown = unknown_id();
    let braces = format!("{{{id}}}");
    let no_dashes = id.replace('-', "");
    for wrong in ["1", "..%2f..", "%00", "%ff", &braces, &no_dashes, &unknown, &"x".repeat(300)] {
        for path in [format!("/patient/{wrong}"), format!("/patient/{wrong}/tests")] {
            refused(clinic.request(Method::GET, &path), 404, "Patient not found").await;
        }
        let path = format!("/patient/{id}/tests/{wrong}");
        refused(clinic.request(Method::GET, &path), 404, "Test not found.").await;
        let path = format!("/patient/{wrong}/tests");
        let status = if wrong == unknown { 404 } else { 400 };
        refused(post(clinic, &path, test(1).to_string()), status, "").await;
    }
    for (method, path, allow) in [
        (Method::GET, "/patient".to_owned(), "POST"),
        (Method::PUT, "/patient/search".to_owned(), "POST"),
        (Method::PATCH, format!("/patient/{id}"), "GET,HEAD,PUT,DELETE"),
        (Method::DELETE, format!("/patient/{id}/tests"), "GET,HEAD,POST"),
        (Method::POST, "/audit/records".to_owned(), "GET,HEAD"),
        (Method::POST, "/echo/resource".to_owned(), "GET,HEAD"),
    ] {
        let answer = send(clinic.request(method, &path)).await;
        answer.problem(405);
        let mut methods: Vec<&str> =
            answer.header("allow").unwrap_or_default().split(',').map(str::trim).collect();
        let mut expected: Vec<&str> = allow.split(',').collect();
        methods.sort_unstable();
        expected.sort_unstable();
        // `/patient/search` is also a patient's path with an id that is none.
        if path != "/patient/search" {
            assert_eq!(methods, expected, "{path}");
        }
    }
    for path in ["/", "/patients", "/patient//tests", "/audit", "/records", "/api/auditrecord"] {
        refused(clinic.request(Method::GET, path), 404, "").await;
    }
}

async fn headers(clinic: &Api, patient: &Value) {
    let path = format!("/patient/{}", id_of(patient));
    let put = |name: &str, value: &str| {
        clinic.request(Method::PUT, &path).body(patient.to_string()).header(name, value)
    };
    let long = "k".repeat(256);
    for (name, value) in [
        ("idempotency-key", ""),
        ("idempotency-key", "two words"),
        ("idempotency-key", long.as_str()),
        ("if-match", "1"),
        ("if-match", "\"1"),
        ("if-match", "*, \"1\""),
        ("purpose-of-use", "CURIOSITY"),
        ("purpose-of-use", "treat"),
    ] {
        let problem = refused(put(name, value), 400, "").await;
        let text = problem["detail"].as_str().unwrap().to_ascii_lowercase();
        assert!(text.contains(name), "{problem}");
    }
    let twice = put("purpose-of-use", "TREAT").header("purpose-of-use", "HRESCH");
    refused(twice, 400, "Purpose-Of-Use").await;
    let twice = put("idempotency-key", "a").header("idempotency-key", "b");
    refused(twice, 400, "Idempotency-Key").await;
    let huge = clinic.request(Method::GET, &path).header("x-much", "m".repeat(20_000));
    refused(huge, 431, "").await;
    let long = clinic.request(Method::GET, &format!("{path}?q={}", "q".repeat(9_000)));
    refused(long, 414, "").await;
}

async fn ledger_queries(compliance: &Api) {
    for (path, status) in [
        ("/audit/records?from=-1", 400),
        ("/audit/records?from=1e3", 400),
        ("/audit/records?limit=0", 400),
        ("/audit/records?wait=long", 400),
        ("/audit/records?filter=x", 400),
        ("/audit/records/first", 400),
        ("/audit/records/99999999999999999999", 400),
        ("/audit/records/9007199254740991", 404),
    ] {
        refused(compliance.request(Method::GET, path), status, "").await;
    }
}
