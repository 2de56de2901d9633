//! A listener and those whom it does not take.

use axum::{Router, routing::get};
use runtime::{
    listener::{Listener, Peers},
    networks::Network,
    serve::serve,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::serve::PATIENCE;

/// What a client on loopback is answered by a listener for this network.
async fn answer_to_loopback(network: &str) -> String {
    let network: Network = network.parse().unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let listener = Listener::new(tcp, Peers::Of([network].into_iter().collect()));
    let app = Router::new().route("/", get(async || "hello"));
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, app, shutdown.clone()));
    let mut answer = String::new();
    // The second one finds the listener still at work.
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        let _ = stream.write_all(request).await;
        let mut text = String::new();
        // An end and a reset are both the listener's doing.
        let _ = timeout(PATIENCE, stream.read_to_string(&mut text)).await.unwrap();
        answer = text;
    }
    shutdown.cancel();
    serving.await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn a_connection_from_elsewhere_is_closed_without_an_answer() {
    assert_eq!(answer_to_loopback("10.0.0.0/8").await, "");
    assert!(answer_to_loopback("127.0.0.0/8").await.contains("hello"));
}
