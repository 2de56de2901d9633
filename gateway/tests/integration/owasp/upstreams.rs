//! API10, unsafe consumption of APIs, and API7: an upstream is not believed, and leads nowhere.

use axum::body::Body;
use axum::response::Response;
use http::{Method, StatusCode};

use crate::harness::{Door, Upstream, got};

fn answer(status: u16, headers: &[(&str, &str)], body: &'static str) -> Response {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Body::from(body)).unwrap()
}

#[tokio::test]
async fn api7_and_api10_no_redirect_of_an_upstream_is_followed() {
    let elsewhere = Upstream::start().await;
    let location = format!("{}/elsewhere", elsewhere.url());
    for status in [300, 301, 302, 303, 305, 307, 308, 399] {
        let location = location.clone();
        let patients =
            Upstream::answering(move |_| answer(status, &[("location", &location)], "")).await;
        let door = Door::before(patients, |_| {}).await;
        for request in [
            door.clinic(Method::GET, "/patient/1"),
            door.clinic(Method::POST, "/patient").body("{}"),
        ] {
            // The client of this test follows none either, and is told of none.
            let answer = got(request).await;
            answer.problem(503);
            assert_eq!(answer.header("location"), None, "{answer:?}");
            assert!(!answer.text.contains("elsewhere"), "{answer:?}");
        }
        assert_eq!(door.patients.count(), 2);
        let failed = "upstream_failures_total{reason=\"redirect\",upstream=\"patient-service\"}";
        assert_eq!(door.metric_now(failed).await, 2);
    }
    assert_eq!(elsewhere.count(), 0);
    // What was not modified is no redirect.
    let patients = Upstream::answering(|_| answer(304, &[("etag", "\"1\"")], "")).await;
    let door = Door::before(patients, |_| {}).await;
    let unchanged = got(door.clinic(Method::GET, "/patient/1")).await;
    assert_eq!((unchanged.status, unchanged.header("etag")), (304, Some("\"1\"")));
}

#[tokio::test]
async fn api10_what_an_upstream_may_not_say_does_not_reach_a_client() {
    let patients = Upstream::answering(|_| {
        answer(
            200,
            &[
                ("set-cookie", "spoofed=1"),
                ("server", "spoofed"),
                ("x-powered-by", "spoofed"),
                ("access-control-allow-origin", "spoofed"),
                ("www-authenticate", "spoofed"),
                ("strict-transport-security", "spoofed"),
                ("content-security-policy", "spoofed"),
                ("referrer-policy", "spoofed"),
                ("x-content-type-options", "spoofed"),
                ("refresh", "0; spoofed"),
                ("alt-svc", "spoofed"),
                ("x-vitalog-actor", "spoofed"),
                ("x-functions-key", "spoofed"),
                ("x-accel-redirect", "spoofed"),
                ("cache-control", "public, max-age=spoofed"),
                ("connection", "etag"),
                ("etag", "\"1\""),
            ],
            "{}",
        )
    });
    let door = Door::before(patients.await, |_| {}).await;
    let answer = got(door.clinic(Method::GET, "/patient/1")).await;
    assert_eq!(answer.status, 200);
    assert!(!format!("{:?}", answer.headers).contains("spoofed"), "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn api10_an_error_that_is_not_the_services_own_is_not_passed_on() {
    for (status, kind) in [
        (400, "text/html"),
        (404, "application/json"),
        (500, "text/plain"),
        (502, "text/html"),
        (401, "application/problem+json"),
        (403, "application/problem+json"),
    ] {
        let page = "<h1>spoofed</h1>";
        let patients =
            Upstream::answering(move |_| answer(status, &[("content-type", kind)], page)).await;
        let door = Door::before(patients, |_| {}).await;
        let answer = got(door.clinic(Method::GET, "/patient/1")).await;
        answer.problem(StatusCode::SERVICE_UNAVAILABLE.as_u16());
        assert!(!answer.text.contains("spoofed"), "{answer:?}");
    }
}
