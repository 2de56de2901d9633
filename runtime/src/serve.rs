//! The accept loop, with a bound on everything that a peer could hold on to.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::Service;
use tower_http::catch_panic::CatchPanicLayer;

use crate::listener::Listener;
use crate::problem::{Problem, panic_response};

/// The largest request body that a service reads, in bytes.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Connections open at once. More wait in the kernel's backlog; each holds some ten kilobytes.
pub const MAX_CONNECTIONS: usize = 4096;

/// How long a peer may take for a request head. hyper counts idle time between requests too, so
/// this is also how long an idle connection stays open.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a peer may take for a body, whatever its size.
pub const BODY_READ_TIMEOUT: Duration = Duration::from_secs(15);

/// How long requests in flight may take after a shutdown began.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// The pause after accepting failed, which mostly means that file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Between pings on an HTTP/2 connection; a peer that does not answer one is gone.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);

/// Requests at once on one HTTP/2 connection.
const HTTP2_MAX_STREAMS: u32 = 256;

/// The bounds of [`serve_with`]; the defaults are this module's constants.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// See [`MAX_CONNECTIONS`].
    pub max_connections: usize,
    /// See [`HEADER_READ_TIMEOUT`].
    pub header_read_timeout: Duration,
    /// See [`DRAIN_TIMEOUT`].
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: MAX_CONNECTIONS,
            header_read_timeout: HEADER_READ_TIMEOUT,
            drain_timeout: DRAIN_TIMEOUT,
        }
    }
}

/// Serves `app` over HTTP/1.1 and HTTP/2 without TLS until `shutdown`, then drains.
///
/// Requests carry `ConnectInfo<SocketAddr>`. A handler that panics answers 500. After `shutdown`
/// nothing more is accepted, requests in flight have [`DRAIN_TIMEOUT`], and what is left is cut.
/// There is no bound on the time of a request: services set it, because some are long polls, which
/// should watch `shutdown` themselves.
///
/// # Errors
/// None at present: errors of accepting are logged and waited out.
pub async fn serve(
    listener: impl Into<Listener>,
    app: Router,
    shutdown: CancellationToken,
) -> io::Result<()> {
    serve_with(listener, app, shutdown, Limits::default()).await
}

/// As [`serve`], with other bounds.
///
/// # Errors
/// As for [`serve`].
pub async fn serve_with(
    listener: impl Into<Listener>,
    app: Router,
    shutdown: CancellationToken,
    limits: Limits,
) -> io::Result<()> {
    let listener = listener.into();
    let app = app.layer(CatchPanicLayer::custom(panic_response));
    let builder = builder(limits.header_read_timeout);
    let slots = Arc::new(Semaphore::new(limits.max_connections));
    let graceful = GracefulShutdown::new();
    // Cancelled when draining took too long, and when this future is dropped.
    let cut = CancellationToken::new();
    let _cut_on_drop = cut.clone().drop_guard();

    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        match accepted {
            Ok((stream, peer, slot)) => {
                let connection = Connection { stream, peer, slot, app: app.clone() };
                let serving =
                    connection.run(builder.clone(), limits.header_read_timeout, graceful.watcher());
                let cut = cut.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = cut.cancelled() => {}
                        () = serving => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed, trying again");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    drop(listener);
    let open = graceful.count();
    if timeout(limits.drain_timeout, graceful.shutdown()).await.is_err() {
        tracing::warn!(connections_at_start = open, "draining took too long, cutting what is left");
    }
    Ok(())
}

/// Waits for a free slot first, so that what is over the bound stays with the kernel.
async fn accept(
    listener: &Listener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, slot))
}

fn builder(header_read_timeout: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(header_read_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HTTP2_PING_INTERVAL)
        .max_concurrent_streams(HTTP2_MAX_STREAMS);
    builder
}

struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    slot: OwnedSemaphorePermit,
    app: Router,
}

impl Connection {
    async fn run(
        self,
        builder: auto::Builder<TokioExecutor>,
        first_head: Duration,
        watcher: Watcher,
    ) {
        let Self { stream, peer, slot, app } = self;
        // Without it small answers wait for the peer's delayed acknowledgement; it works anyway.
        let _ = stream.set_nodelay(true);
        let requested = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&requested);
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            seen.store(true, Ordering::Relaxed);
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            // A router is always ready.
            app.clone().call(request)
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let mut serving = std::pin::pin!(watcher.watch(connection));

        // Telling HTTP/1.1 from HTTP/2 waits for the first bytes without a timeout of its own, so
        // the whole first head has one here.
        tokio::select! {
            result = &mut serving => return ended(result),
            () = sleep(first_head) => {}
        }
        if requested.load(Ordering::Relaxed) {
            ended(serving.await);
        }
        drop(slot);
    }
}

/// Peers go away as they like, which is no failure of this service.
fn ended(result: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Reads a whole body.
///
/// # Errors
/// The problem to answer with: 413 naming the limit when the body is longer than `limit` bytes,
/// 408 when it takes longer than [`BODY_READ_TIMEOUT`], 400 when it breaks off.
pub async fn read_body(body: Body, limit: usize) -> Result<Bytes, Problem> {
    let announced = body.size_hint().lower();
    if usize::try_from(announced).map_or(true, |length| length > limit) {
        return Err(Problem::payload_too_large(limit));
    }
    match timeout(BODY_READ_TIMEOUT, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => {
            Err(Problem::payload_too_large(limit))
        }
        Ok(Err(_)) => Err(Problem::bad_request("the body broke off")),
        Err(_) => {
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body took too long to arrive"))
        }
    }
}
