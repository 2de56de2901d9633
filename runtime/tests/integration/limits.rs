//! What a peer may hold on to, and for how long.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use futures::StreamExt;
use h2::client::SendRequest;
use http::Request;
use runtime::networks::Networks;
use runtime::serve::{Limits, Server as Serving};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::serve::{PATIENCE, held, start, start_as};

/// A bound that is reached in these tests.
const SHORT: Duration = Duration::from_millis(200);

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn hello() -> Router {
    Router::new().route("/", get(async || "hello"))
}

/// Reads one answer of `hello`.
async fn answered(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"hello") {
        assert_ne!(timeout(PATIENCE, stream.read_buf(&mut text)).await.unwrap().unwrap(), 0);
    }
    String::from_utf8(text).unwrap()
}

async fn ask(stream: &mut TcpStream) -> String {
    stream.write_all(GET).await.unwrap();
    answered(stream).await
}

/// The connection ends without a reset and without another byte; how long that took.
async fn closed_cleanly(stream: &mut TcpStream) -> Duration {
    let started = Instant::now();
    let mut rest = Vec::new();
    assert_eq!(timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap().unwrap(), 0);
    started.elapsed()
}

async fn http2(
    address: std::net::SocketAddr,
    builder: &h2::client::Builder,
) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (requests, connection) = builder.handshake(stream).await.unwrap();
    (requests, tokio::spawn(connection))
}

fn get_over_http2() -> Request<()> {
    Request::get("http://a/").body(()).unwrap()
}

#[tokio::test]
async fn an_idle_connection_outlives_the_head_timeout_and_is_closed_at_its_own() {
    let limits =
        Limits { header_read_timeout: SHORT, idle_timeout: 4 * SHORT, ..Limits::default() };
    let server = start(hello(), limits).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    ask(&mut stream).await;
    tokio::time::sleep(2 * SHORT).await;
    ask(&mut stream).await;
    let lasted = closed_cleanly(&mut stream).await;
    assert!(lasted >= 3 * SHORT, "{lasted:?}");
}

#[tokio::test]
async fn a_slow_head_is_cut_off_on_a_connection_that_was_used_before() {
    let limits = Limits { header_read_timeout: SHORT, ..Limits::default() };
    let server = start(hello(), limits).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    ask(&mut stream).await;
    let started = Instant::now();
    let mut byte = [0];
    loop {
        // A byte now and then keeps no connection.
        if stream.write_all(b"G").await.is_err() {
            break;
        }
        match timeout(SHORT / 4, stream.read(&mut byte)).await {
            Err(_) => assert!(started.elapsed() < PATIENCE, "a slow head was waited for"),
            Ok(_) => break,
        }
    }
    assert!(started.elapsed() >= SHORT / 2);
}

#[tokio::test]
async fn an_idle_http2_connection_is_told_to_go_away() {
    let limits =
        Limits { header_read_timeout: SHORT, idle_timeout: 2 * SHORT, ..Limits::default() };
    let server = start(hello(), limits).await;
    let (requests, connection) = http2(server.address, &h2::client::Builder::new()).await;
    let (response, _) = requests.clone().send_request(get_over_http2(), true).unwrap();
    response.await.unwrap();
    let started = Instant::now();
    timeout(PATIENCE, connection).await.unwrap().unwrap().unwrap();
    assert!(started.elapsed() >= SHORT);
}

#[tokio::test]
async fn an_http2_connection_without_a_request_is_cut() {
    let limits = Limits { header_read_timeout: SHORT, ..Limits::default() };
    let server = start(hello(), limits).await;
    let (_requests, connection) = http2(server.address, &h2::client::Builder::new()).await;
    let _ = timeout(PATIENCE, connection).await.expect("the connection is cut");
}

