//! The accept loop, with a bound on everything that a peer could hold on to.
//!
//! A connection has a place of [`Limits::max_connections`] and one of those of its address. It is
//! cut when a head, a handshake or the taking of an answer lasts too long, and closed when it is
//! idle for too long, sooner when others wait for a place. Bodies are bounded by whoever reads
//! them, see [`read_body`].

mod activity;
mod body;
mod connection;
mod limits;
mod places;
mod stream;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

pub use body::{MAX_BODY_BYTES, read_body};
pub use limits::{
    ANSWER_TIMEOUT, BODY_READ_TIMEOUT, DRAIN_IDLE, DRAIN_TIMEOUT, HEADER_READ_TIMEOUT,
    IDLE_TIMEOUT, Limits, MAX_CONNECTIONS, MAX_CONNECTIONS_PER_ADDRESS, WRITE_TIMEOUT,
};

use crate::listener::Listener;
use crate::networks::Networks;
use crate::tls::{self, TlsAcceptor};
use connection::{Connection, Shared};
use places::Places;

/// The pause after accepting failed, which mostly means that file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that the kernel has accepted already are still taken when a shutdown begins, at most
/// so many.
const LAST_ACCEPTS: usize = 1024;

/// How to serve; the default is plain HTTP with the default bounds.
#[derive(Clone, Debug)]
pub struct Server {
    /// The bounds.
    pub limits: Limits,
    /// Peers without a bound on their connections: this machine, and proxies behind which everybody
    /// has the same address.
    pub uncounted: Networks,
    /// TLS, in place of plain HTTP. Its certificates are watched while serving.
    pub tls: Option<TlsAcceptor>,
    /// Counts connections that were closed at once, because their address had all that it may.
    pub refused: Arc<AtomicU64>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            uncounted: Networks::loopback(),
            tls: None,
            refused: Arc::default(),
        }
    }
}

/// What answers requests: a router, or something around one.
pub trait App:
    Service<Request, Response = Response, Error = Infallible, Future: Send + 'static>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> App for S where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// Serves `app` on `listener` until `shutdown` with the default bounds; see [`Server::serve`].
///
/// # Errors
/// As for [`Server::serve`].
pub async fn serve(
    listener: impl Into<Listener>,
    app: impl App,
    shutdown: CancellationToken,
) -> io::Result<()> {
    Server::default().serve(listener, app, shutdown).await
}

impl Server {
    /// Serves `app` over HTTP/1.1 and HTTP/2 until `shutdown`, then drains.
    ///
    /// Requests carry `ConnectInfo<SocketAddr>`. A handler that panics answers 500. There is no
    /// bound on the time of a request: services set it, because some are long polls, which should
    /// watch `shutdown` themselves.
    ///
    /// After `shutdown` nothing more is accepted. Requests in flight have
    /// [`Limits::drain_timeout`], and what is left is cut. HTTP/2 connections are told to go away.
    /// Kept-alive HTTP/1.1 connections stay until their next answer, which is the last and says so,
    /// or until [`Limits::drain_idle`] has passed: no request that has arrived goes unanswered.
    ///
    /// # Errors
    /// None at present: errors of accepting are logged and waited out.
    pub async fn serve(
        self,
        listener: impl Into<Listener>,
        app: impl App,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let listener = listener.into();
        let Self { limits, uncounted, tls, refused } = self;
        // Who was let in by name is a service, and may need a connection for each of its requests.
        let uncounted = uncounted.and(&listener.networks());
        let tls = tls.or_else(|| listener.tls());
        // Dropped, and the watcher with it, when serving ends.
        let mut watching = JoinSet::new();
        if let Some(tls) = &tls {
            watching.spawn(tls.clone().watch(tls::RELOAD_INTERVAL));
        }
        let shared = Arc::new(Shared {
            app,
            limits,
            tls,
            http: connection::protocols(),
            slots: Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS))),
            draining: CancellationToken::new(),
        });
        let places = Arc::new(Places::new(limits.max_connections_per_address, uncounted));
        // Cancelled when draining took too long, and when this future is dropped.
        let cut = CancellationToken::new();
        let _cut_on_drop = cut.clone().drop_guard();
        let open = TaskTracker::new();
        let start = |(stream, peer, slot): Accepted| {
            let Some(place) = places.take(peer.ip()) else {
                refused.fetch_add(1, Ordering::Relaxed);
                return tracing::debug!("an address has all the connections that it may have");
            };
            let serving = Connection { stream, peer, slot, place }.run(Arc::clone(&shared));
            // Boxed, because every future around it would have a copy of its size.
            open.spawn(cut.clone().run_until_cancelled_owned(Box::pin(serving)));
        };

        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = accept(&listener, &shared.slots) => accepted,
            };
            match accepted {
                Ok(accepted) => start(accepted),
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed, trying again");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        for _ in 0..LAST_ACCEPTS {
            let waiting = timeout(Duration::ZERO, accept(&listener, &shared.slots)).await;
            let Ok(Ok(accepted)) = waiting else { break };
            start(accepted);
        }

        drop(listener);
        shared.draining.cancel();
        open.close();
        let connections = open.len();
        if timeout(limits.drain_timeout, open.wait()).await.is_err() {
            tracing::warn!(connections, "draining took too long, cutting what is left");
        }
        Ok(())
    }
}

type Accepted = (TcpStream, SocketAddr, OwnedSemaphorePermit);

/// Waits for a free slot first, so that what is over the bound stays with the kernel.
async fn accept(listener: &Listener, slots: &Arc<Semaphore>) -> io::Result<Accepted> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, slot))
}
