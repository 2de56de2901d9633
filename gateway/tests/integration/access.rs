//! Who may do what: keys, scopes, routes and methods.

use gateway::routes::{Access, ROUTES, Route, Target};
use gateway::subscriptions::Scope;
use http::Method;

use crate::harness::{
    BARE, CLINIC, CLINIC_SECONDARY, COMPLIANCE, Door, KEY_HEADER, PRIVACY, READER, got,
};

const MISSING: &str = "Access denied due to missing subscription key. Make sure to include subscription key when making requests to an API.";
const INVALID: &str = "Access denied due to invalid subscription key. Make sure to provide a valid key for an active subscription.";

fn example(route: &Route) -> String {
    route
        .path
        .replace("{id}", "6f9619ff-8b86-d011-b42d-00cf4fc964ff")
        .replace("{testId}", "00000000-0000-0000-0000-000000000001")
        .replace("{seq}", "7")
        .replace("{*path}", "0/x001/067.p/5")
        .replace("{file}", "swagger-ui.css")
}

fn send(door: &Door, route: &Route, path: &str) -> reqwest::RequestBuilder {
    let request = door.request(route.method.clone(), path);
    if route.has_body() { request.body("{}") } else { request }
}

#[tokio::test]
async fn every_route_answers_exactly_those_who_have_its_scope() {
    let door = Door::open().await;
    let callers: [(&str, &[Scope]); 5] = [
        (CLINIC, &[Scope::PatientRead, Scope::PatientWrite]),
        (READER, &[Scope::PatientRead]),
        (COMPLIANCE, &[Scope::AuditRead]),
        (PRIVACY, &[Scope::PatientErase]),
        (BARE, &[]),
    ];
    for route in ROUTES {
        let path = example(route);
        for (key, scopes) in callers {
            let before = door.patients.count() + door.audit.count();
            let answer = got(send(&door, route, &path).header(KEY_HEADER, key)).await;
            let forwarded = door.patients.count() + door.audit.count() - before;
            let at_upstream =
                usize::from(matches!(route.target, Target::Patients | Target::Audit(_)));
            match route.access {
                Access::Scope(scope) if !scopes.contains(&scope) => {
                    let message = answer.problem(403);
                    assert!(message.contains(scope.as_str()), "{message}");
                    assert_eq!(forwarded, 0, "{key} {route:?}");
                }
                Access::AnyScope if scopes.is_empty() => {
                    assert!(answer.problem(403).contains("any scope"), "{answer:?}");
                    assert_eq!(forwarded, 0, "{key} {route:?}");
                }
                _ => {
                    assert!([200, 503].contains(&answer.status), "{route:?} {answer:?}");
                    assert!(answer.status == 200 || path == "/readyz", "{route:?} {answer:?}");
                    assert_eq!(forwarded, at_upstream, "{key} {route:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn without_a_valid_key_only_the_open_routes_answer() {
    let door = Door::open().await;
    for route in ROUTES {
        let path = example(route);
        let none = got(send(&door, route, &path)).await;
        let wrong = got(send(&door, route, &path).header(KEY_HEADER, "canary-wrong")).await;
        if route.access == Access::Open {
            assert_ne!(none.status, 401, "{route:?}");
            assert_ne!(wrong.status, 401, "{route:?}");
            continue;
        }
        assert_eq!(none.problem(401), MISSING);
        assert_eq!(wrong.problem(401), INVALID);
        assert!(none.header("www-authenticate").is_some());
        assert!(wrong.header("www-authenticate").is_some());
    }
    assert_eq!(door.patients.count() + door.audit.count(), 0);
}

#[tokio::test]
async fn a_key_is_found_in_the_header_and_in_the_query() {
    #[track_caller]
    fn check(answer: &crate::harness::Got, expected: Result<(), &str>) {
        match expected {
            Ok(()) => assert_eq!(answer.status, 200, "{answer:?}"),
            Err(message) => assert_eq!(answer.problem(401), message),
        }
    }
    let door = Door::open().await;
    let path = "/echo/resource";
    for (query, header, expected) in [
        (None, Some(CLINIC), Ok(())),
        (None, Some(CLINIC_SECONDARY), Ok(())),
        (Some(CLINIC), None, Ok(())),
        (Some(CLINIC_SECONDARY), None, Ok(())),
        // The header wins, whatever the query says.
        (Some("wrong"), Some(CLINIC), Ok(())),
        (Some(CLINIC), Some("wrong"), Err(INVALID)),
        (Some(""), None, Err(MISSING)),
        (None, Some(""), Err(MISSING)),
        (Some(CLINIC), Some(""), Ok(())),
    ] {
        let path = query.map_or(path.to_owned(), |key| format!("{path}?subscription-key={key}"));
        let mut request = door.request(Method::GET, &path);
        if let Some(key) = header {
            request = request.header(KEY_HEADER, key);
        }
        check(&got(request).await, expected);
    }
    let twice = door.clinic(Method::GET, path).header(KEY_HEADER, CLINIC);
    check(&got(twice).await, Err(INVALID));
    let long = door.request(Method::GET, path).header(KEY_HEADER, "k".repeat(5000));
    check(&got(long).await, Err(INVALID));
}

#[tokio::test]
async fn a_path_that_no_route_has_is_404_whoever_asks() {
    let door = Door::open().await;
    for path in [
        "/",
        "/patients",
        "/patient/1/results",
        "/patient//",
        "/patient/1//",
        "/audit",
        "/audit/records/1/proof/2",
        "/audit/tile",
        "/audit/tile/",
        "/tile/0/000",
        "/consistency",
        "/records",
        "/api/auditrecord",
        "/streams/patient/1/records",
        "/docs/none.js",
        "/docs/a/b",
    ] {
        for request in [door.request(Method::GET, path), door.clinic(Method::GET, path)] {
            let answer = got(request).await;
            assert_eq!(answer.problem(404), "Resource not found", "{path}");
        }
    }
    assert_eq!(door.patients.count() + door.audit.count(), 0);
}

#[tokio::test]
async fn another_method_of_a_path_is_405_with_those_that_it_has() {
    let door = Door::open().await;
    for (method, path, allow) in [
        (Method::GET, "/patient", vec!["POST"]),
        (Method::GET, "/patient/search", vec!["POST"]),
        (Method::POST, "/patient/1", vec!["DELETE", "GET", "HEAD", "PUT"]),
        (Method::PATCH, "/patient/1", vec!["DELETE", "GET", "HEAD", "PUT"]),
        (Method::PUT, "/patient/1/tests", vec!["GET", "HEAD", "POST"]),
        (Method::POST, "/audit/records", vec!["GET", "HEAD"]),
        (Method::OPTIONS, "/echo/resource", vec!["GET", "HEAD"]),
        (Method::POST, "/healthz", vec!["GET", "HEAD"]),
        (Method::DELETE, "/docs", vec!["GET", "HEAD"]),
    ] {
        let answer = got(door.request(method, &format!("{path}/"))).await;
        answer.problem(405);
        let mut allowed: Vec<_> =
            answer.header("allow").unwrap().split(',').map(str::trim).collect();
        allowed.sort_unstable();
        assert_eq!(allowed, allow, "{path}");
    }
}

#[tokio::test]
async fn a_trailing_slash_is_accepted_everywhere() {
    let door = Door::open().await;
    for route in ROUTES.iter().filter(|route| route.path != "/readyz") {
        let key = match (route.access, route.target) {
            (Access::Scope(Scope::PatientErase), _) => PRIVACY,
            _ if route.path.starts_with("/audit/") => COMPLIANCE,
            _ => CLINIC,
        };
        let path = format!("{}/", example(route));
        for path in [format!("{path}?subscription-key={key}"), path] {
            let answer = got(send(&door, route, &path).header(KEY_HEADER, key)).await;
            assert_eq!(answer.status, 200, "{path}");
        }
    }
    assert_eq!(door.audit.last().uri, "/keys");
}

#[tokio::test]
async fn echo_repeats_the_query_without_the_key() {
    let door = Door::open().await;
    let path = format!("/echo/resource?param1=sample&subscription-key={BARE}&x=a%20b");
    let answer = got(door.request(Method::GET, &path)).await;
    assert_eq!(answer.json(), serde_json::json!({"param1": "sample", "x": "a b"}));
}

#[tokio::test]
async fn head_is_answered_wherever_get_is() {
    let door = Door::open().await;
    for path in ["/patient/1", "/patient/1/tests", "/echo/resource", "/healthz", "/docs"] {
        let answer = got(door.clinic(Method::HEAD, path)).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, ""), "{path}");
    }
    assert_eq!(door.patients.last().method, Method::HEAD);
}
