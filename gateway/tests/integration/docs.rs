//! The `OpenAPI` document says what the gateway does, and is rendered without help from outside.

use std::collections::BTreeSet;

use domain::actor::ErasureReason;
use gateway::routes::{Access, ROUTES, Route};
use gateway::subscriptions::Scope;
use http::Method;
use serde_json::{Value, json};

use crate::harness::{Door, got};

async fn document(door: &Door) -> Value {
    let answer = got(door.request(Method::GET, "/openapi.json")).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

/// As `OpenAPI` names what varies.
fn documented_path(route: &Route) -> String {
    route.path.replace("{*", "{")
}

#[tokio::test]
async fn the_document_has_every_route_and_no_other() {
    let document = document(&Door::open().await).await;
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            documented.insert((method.to_uppercase(), path.clone()));
        }
    }
    let routed: BTreeSet<_> =
        ROUTES.iter().map(|route| (route.method.to_string(), documented_path(route))).collect();
    assert_eq!(documented, routed);
}

#[tokio::test]
async fn the_document_says_who_may_and_what_can_go_wrong() {
    let document = document(&Door::open().await).await;
    for route in ROUTES {
        let method = route.method.as_str().to_lowercase();
        let operation = &document["paths"][documented_path(route)][method.as_str()];
        let security = &operation["security"];
        // Each of these lets a client in.
        let alternatives = match route.access {
            Access::Open => vec![],
            Access::AnyKey => vec![vec![]],
            Access::Scope(scope) => vec![vec![scope.as_str()]],
            Access::AnyScope => Scope::ALL.iter().map(|scope| vec![scope.as_str()]).collect(),
        };
        let schemes = alternatives.iter().flat_map(|scopes| {
            ["headerKey", "queryKey", "bearerToken"].map(|scheme| json!({ scheme: scopes }))
        });
        assert_eq!(*security, schemes.collect::<Value>(), "{route:?}");
        if route.access == Access::Open {
            continue;
        }
        let mut expected = vec!["401", "403", "429", "503"];
        if route.has_body() {
            expected.extend(["400", "413", "415"]);
            assert_eq!(operation["requestBody"]["required"], true, "{route:?}");
        }
        if route.path.starts_with("/patient/{id}") {
            expected.push("404");
        }
        for status in expected {
            let response = &operation["responses"][status]["$ref"];
            assert!(response.is_string(), "{route:?} {status}");
        }
    }
}

#[tokio::test]
async fn the_document_lists_the_reasons_of_an_erasure() {
    let document = document(&Door::open().await).await;
    let listed = &document["components"]["schemas"]["Erasure"]["properties"]["reason"]["enum"];
    assert_eq!(*listed, json!(ErasureReason::ALL));
}

#[tokio::test]
async fn every_reference_of_the_document_leads_somewhere() {
    fn check(value: &Value, document: &Value) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(reference)) = members.get("$ref") {
                    let target = document.pointer(reference.strip_prefix('#').unwrap());
                    assert!(target.is_some(), "{reference}");
                }
                members.values().for_each(|member| check(member, document));
            }
            Value::Array(items) => items.iter().for_each(|item| check(item, document)),
            _ => {}
        }
    }
    let document = document(&Door::open().await).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    check(&document, &document);
}

#[tokio::test]
async fn a_503_behind_a_record_declares_its_receipt() {
    let document = document(&Door::open().await).await;
    for (method, path) in [
        ("post", "/patient/{id}/erase"),
        ("get", "/patient/{id}/activity"),
        ("get", "/audit/activity"),
        ("get", "/audit/fhir/AuditEvent"),
    ] {
        let reference = &document["paths"][path][method]["responses"]["503"]["$ref"];
        let response = document.pointer(&reference.as_str().unwrap()[1..]).unwrap();
        let headers = response["headers"].as_object().unwrap();
        for name in ["Audit-Receipt", "Retry-After"] {
            assert!(headers.contains_key(name), "{method} {path} {name}");
        }
    }
    let erase = &document["paths"]["/patient/{id}/erase"]["post"];
    assert!(erase["description"].as_str().unwrap().contains("If-Match"));
}

#[tokio::test]
async fn the_page_works_with_and_without_a_slash_and_loads_nothing_from_elsewhere() {
    let door = Door::open().await;
    let pages = [
        got(door.request(Method::GET, "/docs")).await,
        got(door.request(Method::GET, "/docs/")).await,
        got(door.request(Method::GET, "/docs/index.html")).await,
    ];
    for page in &pages {
        assert_eq!(page.status, 200);
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'self'"), "{policy}");
        assert_eq!(page.text, pages[0].text);
    }
    let html = &pages[0].text;
    assert!(html.contains("<base href=\"/docs/\">"), "{html}");
    let links: Vec<_> = ["href=\"", "src=\""]
        .into_iter()
        .flat_map(|attribute| html.split(attribute).skip(1))
        .map(|rest| rest.split('"').next().unwrap())
        .filter(|link| *link != "/docs/")
        .collect();
    assert!(links.len() >= 5, "{links:?}");
    for link in links {
        assert!(!link.contains("//"), "{link}");
        let path = format!("/docs/{}", link.trim_start_matches("./"));
        let file = door.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(file.status(), 200, "{path}");
        assert!(file.headers().contains_key("content-type"), "{path}");
    }
    let start = got(door.request(Method::GET, "/docs/swagger-initializer.js")).await.text;
    assert!(start.contains("\"/openapi.json\""), "{start}");
    assert!(start.contains("\"validatorUrl\": \"none\""), "{start}");
}
