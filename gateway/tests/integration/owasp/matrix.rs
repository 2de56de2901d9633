//! API1 and API5, broken authorization of objects and functions; API9, improper inventory: what the
//! document says, operation by operation, key by key, method by method.

use std::collections::BTreeMap;

use gateway::subscriptions::Scope;
use http::Method;
use serde_json::Value;

use crate::harness::{
    BARE, CLINIC, COMPLIANCE, Door, Got, KEY_HEADER, PRIVACY, READER, WRITER, got,
};

/// One operation of the document.
struct Operation {
    method: Method,
    path: String,
    /// What its `security` asks for; each of them lets a client in, an empty one with any key.
    scopes: Vec<Option<String>>,
}

async fn operations(door: &Door) -> Vec<Operation> {
    let document = got(door.request(Method::GET, "/openapi.json")).await.json();
    let paths = document["paths"].as_object().unwrap();
    let mut operations = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            let security = operation["security"].as_array().unwrap();
            let schemes = security.iter().flat_map(|scheme| scheme.as_object().unwrap().values());
            let scope = |scopes: &Value| scopes.get(0).and_then(Value::as_str).map(str::to_owned);
            operations.push(Operation {
                method: method.to_uppercase().parse().unwrap(),
                path: path.clone(),
                scopes: schemes.map(scope).collect(),
            });
        }
    }
    assert!(operations.len() > 20, "the document has all operations");
    operations
}

fn example(path: &str) -> String {
    path.replace("{id}", "6f9619ff-8b86-d011-b42d-00cf4fc964ff")
        .replace("{testId}", "00000000-0000-0000-0000-000000000001")
        .replace("{seq}", "7")
        .replace("{path}", "0/000")
        .replace("{file}", "swagger-ui.css")
}

fn upstream_requests(door: &Door) -> usize {
    door.patients.count() + door.audit.count()
}

/// The status that the document promises to somebody, 200 where all is well.
fn expected(operation: &Operation, key: Option<&str>, scopes: &[Scope]) -> u16 {
    if operation.scopes.is_empty() {
        return 200;
    }
    let has = |scope: &Option<String>| {
        scope.as_ref().is_none_or(|scope| scopes.iter().any(|own| own.as_str() == scope))
    };
    match key {
        None | Some("canary-unknown") => 401,
        Some(_) if operation.scopes.iter().any(has) => 200,
        Some(_) => 403,
    }
}

#[tokio::test]
async fn api1_and_api5_every_operation_answers_each_key_as_the_document_says() {
    use Scope::{AuditRead, PatientErase, PatientRead, PatientWrite};
    let callers: [(Option<&str>, &[Scope]); 8] = [
        (None, &[]),
        (Some("canary-unknown"), &[]),
        (Some(BARE), &[]),
        (Some(READER), &[PatientRead]),
        (Some(WRITER), &[PatientWrite]),
        (Some(PRIVACY), &[PatientErase]),
        (Some(COMPLIANCE), &[AuditRead]),
        (Some(CLINIC), &[PatientRead, PatientWrite]),
    ];
    let door = Door::open().await;
    let mut statuses = BTreeMap::new();
    for operation in operations(&door).await {
        let path = example(&operation.path);
        for (key, scopes) in callers {
            for in_query in [false, true] {
                let asked = |path: &str| door.request(operation.method.clone(), path);
                let request = match key {
                    Some(key) if in_query => asked(&format!("{path}?subscription-key={key}")),
                    Some(key) => asked(&path).header(KEY_HEADER, key),
                    None => asked(&path),
                };
                let before = upstream_requests(&door);
                let answer = got(request.body("{}")).await;
                let status = expected(&operation, key, scopes);
                let what = format!("{} {path} {key:?} {answer:?}", operation.method);
                // The harness's upstreams may not have been found ready yet.
                let ready = operation.path == "/readyz" && answer.status == 503;
                assert!(answer.status == status || ready, "{status} {what}");
                if status != 200 {
                    assert_eq!(upstream_requests(&door), before, "{what}");
                    answer.problem(status);
                }
                *statuses.entry(status).or_insert(0) += 1;
            }
        }
    }
    // Not everything is refused, nor everything allowed.
    for status in [200, 401, 403] {
        assert!(statuses[&status] > 50, "{statuses:?}");
    }
}

#[tokio::test]
async fn api5_every_documented_path_refuses_every_other_method() {
    let door = Door::open().await;
    let mut paths = BTreeMap::<String, Vec<Method>>::new();
    for operation in operations(&door).await {
        let methods = paths.entry(operation.path).or_default();
        if operation.method == Method::GET {
            methods.push(Method::HEAD);
        }
        methods.push(operation.method);
    }
    // Below an id there may be a word.
    let also = paths["/patient/{id}"].clone();
    paths.get_mut("/patient/search").unwrap().extend(also);
    let others = ["PROPFIND", "FOO", "get", "Get", "M-SEARCH", "PURGE"];
    let standard = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"];
    for (path, methods) in paths {
        for name in standard.into_iter().chain(others) {
            let method: Method = name.parse().unwrap();
            if methods.contains(&method) {
                continue;
            }
            let before = upstream_requests(&door);
            let answer = got(door.clinic(method, &example(&path))).await;
            assert_eq!(answer.status, 405, "{name} {path}");
            assert!(answer.header("allow").is_some(), "{name} {path}");
            assert_eq!(upstream_requests(&door), before, "{name} {path}");
        }
    }
}

#[tokio::test]
async fn api9_nothing_answers_beside_the_documented_paths() {
    let door = Door::open().await;
    let before = upstream_requests(&door);
    for path in [
        "/Patient/1",
        "/PATIENT/1",
        "/v1/patient/1",
        "/v0/patient/1",
        "/api/patient/1",
        "/patient.json",
        "/patient;a=b",
        "/patient/1/history/1",
        "/p%61tient/1/x",
        "/%2fpatient/1",
        "//patient/1",
        "/audit//records",
        "/audit/stats",
        "/audit/streams/patient",
        "/audit/records/batch/1",
        "/streams/patient/6f9619ff-8b86-d011-b42d-00cf4fc964ff/records",
        "/records/batch",
        "/commands/0",
        "/api/auditrecord",
        "/tile/0/000",
        "/admin",
        "/debug/pprof",
        "/actuator/health",
        "/swagger",
        "/graphql",
        "/.env",
        "/.git/config",
        "/openapi.yaml",
        "/docs/../openapi.json/x",
        "/docs/%2e%2e%2fopenapi.json",
        "/docs/..%2f..%2fetc%2fpasswd",
    ] {
        for key in [None, Some(CLINIC), Some(COMPLIANCE), Some(PRIVACY)] {
            for method in [Method::GET, Method::POST] {
                let mut request = door.request(method, path);
                if let Some(key) = key {
                    request = request.header(KEY_HEADER, key);
                }
                let answer: Got = got(request).await;
                assert!([404, 405].contains(&answer.status), "{path} {answer:?}");
            }
        }
    }
    assert_eq!(upstream_requests(&door), before);
}
