//! Upstreams that are away, slow or wrong.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::{Method, StatusCode};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::harness::{
    COMPLIANCE, Door, Got, KEY_HEADER, PATIENCE, Upstream, endless_body, got, problem,
};

/// An answer of 503 that says when to try again, and what became of a command.
#[track_caller]
fn unavailable(answer: &Got, outcome: Option<&str>) {
    answer.problem(503);
    assert!(answer.header("retry-after").is_some());
    assert_eq!(answer.json()["outcome"], outcome.map_or(Value::Null, Value::from), "{answer:?}");
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_stored_nothing() {
    let patients = Upstream::start().await;
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let door = Door::before(patients, |settings| settings.patients.url = nobody).await;
    let write = got(door.clinic(Method::POST, "/patient").body("{}")).await;
    unavailable(&write, Some("nothingStored"));
    unavailable(&got(door.clinic(Method::GET, "/patient/1")).await, None);
    let search = got(door.clinic(Method::POST, "/patient/search").body("{}")).await;
    unavailable(&search, None);
}

#[tokio::test]
async fn after_an_upstream_that_hangs_the_outcome_of_a_command_is_unknown() {
    let app = Router::new().fallback(any(async || -> () { std::future::pending().await }));
    let patients = Upstream::serving(app, Arc::default()).await;
    let patience = Duration::from_millis(200);
    let door = Door::before(patients, |settings| settings.upstream_timeout = patience).await;
    let started = Instant::now();
    let write = got(door.clinic(Method::DELETE, "/patient/1")).await;
    unavailable(&write, Some("unknown"));
    unavailable(&got(door.clinic(Method::GET, "/patient/1")).await, None);
    assert!(started.elapsed() < PATIENCE);
}

#[tokio::test]
async fn after_a_connection_that_broke_the_outcome_of_a_command_is_unknown() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        use tokio::io::AsyncReadExt;
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 16]).await;
        }
    });
    let door = Door::before(Upstream::start().await, |settings| settings.patients.url = url).await;
    let write = got(door.clinic(Method::POST, "/patient").body("{}")).await;
    unavailable(&write, Some("unknown"));
}

#[tokio::test]
async fn an_upstream_that_refuses_the_service_key_is_no_fault_of_the_client() {
    for status in [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN] {
        let door = Door::before(Upstream::answering(move |_| problem(status)).await, |_| {}).await;
        let write = got(door.clinic(Method::POST, "/patient").body("{}")).await;
        unavailable(&write, Some("nothingStored"));
        assert!(!write.text.contains("upstream"), "{}", write.text);
    }
    assert!(crate::harness::logs().contains("it refuses the gateway's service key"));
}

#[tokio::test]
async fn an_error_that_is_no_problem_stays_inside() {
    let answer = |_: &_| -> Response {
        (StatusCode::BAD_GATEWAY, "stack trace at /srv/proxy:1").into_response()
    };
    let door = Door::before(Upstream::answering(answer).await, |_| {}).await;
    let write = got(door.clinic(Method::PUT, "/patient/1").body("{}")).await;
    unavailable(&write, Some("unknown"));
    assert!(!write.text.contains("stack trace"));
}

#[tokio::test]
async fn an_answer_that_stops_in_the_middle_is_cut_off() {
    let answer = |_: &_| Response::new(endless_body("{\"first\":"));
    let door = Door::before(Upstream::answering(answer).await, |settings| {
        settings.upstream_timeout = Duration::from_millis(200);
    })
    .await;
    let response = door.clinic(Method::GET, "/patient/1").send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(timeout(PATIENCE, response.bytes()).await.unwrap().is_err());
}

#[tokio::test]
async fn a_long_poll_may_take_its_wait_longer_and_ends_when_the_gateway_stops() {
    let reached = Arc::new(Semaphore::new(0));
    let enter = Arc::clone(&reached);
    let slow = any(async move |request: Request| {
        if request.uri().query() == Some("wait=29") {
            enter.add_permits(1);
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
        "{}\n"
    });
    let audit = Upstream::serving(Router::new().fallback(slow), Arc::default()).await;
    let url = audit.url();
    let door = Door::before(Upstream::start().await, |settings| {
        settings.upstream_timeout = Duration::from_millis(100);
        settings.audit.url = url;
    })
    .await;
    let read = |path: &str| door.request(Method::GET, path).header(KEY_HEADER, COMPLIANCE);
    unavailable(&got(read("/audit/records")).await, None);
    assert_eq!(got(read("/audit/records?wait=5")).await.text, "{}\n");

    let waiting = tokio::spawn(got(read("/audit/records?wait=29")));
    reached.acquire().await.unwrap().forget();
    door.shutdown.cancel();
    unavailable(&timeout(PATIENCE, waiting).await.unwrap().unwrap(), None);
}

#[tokio::test]
async fn the_gateway_is_ready_when_its_upstreams_are() {
    let door = Door::open().await;
    let ready = async |door: &Door| {
        while got(door.request(Method::GET, "/readyz")).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, ready(&door)).await.unwrap();

    let alone = Door::before(Upstream::start().await, |settings| {
        settings.audit.url = "http://127.0.0.1:1".into();
    })
    .await;
    let report = async |door: &Door| loop {
        let report = got(door.request(Method::GET, "/readyz")).await;
        assert_eq!(report.status, 503);
        let components = report.json()["components"].clone();
        if components["audit-service"] != "starting" && components["patient-service"] == "ready" {
            return components;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let components = timeout(PATIENCE, report(&alone)).await.unwrap();
    assert_eq!(components["audit-service"], "unreachable");
    assert_eq!(components["subscriptions"], "ready");
    assert_eq!(got(alone.request(Method::GET, "/healthz")).await.status, 200);
}
