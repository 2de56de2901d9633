//! What is sent a second time, and what is not; answers that trickle; an upstream that restarts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::any;
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::harness::{Door, PATIENCE, Upstream, got};

const RETRIES: &str = "retries_total{upstream=\"patient-service\"}";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

/// An upstream that resets the first `resets` requests after it has read their head, and answers
/// the others. Looks at its readiness are answered and not counted.
struct Resetting {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Resetting {
    async fn start(resets: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, resets, Arc::clone(&counted)));
            }
        });
        Self { address, requests }
    }

    async fn door(&self) -> Door {
        let url = format!("http://{}", self.address);
        Door::before(Upstream::start().await, |settings| settings.patients.url = url).await
    }

    fn count(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn answer(mut stream: TcpStream, resets: usize, requests: Arc<AtomicUsize>) {
    let mut head = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        head.push(byte);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        if !head.starts_with(b"GET /readyz") && requests.fetch_add(1, Ordering::SeqCst) < resets {
            return;
        }
        // A body, if there is one, is what is left in `{}`; requests here have no other.
        if head.starts_with(b"POST") || head.starts_with(b"PUT") {
            let _ = stream.read_exact(&mut [0; 2]).await;
        }
        head.clear();
        if stream.write_all(ANSWER).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_read_whose_connection_breaks_is_sent_once_more() {
    for method in [Method::GET, Method::HEAD] {
        let upstream = Resetting::start(1).await;
        let door = upstream.door().await;
        assert_eq!(got(door.clinic(method, "/patient/1")).await.status, 200);
        assert_eq!(upstream.count(), 2);
        assert_eq!(door.metric_now(RETRIES).await, 1);
    }
}

#[tokio::test]
async fn a_read_is_sent_twice_at_most() {
    let upstream = Resetting::start(2).await;
    let door = upstream.door().await;
    got(door.clinic(Method::GET, "/patient/1")).await.problem(503);
    assert_eq!(upstream.count(), 2);
    assert_eq!(got(door.clinic(Method::GET, "/patient/1")).await.status, 200);
}

#[tokio::test]
async fn what_may_have_been_done_is_not_sent_again() {
    for (method, path) in [
        (Method::POST, "/patient"),
        (Method::PUT, "/patient/1"),
        (Method::DELETE, "/patient/1"),
        (Method::POST, "/patient/search"),
    ] {
        let upstream = Resetting::start(1).await;
        let door = upstream.door().await;
        let request = door.clinic(method.clone(), path).header("idempotency-key", "a-key");
        got(request.body("{}")).await.problem(503);
        assert_eq!((upstream.count(), door.metric_now(RETRIES).await), (1, 0), "{method} {path}");
    }
}

#[tokio::test]
async fn a_command_that_was_not_sent_is_sent_once_more_if_its_client_gave_it_a_key() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let door = Door::before(Upstream::start().await, |settings| settings.patients.url = url).await;
    let write = || door.clinic(Method::POST, "/patient").body("{}");
    got(write()).await.problem(503);
    assert_eq!(door.metric_now(RETRIES).await, 0);
    let keyed = got(write().header("idempotency-key", "a-key")).await;
    keyed.problem(503);
    assert_eq!(keyed.json()["outcome"], "nothingStored");
    assert_eq!(door.metric_now(RETRIES).await, 1);
    let search = door.clinic(Method::POST, "/patient/search").header("idempotency-key", "a-key");
    got(search.body("{}")).await.problem(503);
    assert_eq!(door.metric_now(RETRIES).await, 1);
}

#[tokio::test]
async fn an_outage_is_not_made_twice_as_large() {
    const READS: u64 = 200;
    let upstream = Resetting::start(usize::MAX).await;
    let door = upstream.door().await;
    // At once, so that none of them is forgotten before the last.
    let reads = (0..READS).map(|_| got(door.clinic(Method::GET, "/patient/1")));
    for answer in futures::future::join_all(reads).await {
        answer.problem(503);
    }
    let retries = door.metric_now(RETRIES).await;
    // One in ten, and one a second of those ten that are remembered.
    assert!((1..=READS / 10 + 10 + 1).contains(&retries), "{retries}");
    assert_eq!(upstream.count() as u64, READS + retries);
}

#[tokio::test]
async fn a_read_that_is_late_is_not_sent_again() {
    let hang = any(async || -> () { std::future::pending().await });
    let patients = Upstream::serving(Router::new().fallback(hang), Arc::default()).await;
    let door = Door::before(patients, |settings| {
        settings.upstream_timeout = Duration::from_millis(100);
    })
    .await;
    got(door.clinic(Method::GET, "/patient/1")).await.problem(503);
    assert_eq!(door.metric_now(RETRIES).await, 0);
}

#[tokio::test]
async fn an_answer_that_trickles_comes_to_an_end() {
    let trickle = any(async || {
        let drops = futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Some((Ok::<_, std::io::Error>("."), ()))
        });
        Response::new(Body::from_stream(drops))
    });
    let patients = Upstream::serving(Router::new().fallback(trickle), Arc::default()).await;
    let door = Door::before(patients, |settings| {
        settings.answer_timeout = Duration::from_millis(500);
    })
    .await;
    let started = Instant::now();
    let response = door.clinic(Method::GET, "/patient/1").send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(timeout(PATIENCE, response.bytes()).await.unwrap().is_err());
    assert!(started.elapsed() >= Duration::from_millis(500));
    // Its place is free again.
    door.metric("in_flight{places=\"reads\"}", 0).await;
}

