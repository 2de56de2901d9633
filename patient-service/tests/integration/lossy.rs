//! A proxy before the audit service that loses answers on demand: the request gets there, the
//! answer does not come back. It also holds an append back while something else happens.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use domain::record::RecordType;
use http::StatusCode;
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
};

/// How a record says that its command id was never sent before.
const FRESH: &[u8] = br#""fresh":true"#;

#[derive(Clone)]
pub(crate) struct Lossy {
    upstream: String,
    http: reqwest::Client,
    /// Appends whose answers are lost from now on.
    losing: Arc<AtomicUsize>,
    /// Appends with a record that was said to be fresh.
    fresh: Arc<AtomicUsize>,
    holding: Arc<Mutex<Option<Holding>>>,
    /// Every request waits while this says so.
    stalling: Arc<watch::Sender<bool>>,
}

/// The next append with a record of this type waits.
struct Holding {
    record_type: String,
    reached: oneshot::Sender<()>,
    go: oneshot::Receiver<()>,
}

/// An append that is or will be held back.
pub(crate) struct Held {
    /// The append was sent and has not reached the ledger.
    pub(crate) reached: oneshot::Receiver<()>,
    /// Lets it go on.
    pub(crate) go: oneshot::Sender<()>,
}

impl Lossy {
    /// Starts the proxy and gives it with its address.
    pub(crate) async fn start(upstream: &str) -> (Self, String) {
        let lossy = Self {
            upstream: upstream.to_owned(),
            http: runtime::client::internal_client(),
            losing: Arc::default(),
            fresh: Arc::default(),
            holding: Arc::default(),
            stalling: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(forward).with_state(lossy.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (lossy, url)
    }

    /// Loses the answers to the next `count` appends.
    pub(crate) fn lose(&self, count: usize) {
        self.losing.store(count, Ordering::SeqCst);
    }

    /// Lets every request wait, or go on.
    pub(crate) fn stall(&self, stalling: bool) {
        self.stalling.send_replace(stalling);
    }

    /// Holds the next append with a record of a type back.
    pub(crate) fn hold(&self, record_type: RecordType) -> Held {
        let (reached, when_reached) = oneshot::channel();
        let (go, when_to_go) = oneshot::channel();
        let record_type = format!("\"type\":\"{record_type}\"");
        let holding = Holding { record_type, reached, go: when_to_go };
        *self.holding.lock().unwrap() = Some(holding);
        Held { reached: when_reached, go }
    }

    fn held(&self, body: &[u8]) -> Option<Holding> {
        let mut holding = self.holding.lock().unwrap();
        let waits = holding.as_ref().is_some_and(|holding| {
            let text = holding.record_type.as_bytes();
            body.windows(text.len()).any(|window| window == text)
        });
        if waits { holding.take() } else { None }
    }

    /// How many appends had a record that was said to be fresh.
    pub(crate) fn fresh(&self) -> usize {
        self.fresh.load(Ordering::SeqCst)
    }
}

async fn forward(State(lossy): State<Lossy>, request: Request) -> Response {
    let going = lossy.stalling.subscribe().wait_for(|stalling| !stalling).await.is_ok();
    assert!(going, "the proxy has the sender");
    let (parts, body) = request.into_parts();
    let append = parts.method == http::Method::POST;
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    if body.windows(FRESH.len()).any(|window| window == FRESH) {
        lossy.fresh.fetch_add(1, Ordering::SeqCst);
    }
    if let Some(Holding { reached, go, .. }) = lossy.held(&body) {
        reached.send(()).unwrap();
        go.await.unwrap();
    }
    let url = format!("{}{}", lossy.upstream, parts.uri);
    let sent = lossy.http.request(parts.method, url).headers(parts.headers).body(body);
    let Ok(answer) = sent.send().await else { return StatusCode::BAD_GATEWAY.into_response() };
    let lost = append
        && lossy
            .losing
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
            .is_ok();
    if lost {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = answer.status();
    *response.headers_mut() = answer.headers().clone();
    *response.body_mut() = Body::from(answer.bytes().await.unwrap());
    response
}
