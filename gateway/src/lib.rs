//! The only public door of Vitalog.
//!
//! In scope: the table of public routes, subscription keys and scopes, bounds on what a client may
//! send, forwarding to patient-service and audit-service with the gateway's own service key and the
//! caller's identity, the `OpenAPI` document and its rendering.
//!
//! Out of scope: what a body means, which purposes exist, what a patient is: bodies pass through
//! unread. Upstream services answer errors as problem details, which pass as they are.

pub mod config;
pub mod routes;
pub mod subscriptions;

mod admission;
mod body;
mod cors;
mod docs;
mod error;
mod forwarded;
mod identity;
mod prefer;
mod proxy;
mod query;
mod upstream;

use std::io;
use std::sync::Arc;

use runtime::health::Readiness;
use runtime::networks::Networks;
use runtime::secrets::SecretError;
use runtime::serve::Server;
use runtime::shutdown::announced;
use runtime::tls::{TlsAcceptor, TlsError};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admission::Identities;
use crate::config::Settings;
use crate::proxy::Gateway;
use crate::subscriptions::{Subscriptions, SubscriptionsError};
use crate::upstream::Upstream;

/// One in so many places of those in flight is for reading the ledger, besides the others.
const LEDGER_SHARE: usize = 8;

/// Why the gateway cannot start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The subscriptions could not be loaded.
    #[error("the subscriptions cannot be loaded")]
    Subscriptions(#[from] SubscriptionsError),
    /// The service key for an upstream could not be loaded.
    #[error("the service key for {upstream} cannot be loaded")]
    ServiceKey {
        /// The service that the key is for.
        upstream: &'static str,
        /// The reason.
        #[source]
        source: SecretError,
    },
    /// A service key has bytes that a header may not have.
    #[error("the service key for {0} is not printable ASCII: make another one")]
    UnusableKey(&'static str),
    /// An upstream's address is not one.
    #[error("the address of {0} is not usable: write http://host:port")]
    Address(&'static str),
    /// The certificate of the listener cannot be used.
    #[error("the certificate of the listener cannot be used")]
    Tls(#[from] TlsError),
    /// The listener failed.
    #[error("serving failed")]
    Serve(#[source] io::Error),
}

/// Serves the public API on `listener` until `shutdown`, then drains.
///
/// Subscriptions and service keys are read before the first connection is accepted; an upstream
/// that is away only makes the gateway not ready.
pub async fn run(
    listener: TcpListener,
    settings: Settings,
    shutdown: CancellationToken,
) -> Result<(), GatewayError> {
    let readiness = Readiness::default();
    let loaded = readiness.component("subscriptions");
    let subscriptions = Arc::new(Subscriptions::load(settings.subscriptions, &settings.pepper)?);
    loaded.ready();

    let client = settings.client;
    let patients = Arc::new(Upstream::new("patient-service", settings.patients)?);
    let audit = Arc::new(Upstream::new("audit-service", settings.audit)?);

    let edge = settings.edge;
    let tls = edge.tls.clone().map(TlsAcceptor::load).transpose()?;

    // Dropped, and with it every watcher, when serving ends.
    let mut watchers = JoinSet::new();
    let stop = CancellationToken::new();
    let listener_ready = readiness.component("listener");
    watchers.spawn(announced(shutdown, listener_ready, edge.drain_delay, stop.clone()));
    watchers.spawn(Arc::clone(&subscriptions).watch(settings.reload_interval));
    for upstream in [&patients, &audit] {
        let component = readiness.component(upstream.name());
        watchers.spawn(Arc::clone(upstream).watch_readiness(client.clone(), component));
        watchers.spawn(Arc::clone(upstream).watch_key(settings.reload_interval));
    }

    let gateway = Gateway {
        identities: Identities { subscriptions },
        patients,
        audit,
        client,
        in_flight: Arc::new(Semaphore::new(settings.max_in_flight)),
        ledger_in_flight: Arc::new(Semaphore::new(settings.max_in_flight / LEDGER_SHARE)),
        upstream_timeout: settings.upstream_timeout,
        shutdown: stop.clone(),
    };
    let app = routes::router(Arc::new(gateway), readiness, &edge);
    let uncounted = Networks::loopback().and(&edge.trusted_proxies);
    let server = Server { limits: edge.limits, uncounted, tls };
    server.serve(listener, app, stop).await.map_err(GatewayError::Serve)
}
