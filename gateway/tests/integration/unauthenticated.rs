//! What a stranger's requests may cost.

use std::time::{Duration, Instant};

use gateway::config::{Rate, Settings};
use http::Method;
use runtime::networks::Network;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{BARE, CLINIC, Door, Got, KEY_HEADER, PATIENCE, Upstream, got};

/// So slow that nothing comes back while a test makes its few requests.
async fn door(burst: u32) -> Door {
    door_with(burst, |_| {}).await
}

async fn door_with(burst: u32, change: impl FnOnce(&mut Settings)) -> Door {
    let change = |settings: &mut Settings| {
        settings.edge.unauthenticated = Rate::new(1, burst);
        change(settings);
    };
    Door::before(Upstream::start().await, change).await
}

async fn with_key(door: &Door, key: &str) -> Got {
    got(door.request(Method::GET, "/patient/1").header(KEY_HEADER, key)).await
}

#[tokio::test]
async fn requests_that_show_nobody_are_limited_and_valid_keys_from_the_same_address_are_not() {
    let door = door(3).await;
    with_key(&door, "canary-wrong").await.problem(401);
    got(door.request(Method::GET, "/patient/1")).await.problem(401);
    let in_query = door.request(Method::POST, "/patient?subscription-key=canary-no").body("{}");
    got(in_query).await.problem(401);
    for _ in 0..5 {
        let refused = with_key(&door, "canary-wrong").await;
        assert_eq!(refused.problem(429), "Rate limit is exceeded. Try again in 1 seconds.");
        assert_eq!(refused.retry_after(), 1);
        assert_eq!(refused.header("www-authenticate"), None);
        assert_eq!(with_key(&door, CLINIC).await.status, 200);
        with_key(&door, BARE).await.problem(403);
    }
    // What needs no key is not counted either.
    assert_eq!(got(door.request(Method::GET, "/healthz")).await.status, 200);
    got(door.request(Method::GET, "/none")).await.problem(404);
    door.metric("refusals_total{reason=\"wrong_key\"}", 2).await;
    door.metric("refusals_total{reason=\"no_key\"}", 1).await;
    door.metric("refusals_total{reason=\"unauthenticated_rate\"}", 5).await;

    let waiting = Instant::now();
    while with_key(&door, "canary-wrong").await.status == 429 {
        assert!(waiting.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn each_address_behind_a_trusted_proxy_is_counted_apart() {
    let proxy: Network = "127.0.0.1".parse().unwrap();
    let door = door_with(2, |settings| {
        settings.edge.trusted_proxies = [proxy].into_iter().collect();
    })
    .await;
    let from = async |client: &str| {
        let request = door.request(Method::GET, "/patient/1").header("x-forwarded-for", client);
        got(request).await.status
    };
    for address in ["192.0.2.1", "2001:db8::1"] {
        assert_eq!(from(address).await, 401);
        assert_eq!(from(address).await, 401);
        assert_eq!(from(address).await, 429, "{address}");
    }
    // One host has a whole /64.
    assert_eq!(from("2001:db8::2:3:4:5").await, 429);
    assert_eq!(from("::ffff:192.0.2.1").await, 429);
    assert_eq!(from("2001:db8:0:1::1").await, 401);
    assert_eq!(from("192.0.2.2").await, 401);
    // Who is no trusted proxy cannot choose.
    let door = self::door(1).await;
    let mut statuses = Vec::new();
    for client in ["192.0.2.1", "192.0.2.2"] {
        let request = door.request(Method::GET, "/patient/1").header("x-forwarded-for", client);
        statuses.push(got(request).await.status);
    }
    assert_eq!(statuses, [401, 429]);
}

/// A connection that has sent the head of a request with a body of so many bytes.
async fn sending(door: &Door, key: &str, bytes: usize) -> TcpStream {
    let mut stream = TcpStream::connect(door.address).await.unwrap();
    let head = format!(
        "POST /patient HTTP/1.1\r\nHost: a\r\n{KEY_HEADER}: {key}\r\nContent-Length: {bytes}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// What comes back until the connection is closed.
async fn answer(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it closes").unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_large_body_of_a_stranger_is_not_waited_for() {
    let door = door(2).await;
    // Not a byte of the body is ever sent.
    for status in ["401", "401", "429"] {
        let answer = answer(sending(&door, "canary-wrong", 64 * 1024 + 1).await).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    }
    // Over the limit not even a small one is.
    let answer = answer(sending(&door, "canary-wrong", 1).await).await;
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    // Without a body the connection stays: the next one would cost more.
    let mut stream = TcpStream::connect(door.address).await.unwrap();
    for _ in 0..2 {
        stream.write_all(b"GET /patient/1 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = [0; 2048];
        let read = timeout(PATIENCE, stream.read(&mut answer)).await.unwrap().unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 429 "));
    }
}

#[tokio::test]
async fn an_endless_body_of_a_stranger_is_read_for_a_little_only() {
    let door = door(1).await;
    for status in ["401", "429"] {
        if status == "429" {
            for _ in 0..3 {
                with_key(&door, "canary-wrong").await;
            }
        }
        let stream = TcpStream::connect(door.address).await.unwrap();
        let (mut reading, mut writing) = stream.into_split();
        let head = format!(
            "POST /patient HTTP/1.1\r\nHost: a\r\n{KEY_HEADER}: canary-wrong\r\n\
             Transfer-Encoding: chunked\r\n\r\n"
        );
        writing.write_all(head.as_bytes()).await.unwrap();
        let chunk = format!("{:x}\r\n{}\r\n", 4096, "x".repeat(4096));
        let sending = tokio::spawn(async move {
            while writing.write_all(chunk.as_bytes()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        let mut answer = vec![0; 4096];
        let read = timeout(PATIENCE, reading.read(&mut answer)).await.unwrap().unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        // It ends by itself: nobody takes what is sent.
        timeout(PATIENCE, sending).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_small_body_of_a_stranger_leaves_the_connection_open() {
    let door = door(5).await;
    let mut stream = TcpStream::connect(door.address).await.unwrap();
    for _ in 0..2 {
        let request = "POST /patient HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 2048];
        let read = timeout(PATIENCE, stream.read(&mut answer)).await.unwrap().unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 401 "));
    }
}
