//! Stopping loses no request.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::harness::{CLINIC, Door, KEY_HEADER, Upstream, got};

/// Longer than anything here takes; reached only when a promise is broken.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_stop_is_announced_before_it_happens() {
    let drain_delay = Duration::from_millis(500);
    let change = |settings: &mut gateway::config::Settings| settings.edge.drain_delay = drain_delay;
    let door = Door::before(Upstream::start().await, change).await;
    let ready = async || got(door.request(Method::GET, "/readyz")).await;
    let started = Instant::now();
    while ready().await.status != 200 {
        assert!(started.elapsed() < PATIENCE, "never ready");
        sleep(Duration::from_millis(10)).await;
    }
    let stopped = Instant::now();
    door.shutdown.cancel();
    let announced = loop {
        let answer = ready().await;
        if answer.status == 503 {
            break answer;
        }
    };
    assert_eq!(announced.json()["components"]["listener"], "stopping");
    // New connections are still taken, and served.
    let fresh = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/patient/1", door.address);
    let answer = fresh.get(url).header(KEY_HEADER, CLINIC).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    while TcpStream::connect(door.address).await.is_ok() {
        assert!(stopped.elapsed() < PATIENCE, "it never stops accepting");
        sleep(Duration::from_millis(10)).await;
    }
    assert!(stopped.elapsed() >= drain_delay);
}

/// How the requests of a client went.
#[derive(Default)]
struct Went {
    answered: usize,
    told_to_close: bool,
    /// Sent over a connection that had answered before, and never answered.
    lost: usize,
}

/// Asks over kept-alive connections until nobody listens any more.
async fn ask_until_refused(address: SocketAddr, pause: Duration) -> Went {
    let mut went = Went::default();
    'connections: loop {
        let Ok(mut stream) = TcpStream::connect(address).await else { return went };
        let mut used = false;
        loop {
            match ask(&mut stream).await {
                Ok(last) => {
                    went.answered += 1;
                    used = true;
                    if last {
                        went.told_to_close = true;
                        continue 'connections;
                    }
                }
                Err(_) => {
                    went.lost += usize::from(used);
                    continue 'connections;
                }
            }
            sleep(pause).await;
        }
    }
}

/// One request; whether its answer says that it is the last.
async fn ask(stream: &mut TcpStream) -> io::Result<bool> {
    let request = format!("GET /patient/1 HTTP/1.1\r\nHost: a\r\n{KEY_HEADER}: {CLINIC}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // The upstream's answer has no body.
    while !answer.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    Ok(answer.contains("connection: close"))
}

/// Asks over one HTTP/2 connection until nobody listens any more; how often it was answered.
async fn ask_over_http2(client: reqwest::Client, url: String) -> usize {
    let mut answered = 0;
    loop {
        match client.get(&url).header(KEY_HEADER, CLINIC).send().await {
            Ok(answer) => {
                assert_eq!(answer.status(), 200);
                answered += 1;
            }
            Err(error) if error.is_connect() => return answered,
            Err(error) => panic!("a request was lost: {error:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_under_load_loses_no_request() {
    let door = Door::open().await;
    let clients: Vec<_> = (0..8)
        .map(|i| tokio::spawn(ask_until_refused(door.address, Duration::from_millis(20 * i))))
        .collect();
    let two = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let url = format!("http://{}/patient/1", door.address);
    let streams: Vec<_> =
        (0..4).map(|_| tokio::spawn(ask_over_http2(two.clone(), url.clone()))).collect();
    let started = Instant::now();
    while door.patients.count() < 300 {
        assert!(started.elapsed() < PATIENCE, "there is no load");
        sleep(Duration::from_millis(10)).await;
    }
    door.shutdown.cancel();
    for client in clients {
        let went = timeout(PATIENCE, client).await.unwrap().unwrap();
        assert!(went.answered > 0 && went.told_to_close);
        assert_eq!(went.lost, 0);
    }
    for stream in streams {
        assert!(timeout(PATIENCE, stream).await.unwrap().unwrap() > 0);
    }
}