/// Says when it is dropped.
struct Dropped(tokio::sync::mpsc::UnboundedSender<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// An answer without an end, in pieces, and when each of its bodies is given up.
fn endless(piece: usize) -> (Router, UnboundedReceiver<()>) {
    let (dropped, seen) = unbounded_channel();
    let handler = get(async move || {
        let held = Dropped(dropped.clone());
        let piece = Bytes::from(vec![b'x'; piece]);
        let pieces = futures::stream::repeat_with(move || {
            let _held = &held;
            Ok::<_, std::io::Error>(piece.clone())
        });
        Body::from_stream(pieces)
    });
    (Router::new().route("/", handler), seen)
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_given_up() {
    let (app, mut given_up) = endless(64 * 1024);
    let limits = Limits { write_timeout: SHORT, ..Limits::default() };
    let server = start(app, limits).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(GET).await.unwrap();
    timeout(PATIENCE, given_up.recv()).await.expect("it holds its place for ever").unwrap();
}

#[tokio::test]
async fn an_http2_answer_without_a_window_is_given_up() {
    let (app, mut given_up) = endless(1024);
    let limits = Limits { write_timeout: SHORT, ..Limits::default() };
    let server = start(app, limits).await;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(0);
    let (requests, _connection) = http2(server.address, &builder).await;
    let (response, _) = requests.clone().send_request(get_over_http2(), true).unwrap();
    let _response = response.await.unwrap();
    timeout(PATIENCE, given_up.recv()).await.expect("it holds its place for ever").unwrap();
}

#[tokio::test]
async fn an_answer_that_is_taken_too_slowly_is_given_up() {
    let (app, mut given_up) = endless(1024);
    let limits = Limits { answer_timeout: 3 * SHORT, ..Limits::default() };
    let server = start(app, limits).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(GET).await.unwrap();
    let started = Instant::now();
    let mut some = [0; 1024];
    while given_up.try_recv().is_err() {
        assert!(started.elapsed() < PATIENCE, "it holds its place for ever");
        let _ = timeout(SHORT / 10, stream.read(&mut some)).await;
    }
    assert!(started.elapsed() >= 2 * SHORT);
}

#[tokio::test]
async fn a_slow_handler_is_not_taken_for_a_slow_reader() {
    let handler = get(async || {
        let pieces = futures::stream::iter(["hel", "lo"]).then(async |piece| {
            tokio::time::sleep(3 * SHORT).await;
            Ok::<_, std::io::Error>(piece)
        });
        Body::from_stream(pieces)
    });
    let limits = Limits { write_timeout: SHORT, header_read_timeout: SHORT, ..Limits::default() };
    let server = start(Router::new().route("/", handler), limits).await;
    let text = reqwest::get(server.url("/")).await.unwrap().text().await.unwrap();
    assert_eq!(text, "hello");
}

#[tokio::test]
async fn an_address_has_no_more_connections_than_it_may() {
    let limits = Limits { max_connections_per_address: 2, ..Limits::default() };
    let serving = Serving { limits, uncounted: Networks::default(), ..Serving::default() };
    let refused = Arc::clone(&serving.refused);
    let server = start_as(hello(), serving).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        ask(&mut stream).await;
        open.push(stream);
    }
    let mut third = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(timeout(PATIENCE, third.read(&mut [0])).await.unwrap().unwrap(), 0);
    assert_eq!(refused.load(Ordering::Relaxed), 1);
    open.pop();
    // The place is free when the server has noticed that its connection is gone.
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < PATIENCE, "the place is not free again");
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let sent = stream.write_all(GET).await;
        if sent.is_ok() && stream.read(&mut [0]).await.is_ok_and(|read| read > 0) {
            break;
        }
    }
}

#[tokio::test]
async fn idle_connections_make_room_for_those_that_wait() {
    let limits = Limits { max_connections: 1, header_read_timeout: SHORT, ..Limits::default() };
    let server = start(hello(), limits).await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    ask(&mut first).await;
    let mut second = TcpStream::connect(server.address).await.unwrap();
    ask(&mut second).await;
    closed_cleanly(&mut first).await;
}

#[tokio::test]
async fn streams_that_are_reset_at_once_end_the_connection() {
    let (app, _reached, _release) = held();
    let server = start(app, Limits::default()).await;
    let (mut requests, mut connection) = http2(server.address, &h2::client::Builder::new()).await;
    for _ in 0..10_000 {
        if connection.is_finished() {
            break;
        }
        // Without room for another stream some of the resets go out first.
        if timeout(SHORT, futures::future::poll_fn(|cx| requests.poll_ready(cx))).await.is_err() {
            continue;
        }
        let Ok((response, _)) = requests.send_request(get_over_http2(), true) else { break };
        drop(response);
    }
    let error = timeout(PATIENCE, &mut connection).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM), "{error}");
}

#[tokio::test]
async fn heads_that_are_too_long_are_refused() {
    let server = start(hello(), Limits::default()).await;
    let long = "x".repeat(70_000);
    let many = "a: b\r\n".repeat(101);
    for (head, status) in [
        (format!("GET / HTTP/1.1\r\nHost: a\r\nLong: {long}\r\n\r\n"), "431"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), "431"),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", &long[..65_600]), "431"),
        ("GET / HTTP/1.1\r\nbad header\r\n\r\n".to_owned(), "400"),
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    let (requests, _connection) = http2(server.address, &h2::client::Builder::new()).await;
    let mut request = get_over_http2();
    request.headers_mut().insert("long", long.parse().unwrap());
    let (response, _) = requests.clone().send_request(request, true).unwrap();
    let refused = timeout(PATIENCE, response).await.unwrap();
    assert!(refused.is_err() || refused.unwrap().status() == 431);
}

#[tokio::test]
async fn a_shutdown_answers_what_a_kept_alive_connection_still_asks() {
    let limits = Limits { drain_idle: 3 * SHORT, ..Limits::default() };
    let server = start(hello(), limits).await;
    let mut used = TcpStream::connect(server.address).await.unwrap();
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    assert!(!ask(&mut used).await.contains("connection: close"));
    ask(&mut idle).await;
    let (two, connection) = http2(server.address, &h2::client::Builder::new()).await;
    two.clone().send_request(get_over_http2(), true).unwrap().0.await.unwrap();
    server.shutdown.cancel();
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    timeout(PATIENCE, connection).await.unwrap().unwrap().unwrap();
    assert!(ask(&mut used).await.contains("connection: close"));
    closed_cleanly(&mut used).await;
    closed_cleanly(&mut idle).await;
    timeout(PATIENCE, server.ended).await.unwrap().unwrap().unwrap();
}
