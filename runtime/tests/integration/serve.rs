//! The accept loop against real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::routing::{get, post};
use http::StatusCode;
use runtime::client::internal_client;
use runtime::problem::Problem;
use runtime::serve::{Limits, Server as Serving, read_body};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes; reached only when a promise is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) ended: JoinHandle<std::io::Result<()>>,
}

pub(crate) async fn start(app: Router, limits: Limits) -> Server {
    start_as(app, Serving { limits, ..Serving::default() }).await
}

pub(crate) async fn start_as(app: Router, serving: Serving) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let ended = tokio::spawn(serving.serve(listener, app, shutdown.clone()));
    Server { address, shutdown, ended }
}

impl Server {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

#[tokio::test]
async fn a_head_that_does_not_arrive_is_cut_off() {
    let header_read_timeout = Duration::from_millis(200);
    let limits = Limits { header_read_timeout, ..Limits::default() };
    let server = start(Router::new(), limits).await;
    for partial in ["", "P", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nHost: a"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let started = Instant::now();
        stream.write_all(partial.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        // Reset and end are both the server's doing.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect(partial);
        assert!(started.elapsed() >= header_read_timeout / 2, "{partial:?}");
    }
}

#[tokio::test]
async fn a_long_answer_outlives_the_head_timeout() {
    let header_read_timeout = Duration::from_millis(100);
    let slow = get(async || {
        tokio::time::sleep(Duration::from_millis(400)).await;
        "done"
    });
    let limits = Limits { header_read_timeout, ..Limits::default() };
    let server = start(Router::new().route("/", slow), limits).await;
    let response = internal_client().get(server.url("/")).send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "done");
}

/// A route that says when it was reached and answers when told to.
pub(crate) fn held() -> (Router, Arc<Notify>, Arc<Notify>) {
    let (reached, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (enter, leave) = (Arc::clone(&reached), Arc::clone(&release));
    let handler = get(async move || {
        enter.notify_one();
        leave.notified().await;
        "finished"
    });
    (Router::new().route("/", handler), reached, release)
}

#[tokio::test]
async fn draining_finishes_what_is_in_flight_and_accepts_nothing_more() {
    let (app, reached, release) = held();
    let server = start(app, Limits::default()).await;
    let request = tokio::spawn(internal_client().get(server.url("/")).send());
    reached.notified().await;
    server.shutdown.cancel();
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!server.ended.is_finished());
    release.notify_one();
    let response = request.await.unwrap().unwrap();
    assert_eq!(response.text().await.unwrap(), "finished");
    timeout(PATIENCE, server.ended).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn draining_ends_although_a_request_does_not() {
    let (app, reached, _release) = held();
    let limits = Limits { drain_timeout: Duration::from_millis(100), ..Limits::default() };
    let server = start(app, limits).await;
    let request = tokio::spawn(internal_client().get(server.url("/")).send());
    reached.notified().await;
    server.shutdown.cancel();
    timeout(PATIENCE, server.ended).await.unwrap().unwrap().unwrap();
    assert!(timeout(PATIENCE, request).await.unwrap().unwrap().is_err());
}

#[tokio::test]
async fn connections_over_the_bound_wait_for_a_place() {
    let (app, reached, release) = held();
    let server = start(app, Limits { max_connections: 1, ..Limits::default() }).await;
    let client = internal_client();
    let first = tokio::spawn(client.get(server.url("/")).header("connection", "close").send());
    reached.notified().await;
    let second = tokio::spawn(client.get(server.url("/")).header("connection", "close").send());
    let early = timeout(Duration::from_millis(100), reached.notified()).await;
    assert!(early.is_err(), "the second connection was served beside the first");
    release.notify_one();
    first.await.unwrap().unwrap();
    timeout(PATIENCE, reached.notified()).await.unwrap();
    release.notify_one();
    second.await.unwrap().unwrap();
}

#[tokio::test]
async fn requests_carry_the_peer_and_both_versions_of_http_are_spoken() {
    let peer = get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.ip().to_string());
    let server = start(Router::new().route("/", peer), Limits::default()).await;
    let two = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    for client in [internal_client(), two] {
        let response = client.get(server.url("/")).send().await.unwrap();
        assert_eq!(response.text().await.unwrap(), "127.0.0.1");
    }
}

#[tokio::test]
async fn a_panic_is_a_500_that_tells_nothing() {
    let app = Router::new().route("/", get(async || -> &str { panic!("canary-patient") }));
    let server = start(app, Limits::default()).await;
    let response = internal_client().get(server.url("/")).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!response.text().await.unwrap().contains("canary"));
}

async fn length(body: Body) -> Result<String, Problem> {
    read_body(body, 1000).await.map(|bytes| bytes.len().to_string())
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_with_or_without_its_length() {
    let server = start(Router::new().route("/", post(length)), Limits::default()).await;
    let client = internal_client();
    let whole = |size: usize| reqwest::Body::from(vec![b'x'; size]);
    let pieces = |size: usize| {
        let piece = move |_| Ok::<_, std::io::Error>(vec![b'x'; 100]);
        reqwest::Body::wrap_stream(futures::stream::iter((0..size / 100).map(piece)))
    };
    for (body, status) in [
        (whole(1000), StatusCode::OK),
        (pieces(1000), StatusCode::OK),
        (whole(1001), StatusCode::PAYLOAD_TOO_LARGE),
        (pieces(1100), StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let response = client.post(server.url("/")).body(body).send().await.unwrap();
        assert_eq!(response.status(), status);
        let text = response.text().await.unwrap();
        assert!(text.contains("1000"), "{text}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_400() {
    let broken = futures::stream::iter([Ok("part"), Err(std::io::Error::other("gone"))]);
    let problem = read_body(Body::from_stream(broken), 1000).await.unwrap_err();
    assert_eq!(problem.status(), StatusCode::BAD_REQUEST);
    assert!(!problem.detail().contains("gone"));
}
