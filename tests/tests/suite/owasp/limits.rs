//! API4, unrestricted consumption: every number of the document has bounds that hold, cursors
//! cannot be bent, and bodies have a size and a depth.

use reqwest::Method;
use serde_json::{Value, json};
use tests::{
    http::{Answer, Api, send},
    samples::{a_place, unknown_id},
    system::{Store, System},
};

use super::Patient;

/// An operation as the document has it.
struct Operation {
    method: Method,
    path: String,
    definition: Value,
}

fn operations(document: &Value) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, definition) in item.as_object().unwrap() {
            operations.push(Operation {
                method: method.to_uppercase().parse().unwrap(),
                path: path.clone(),
                definition: definition.clone(),
            });
        }
    }
    operations
}

/// A client that may use an operation.
fn client(system: &System, operation: &Operation) -> Api {
    match operation.definition["security"][0]["headerKey"][0].as_str() {
        Some("audit:read") => system.compliance(),
        Some("patient:erase") => system.privacy(),
        _ => system.clinic(),
    }
}

fn fill(path: &str, patient: &Patient) -> String {
    let id = |value: &Value| value["id"].as_str().unwrap().to_owned();
    path.replace("{id}", &id(&patient.content))
        .replace("{testId}", &id(&patient.test))
        .replace("{seq}", "0")
        .replace("{path}", "0/000.p/1")
        .replace("{file}", "swagger-ui.css")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api4_every_number_of_a_query_has_bounds_that_hold() {
    let _place = a_place().await;
    let system = System::standalone(Store::Sqlite).await;
    let patient = Patient::create(&system.clinic()).await;
    let document = system.api().get("/openapi.json").await.expect(200).json();
    let mut checked = 0;
    for operation in operations(&document) {
        let client = client(&system, &operation);
        let path = fill(&operation.path, &patient);
        let parameters = operation.definition["parameters"].as_array();
        for parameter in parameters.into_iter().flatten() {
            let schema = &parameter["schema"];
            if parameter["in"] != "query" || schema["type"] != "integer" {
                continue;
            }
            let name = parameter["name"].as_str().unwrap();
            let number = |bound: &str| {
                schema[bound].as_u64().unwrap_or_else(|| panic!("{name} of {path} has no {bound}"))
            };
            let (least, most) = (number("minimum"), number("maximum"));
            let mut wrong = vec![(most + 1).to_string(), u64::MAX.to_string()];
            if least > 0 {
                wrong.push((least - 1).to_string());
            }
            let texts = [
                "-1",
                "",
                "1.5",
                "1e3",
                "0x10",
                "%2B1",
                "NaN",
                "ten",
                "18446744073709551616",
                "1%00",
            ];
            wrong.extend(texts.map(str::to_owned));
            wrong.push(format!("{least}&{name}={least}"));
            for value in wrong {
                let asked = format!("{path}?{name}={value}");
                let request = client.request(operation.method.clone(), &asked);
                let _ = send(request.body("{}")).await.problem(400);
                checked += 1;
            }
        }
    }
    assert!(checked > 100, "{checked}");
    let many = format!("{}?{}", patient.path, "asOf=1&".repeat(500));
    let _ = system.clinic().get(&many).await.problem(400);
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api4_a_bent_cursor_shows_nothing_that_the_client_may_not_see() {
    let _place = a_place().await;
    let system = System::standalone(Store::Sqlite).await;
    let (clinic, compliance) = (system.clinic(), system.compliance());
    let patient = Patient::create(&clinic).await;
    let other = Patient::create(&clinic).await;
    let search = async |cursor: &str| {
        clinic.post(&format!("/patient/search?limit=1&cursor={cursor}"), &json!({})).await
    };
    for bent in bent_cursors() {
        for path in [
            format!("{}/activity", patient.path),
            format!("{}/history", patient.path),
            "/audit/activity".to_owned(),
            "/audit/fhir/AuditEvent".to_owned(),
        ] {
            let client = if path.starts_with("/audit") { &compliance } else { &clinic };
            let answer = client.get(&format!("{path}?cursor={bent}")).await;
            within(&answer, &other, &path);
        }
        let answer = search(&bent).await;
        assert!([200, 400, 404].contains(&answer.status), "{answer:?}");
        if answer.status == 200 {
            assert_eq!(answer.json().as_array().unwrap().len(), 1, "{answer:?}");
        }
    }
    system.finish().await;
}

fn bent_cursors() -> Vec<String> {
    let mut cursors =
        vec![unknown_id(), unknown_id().to_uppercase(), format!("{{{}}}", unknown_id())];
    cursors.extend(
        [
            "0",
            "1",
            "-1",
            "9007199254740991",
            "9007199254740992",
            "",
            "%00",
            "null",
            "*",
            "1%20OR%201=1",
        ]
        .map(str::to_owned),
    );
    cursors.push("..%2f..%2f".to_owned());
    cursors.push("ffffffff-ffff-ffff-ffff-ffffffffffff".to_owned());
    cursors.push("{\"$gt\":\"\"}".to_owned());
    cursors.push("1&cursor=2".to_owned());
    cursors.push("9".repeat(4_000));
    cursors
}

/// Refused, or answered about nobody else.
fn within(answer: &Answer, other: &Patient, path: &str) {
    assert!([200, 400].contains(&answer.status), "{answer:?}");
    let others = path.starts_with("/patient");
    let id = other.content["id"].as_str().unwrap();
    assert!(!(others && answer.text().contains(id)), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api4_bodies_have_a_size_and_a_depth_on_every_operation() {
    const MEBIBYTE: usize = 1024 * 1024;
    let _place = a_place().await;
    let system = System::standalone(Store::Sqlite).await;
    let patient = Patient::create(&system.clinic()).await;
    let document = system.api().get("/openapi.json").await.expect(200).json();
    let with_body = |operation: &Operation| operation.definition["requestBody"].is_object();
    let operations: Vec<_> = operations(&document).into_iter().filter(with_body).collect();
    assert!(operations.len() >= 6);

    let members = |count: usize| {
        let members: Vec<_> = (0..count).map(|number| format!("\"m{number}\":0")).collect();
        format!("{{{}}}", members.join(","))
    };
    let bodies = [
        (400, "[".repeat(MEBIBYTE)),
        (400, "{\"a\":".repeat(MEBIBYTE / 8)),
        (400, format!("{}1{}", "{\"a\":[".repeat(60_000), "]}".repeat(60_000))),
        (400, members(60_000)),
        (400, format!("{{{}\"a\":0}}", "\"a\":0,".repeat(100_000))),
        (400, format!("{{\"firstName\":\"{}\"}}", "x".repeat(MEBIBYTE - 100))),
        (400, format!("{{\"observations\":[{}0]}}", "0,".repeat(400_000))),
        (400, format!("{{\"a\":{}}}", "9".repeat(MEBIBYTE - 100))),
        (400, "{\"a\":1e999999999}".to_owned()),
        (400, format!("{{\"a\":\"{}\"}}", "\\ud800".repeat(100_000))),
        (413, format!("{{\"firstName\":\"{}\"}}", "x".repeat(MEBIBYTE))),
        (413, " ".repeat(MEBIBYTE + 1)),
    ];
    for operation in operations {
        let client = client(&system, &operation);
        let path = fill(&operation.path, &patient);
        for (status, body) in &bodies {
            let request = client.request(operation.method.clone(), &path).body(body.clone());
            let answer = send(request).await;
            let _ = answer.problem(*status);
            assert!(answer.body.len() < 16 * 1024, "{} bytes: {answer:?}", answer.body.len());
        }
    }
    patient.is_as_it_was(&system.clinic()).await;
    system.finish().await;
}
