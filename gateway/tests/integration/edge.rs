//! What every answer says to browsers, and what no peer may hold on to.

use std::time::Duration;

use http::Method;
use runtime::serve::{Limits, MAX_BODY_BYTES};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{CLINIC, Door, KEY_HEADER, Upstream, got};
use runtime::networks::Networks;

/// Longer than anything here takes; reached only when a promise is broken.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn every_answer_tells_browsers_to_keep_nothing_and_guess_nothing() {
    let door = Door::open().await;
    let too_long = vec![b'x'; MAX_BODY_BYTES + 1];
    for (request, status) in [
        (door.clinic(Method::GET, "/patient/1"), 200),
        (door.request(Method::GET, "/healthz"), 200),
        (door.request(Method::GET, "/openapi.json"), 200),
        (door.request(Method::GET, "/docs"), 200),
        (door.request(Method::GET, "/patient/1"), 401),
        (door.clinic(Method::GET, "/audit/records"), 403),
        (door.request(Method::GET, "/none"), 404),
        (door.request(Method::OPTIONS, "/patient/1"), 405),
        (door.clinic(Method::POST, "/patient").body(too_long), 413),
        (door.clinic(Method::GET, &format!("/patient/1?a={}", "x".repeat(9_000))), 414),
        (door.clinic(Method::GET, "/patient/1").header("long", "x".repeat(17_000)), 431),
    ] {
        let answer = got(request).await;
        assert_eq!(answer.status, status, "{answer:?}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{name} {answer:?}");
        }
        assert!(answer.header("cache-control").is_some(), "{answer:?}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(answer.header("server"), None);
    }
}

#[tokio::test]
async fn a_body_that_trickles_in_is_answered_408() {
    let door = Door::open().await;
    let stream = TcpStream::connect(door.address).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let head = format!(
        "POST /patient HTTP/1.1\r\nHost: a\r\n{KEY_HEADER}: {CLINIC}\r\nContent-Length: 1000\r\n\r\n"
    );
    writing.write_all(head.as_bytes()).await.unwrap();
    let trickle = tokio::spawn(async move {
        while writing.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    let mut answer = vec![0; 1024];
    let read = timeout(PATIENCE, reading.read(&mut answer)).await.unwrap().unwrap();
    trickle.abort();
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(door.patients.count(), 0);
}

#[tokio::test]
async fn the_bounds_of_the_listener_are_those_of_the_settings() {
    let idle_timeout = Duration::from_millis(200);
    let change = |settings: &mut gateway::config::Settings| {
        settings.edge.limits = Limits { idle_timeout, ..Limits::default() };
    };
    let door = Door::before(Upstream::start().await, change).await;
    let mut stream = TcpStream::connect(door.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_request_names_one_host_or_is_400() {
    let door = Door::open().await;
    for (hosts, status) in [
        ("Host: a\r\n", 200),
        ("Host: a:8080\r\n", 200),
        ("", 400),
        ("Host:\r\n", 400),
        ("Host: a\r\nHost: a\r\n", 400),
        ("Host: a\r\nHost: b\r\n", 400),
        ("Host: b@a\r\n", 400),
        ("Host: a/b\r\n", 400),
        ("Host: a b\r\n", 400),
    ] {
        for path in ["/patient/1", "/healthz"] {
            let before = door.patients.count();
            let request = format!(
                "GET {path} HTTP/1.1\r\n{KEY_HEADER}: {CLINIC}\r\n{hosts}Connection: close\r\n\r\n"
            );
            let mut stream = TcpStream::connect(door.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{hosts:?} {answer}");
            if status == 400 {
                assert_eq!(door.patients.count(), before, "{hosts:?}");
                assert!(answer.contains("content-type: application/problem+json"), "{answer}");
                assert!(answer.contains("x-content-type-options: nosniff"), "{answer}");
                assert!(answer.contains("\"trace\":"), "{answer}");
            }
        }
    }
    door.metric("refusals_total{reason=\"host\"}", 14).await;
}

#[tokio::test]
async fn connections_that_an_address_may_not_have_are_counted() {
    let door = Door::before(Upstream::start().await, |settings| {
        settings.edge.limits.max_connections_per_address = 2;
        settings.edge.uncounted = Networks::default();
    })
    .await;
    assert_eq!(door.metric_now("refused_connections_total").await, 0);
    let mut open = Vec::new();
    let refused = loop {
        let mut stream = TcpStream::connect(door.address).await.unwrap();
        let asked = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let read = timeout(PATIENCE, stream.read(&mut [0; 64])).await.unwrap();
        match (asked, read) {
            (Ok(()), Ok(1..)) => open.push(stream),
            _ => break open.len(),
        }
    };
    assert!(refused <= 2, "{refused}");
    door.metric("refused_connections_total", 1).await;
}
