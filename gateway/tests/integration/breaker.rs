//! While an upstream cannot be reached, nobody waits for it; one that is only slow is no such case.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use axum::routing::any;
use http::{Method, StatusCode};
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::timeout;

use crate::harness::{COMPLIANCE, Door, Got, KEY_HEADER, PATIENCE, Upstream, got, problem};

const OPEN: &str = "breaker_open{upstream=\"patient-service\"}";
/// Requests that found it open.
const REFUSED: &str =
    "upstream_failures_total{reason=\"breaker_open\",upstream=\"patient-service\"}";

/// Sends reads until the breaker is open.
async fn opened(door: &Door) {
    let opening = async {
        while door.metric_now(OPEN).await == 0 {
            got(door.clinic(Method::GET, "/patient/1")).await.problem(503);
        }
    };
    timeout(PATIENCE, opening).await.expect("it opens");
}

#[track_caller]
fn refused_at_once(answer: &Got, started: Instant, outcome: Option<&str>) {
    answer.problem(503);
    assert!(answer.header("retry-after").is_some());
    assert_eq!(answer.json()["outcome"].as_str(), outcome);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

async fn serve_again(address: SocketAddr) -> Upstream {
    let listener = TcpListener::bind(address).await.unwrap();
    Upstream::on(listener, Router::new().fallback(any(async || "{}")))
}

#[tokio::test]
async fn an_upstream_that_is_away_opens_it_and_one_that_is_back_closes_it() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let door = Door::before(Upstream::start().await, |settings| {
        settings.patients.url = format!("http://{address}");
    })
    .await;
    opened(&door).await;
    let started = Instant::now();
    let write = got(door.clinic(Method::POST, "/patient").body("{}")).await;
    refused_at_once(&write, started, Some("nothingStored"));
    assert!(door.metric_now(REFUSED).await > 0);
    // The other upstream has a breaker of its own.
    let read = door.request(Method::GET, "/audit/key").header(KEY_HEADER, COMPLIANCE);
    assert_eq!(got(read).await.status, 200);

    let _back = serve_again(address).await;
    door.metric(OPEN, 0).await;
    assert_eq!(got(door.clinic(Method::GET, "/patient/1")).await.status, 200);
    let ready = async {
        while got(door.request(Method::GET, "/readyz")).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, ready).await.unwrap();
}

/// Connections are made by the kernel and nobody ever answers them, not even about readiness.
#[tokio::test]
async fn an_upstream_that_answers_nobody_opens_it() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let dead = socket.listen(1_024).unwrap();
    let address = dead.local_addr().unwrap();
    let door = Door::before(Upstream::start().await, |settings| {
        settings.patients.url = format!("http://{address}");
        settings.upstream_timeout = Duration::from_millis(100);
    })
    .await;
    opened(&door).await;
    let started = Instant::now();
    let write = got(door.clinic(Method::DELETE, "/patient/1")).await;
    refused_at_once(&write, started, Some("nothingStored"));
}

#[tokio::test]
async fn one_slow_route_or_client_never_opens_it() {
    let slow = any(async |request: Request| {
        if request.uri().path() == "/patient/search" {
            std::future::pending::<()>().await;
        }
        "{}".into_response()
    });
    let patients = Upstream::serving(Router::new().fallback(slow), Arc::default()).await;
    let door = Door::before(patients, |settings| {
        settings.upstream_timeout = Duration::from_millis(100);
    })
    .await;
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(2_500) {
        got(door.clinic(Method::POST, "/patient/search").body("{}")).await.problem(503);
        // A client that goes away in the middle says nothing about the upstream either.
        let search = got(door.clinic(Method::POST, "/patient/search").body("{}"));
        let _ = timeout(Duration::from_millis(20), search).await;
    }
    let late = "upstream_failures_total{reason=\"late\",upstream=\"patient-service\"}";
    assert!(door.metric_now(late).await > 10);
    assert_eq!((door.metric_now(OPEN).await, door.metric_now(REFUSED).await), (0, 0));
    assert_eq!(got(door.clinic(Method::GET, "/patient/1")).await.status, 200);
}

#[tokio::test]
async fn errors_that_an_upstream_answers_never_open_it() {
    for status in [StatusCode::NOT_FOUND, StatusCode::SERVICE_UNAVAILABLE, StatusCode::FORBIDDEN] {
        let door = Door::before(Upstream::answering(move |_| problem(status)).await, |_| {}).await;
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(1_200) {
            got(door.clinic(Method::GET, "/patient/1")).await;
        }
        assert_eq!((door.metric_now(OPEN).await, door.metric_now(REFUSED).await), (0, 0));
        assert!(door.patients.count() > 10);
    }
}
