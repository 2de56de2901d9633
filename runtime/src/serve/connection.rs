//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use futures::FutureExt;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::App;
use super::activity::{Activity, Surroundings, Verdict};
use super::limits::Limits;
use super::places::Place;
use super::stream::Guarded;
use crate::problem::panic_response;
use crate::tls::TlsAcceptor;

/// The longest request head over HTTP/1.1, and how much of an answer waits for a slow peer, in
/// bytes. hyper answers 431 to a longer one.
const HTTP1_BUFFER_BYTES: usize = 64 * 1024;

/// Headers of a request over HTTP/1.1. hyper answers 431 to more.
const HTTP1_MAX_HEADERS: usize = 100;

/// The longest list of headers over HTTP/2, in bytes. What comes in CONTINUATION frames counts, and
/// h2 closes the connection of a peer that goes on beyond it.
const HTTP2_MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;

/// Requests at once on one HTTP/2 connection.
const HTTP2_MAX_STREAMS: u32 = 256;

/// Streams that a peer has reset before they were accepted; more at once is a rapid reset, and the
/// connection is closed.
const HTTP2_MAX_PENDING_RESETS: usize = 20;

/// Streams that were reset because of a peer's errors; more closes the connection.
const HTTP2_MAX_ERROR_RESETS: usize = 128;

/// How much of an answer waits for its stream's window, in bytes.
const HTTP2_SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Between pings on an HTTP/2 connection, and how long a peer may take to answer one.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(10);

/// What all connections of a server share.
pub(super) struct Shared<A> {
    pub(super) app: A,
    pub(super) limits: Limits,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) http: auto::Builder<TokioExecutor>,
    pub(super) slots: Arc<Semaphore>,
    pub(super) draining: CancellationToken,
}

pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) slot: OwnedSemaphorePermit,
    pub(super) place: Place,
}

/// The protocols with all their bounds. Heads have none of hyper's timeouts, which would count the
/// time between requests as well.
pub(super) fn protocols() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(HTTP1_BUFFER_BYTES)
        .max_headers(HTTP1_MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HTTP2_PING_INTERVAL)
        .keep_alive_timeout(HTTP2_PING_TIMEOUT)
        .max_concurrent_streams(HTTP2_MAX_STREAMS)
        .max_header_list_size(HTTP2_MAX_HEADER_LIST_BYTES)
        .max_pending_accept_reset_streams(HTTP2_MAX_PENDING_RESETS)
        .max_local_error_reset_streams(HTTP2_MAX_ERROR_RESETS)
        .max_send_buf_size(HTTP2_SEND_BUFFER_BYTES);
    builder
}

impl Connection {
    pub(super) async fn run(self, shared: Arc<Shared<impl App>>) {
        let Self { stream, peer, slot, place } = self;
        // Without it small answers wait for the peer's delayed acknowledgement; it works anyway.
        let _ = stream.set_nodelay(true);
        let activity = Arc::new(Activity::new(Instant::now()));
        let stream = Guarded::new(stream, Arc::clone(&activity), shared.limits.write_timeout);
        match &shared.tls {
            None => serve(stream, peer, &activity, &shared).await,
            Some(tls) => {
                let handshake = timeout(shared.limits.header_read_timeout, tls.accept(stream));
                match handshake.await {
                    Ok(Ok(stream)) => serve(stream, peer, &activity, &shared).await,
                    Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                    Err(_) => tracing::debug!("a TLS handshake took too long"),
                }
            }
        }
        drop((slot, place));
    }
}

async fn serve<S>(stream: S, peer: SocketAddr, activity: &Arc<Activity>, shared: &Shared<impl App>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (begun, app) = (Arc::clone(activity), shared.app.clone());
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let in_flight = begun.begin(request.version());
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        let mut app = app.clone();
        async move {
            // A router is always ready.
            let answer = AssertUnwindSafe(async { app.call(request).await }).catch_unwind().await;
            let response = match answer {
                Ok(response) => response?,
                Err(panic) => panic_response(panic),
            };
            Ok::<_, Infallible>(in_flight.answer(response))
        }
    });
    let connection = shared.http.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);

    let tick = shared.limits.tick();
    let mut timer = std::pin::pin!(sleep_until(Instant::now() + tick));
    let mut draining_since = None;
    loop {
        tokio::select! {
            // What has arrived is read before anything is decided.
            biased;
            result = &mut connection => return ended(result),
            () = shared.draining.cancelled(), if draining_since.is_none() => {
                draining_since = Some(Instant::now());
                activity.make_answers_last();
            }
            () = &mut timer => {}
        }
        let now = Instant::now();
        let crowded = shared.slots.available_permits() == 0;
        let surroundings = Surroundings { draining_since, crowded };
        let mut next = now + tick;
        match activity.verdict(now, &shared.limits, surroundings) {
            Verdict::Wait(until) => next = next.min(until),
            Verdict::Close => {
                activity.closing(now);
                connection.as_mut().graceful_shutdown();
            }
            Verdict::Cut(reason) => return tracing::debug!(reason, "a connection was cut"),
        }
        timer.as_mut().reset(next);
    }
}

/// Peers go away as they like, which is no failure of this service.
fn ended(result: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}