/// Reads go on while the upstream is stopped, drained and started again on the same address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_restarts_loses_no_read() {
    const RESTARTS: usize = 5;
    const READERS: usize = 4;
    let app = Router::new().fallback(any(async || {
        tokio::time::sleep(Duration::from_millis(5)).await;
        "{}"
    }));
    let mut listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let door = Arc::new(
        Door::before(Upstream::start().await, |settings| {
            settings.patients.url = format!("http://{address}");
        })
        .await,
    );
    let done = Arc::<AtomicBool>::default();
    let mut stop = CancellationToken::new();
    let mut serving = tokio::spawn(runtime::serve::serve(listener, app.clone(), stop.clone()));
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let (door, done) = (Arc::clone(&door), Arc::clone(&done));
            tokio::spawn(async move {
                let mut reads = 0;
                while !done.load(Ordering::Relaxed) {
                    let answer = got(door.clinic(Method::GET, "/patient/1")).await;
                    assert_eq!(answer.status, 200, "after {reads}: {answer:?}");
                    reads += 1;
                }
                reads
            })
        })
        .collect();
    for _ in 0..RESTARTS {
        tokio::time::sleep(Duration::from_millis(500)).await;
        stop.cancel();
        serving.await.unwrap().unwrap();
        stop = CancellationToken::new();
        listener = TcpListener::bind(address).await.unwrap();
        serving = tokio::spawn(runtime::serve::serve(listener, app.clone(), stop.clone()));
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.await.unwrap() > RESTARTS);
    }
    stop.cancel();
}

/// What nobody asked for stays with whoever sent it: it is no answer to the next request.
#[tokio::test]
async fn an_answer_too_many_is_given_to_nobody() {
    const OTHERS: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{\"o\":\"o\"}";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while let Ok(byte) = stream.read_u8().await {
                    head.push(byte);
                    if !head.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    let looks = head.starts_with(b"GET /readyz");
                    let both = if looks { ANSWER.to_vec() } else { [ANSWER, OTHERS].concat() };
                    head.clear();
                    if stream.write_all(&both).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let door = Door::before(Upstream::start().await, |settings| settings.patients.url = url).await;
    for turn in 0..20 {
        let answer = got(door.clinic(Method::GET, "/patient/1")).await;
        assert_eq!((answer.status, &*answer.text), (200, "{}"), "turn {turn}");
    }
}
