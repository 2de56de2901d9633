//! What the gateway counts, and that nobody's data is in it.

use http::{Method, StatusCode};
use reqwest::Url;

use crate::harness::{BARE, CANARY, CLINIC, COMPLIANCE, Door, KEY_HEADER, Upstream, got, problem};

const ID: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";

#[tokio::test]
async fn requests_are_counted_by_route_and_class_of_status() {
    let upstream = Upstream::answering(|seen| match seen.method {
        Method::DELETE => problem(StatusCode::NOT_FOUND),
        _ => axum::response::IntoResponse::into_response("{}"),
    });
    let door = Door::before(upstream.await, |_| {}).await;
    for _ in 0..3 {
        got(door.clinic(Method::GET, &format!("/patient/{ID}/?a=b"))).await;
    }
    got(door.clinic(Method::HEAD, &format!("/patient/{ID}"))).await;
    got(door.clinic(Method::DELETE, &format!("/patient/{ID}"))).await;
    got(door.request(Method::GET, "/patient/1")).await;
    got(door.request(Method::GET, "/none/of/these")).await;
    let odd = Method::from_bytes(b"BREW").unwrap();
    got(door.clinic(odd, "/patient")).await;
    got(door.request(Method::GET, "/docs/index.css")).await;
    for (method, route, class, count) in [
        ("GET", "/patient/{id}", "2xx", 3),
        ("HEAD", "/patient/{id}", "2xx", 1),
        ("DELETE", "/patient/{id}", "4xx", 1),
        ("GET", "/patient/{id}", "4xx", 1),
        ("GET", "unmatched", "4xx", 1),
        ("other", "/patient", "4xx", 1),
    ] {
        let labels = format!("method=\"{method}\",route=\"{route}\",status=\"{class}\"");
        assert_eq!(
            door.metric_now(&format!("requests_total{{{labels}}}")).await,
            count,
            "{labels}"
        );
    }
    assert_eq!(door.metric_now("refusals_total{reason=\"no_key\"}").await, 1);
}

#[tokio::test]
async fn the_public_listener_has_no_metrics_and_the_other_has_nothing_else() {
    let door = Door::open().await;
    let shown = door.metrics().await;
    assert_eq!(shown.status, 200);
    assert!(shown.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    assert!(shown.text.contains("# TYPE vitalog_gateway_in_flight gauge"), "{}", shown.text);
    got(door.clinic(Method::GET, "/metrics")).await.problem(404);
    let other = Url::parse(&format!("http://{}/healthz", door.metrics_address())).unwrap();
    assert_eq!(reqwest::get(other).await.unwrap().status(), 404);
}

#[tokio::test]
async fn no_label_holds_what_came_from_outside() {
    let door = Door::before(Upstream::answering(|_| problem(StatusCode::CONFLICT)).await, |_| {});
    let door = door.await;
    for key in [CLINIC, COMPLIANCE, BARE, "canary-wrong"] {
        for path in [
            format!("/patient/{ID}?name=canary-name"),
            "/canary-path".to_owned(),
            format!("/patient/{ID}/tests/canary-test"),
            "/audit/records/canary".to_owned(),
        ] {
            for method in [&b"GET"[..], b"PUT", b"CANARY"] {
                let request = door.request(Method::from_bytes(method).unwrap(), &path);
                let request = request.header(KEY_HEADER, key).header("x-canary", "canary");
                got(request.header("purpose-of-use", "canary").body("{}")).await;
            }
        }
    }
    let text = door.metrics().await.text;
    let lower = text.to_lowercase();
    for word in [CANARY, ID, "127.0.0.1", "clinic", "compliance", "bare"] {
        assert!(!lower.contains(word), "{word} in\n{text}");
    }
}
