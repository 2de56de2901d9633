//! The only public door of Vitalog.
//!
//! In scope: the table of public routes, subscription keys, bearer tokens and scopes, bounds on what a client may
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
mod breaker;
pub mod bulkheads;
mod connections;
mod cors;
mod denials;
mod docs;
mod error;
mod exchange;
mod forwarded;
mod host;
mod identity;
mod metrics;
mod observed;
mod occasional;
mod oidc;
mod prefer;
mod proxy;
mod query;
mod rates;
mod upstream;

use std::io;
use std::sync::Arc;

use runtime::health::Readiness;
use runtime::listener::Listener;
use runtime::retry;
use runtime::secrets::SecretError;
use runtime::serve::Server;
use runtime::shutdown::announced;
use runtime::tls::{TlsAcceptor, TlsError};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admission::Identities;
use crate::bulkheads::Bulkheads;
use crate::config::Settings;
use crate::metrics::Metrics;
use crate::oidc::Tokens;
use crate::proxy::Gateway;
use crate::rates::Rates;
use crate::subscriptions::{Revision, Subscriptions, SubscriptionsError};
use crate::upstream::Upstream;

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
    /// The client that fetches the token issuer's keys could not be made.
    #[error("the client for the token issuer cannot be made")]
    TokenIssuer(#[source] reqwest::Error),
    /// The certificate of the listener cannot be used.
    #[error("the certificate of the listener cannot be used")]
    Tls(#[from] TlsError),
    /// The listener failed.
    #[error("serving failed")]
    Serve(#[source] io::Error),
}

/// Where the gateway listens.
#[derive(Debug)]
pub struct Listeners {
    /// The public API.
    pub public: TcpListener,
    /// `GET /metrics`, without a key: for an address that only operators reach.
    pub metrics: Option<Listener>,
}

impl From<TcpListener> for Listeners {
    fn from(public: TcpListener) -> Self {
        Self { public, metrics: None }
    }
}

/// Serves the public API until `shutdown`, then drains.
///
/// Subscriptions and service keys are read before the first connection is accepted; an upstream
/// that is away only makes the gateway not ready.
pub async fn run(
    listeners: impl Into<Listeners>,
    settings: Settings,
    shutdown: CancellationToken,
) -> Result<(), GatewayError> {
    let Listeners { public, metrics: metrics_listener } = listeners.into();
    let readiness = Readiness::default();
    let loaded = readiness.component("subscriptions");
    let opened = retry::until_ready("subscriptions", &loaded, &shutdown, || async {
        match open_subscriptions(&settings).await {
            Err(error) if error.is_transient() => Err(error),
            opened => Ok(opened),
        }
    });
    let Some(opened) = opened.await else { return Ok(()) };
    let (subscriptions, revision) = opened?;

    let client = settings.client;
    let metrics = Arc::new(Metrics::new());
    let upstream = |name, at| {
        let connector = settings.connector.clone();
        let metrics = Arc::clone(&metrics);
        Upstream::new(name, at, connector, settings.breaker_failures, metrics).map(Arc::new)
    };
    let patients = upstream("patient-service", settings.patients)?;
    let audit = upstream("audit-service", settings.audit)?;

    let edge = settings.edge;
    let tls = edge.tls.clone().map(TlsAcceptor::load).transpose()?;

    // Dropped, and with it every watcher, when serving ends.
    let mut watchers = JoinSet::new();
    let stop = CancellationToken::new();
    let listener_ready = readiness.component("listener");
    watchers.spawn(announced(shutdown, listener_ready, edge.drain_delay, stop.clone()));
    watchers.spawn(Arc::clone(&subscriptions).watch(revision, settings.reload_interval));
    // Not among them: it has something to write at the end.
    let stop_counting = CancellationToken::new();
    let _stopped_when_dropped = stop_counting.clone().drop_guard();
    let counting = Arc::clone(&subscriptions).watch_usage(stop_counting.clone());
    let counting = tokio::spawn(counting);
    for upstream in [&patients, &audit] {
        let component = readiness.component(upstream.name());
        watchers.spawn(Arc::clone(upstream).watch_readiness(component));
        watchers.spawn(Arc::clone(upstream).watch_key(settings.reload_interval));
        watchers.spawn(Arc::clone(upstream.connections()).watch());
    }

    let tokens = settings.oidc.map(Tokens::new).transpose().map_err(GatewayError::TokenIssuer)?;
    if let Some(tokens) = &tokens {
        watchers.spawn(tokens.watch(readiness.component("token-issuer")));
    }

    let (denials, recorder) = denials::channel(
        audit.audit_client(client),
        settings.denials_per_second,
        Arc::clone(&metrics),
    );
    let served = CancellationToken::new();
    let recording = tokio::spawn(recorder.run(served.clone()));
    // Also where this future is dropped.
    let served = served.drop_guard();

    let refused = Arc::clone(&metrics.connections_refused);
    let gateway = Gateway {
        denials,
        metrics,
        identities: Identities { subscriptions, tokens, clock: settings.clock },
        patients,
        audit,
        bulkheads: Bulkheads::new(settings.places),
        upstream_timeout: settings.upstream_timeout,
        answer_timeout: settings.answer_timeout,
        shutdown: stop.clone(),
        unknown: Rates::new(edge.unauthenticated),
    };
    let gateway = Arc::new(gateway);
    if let Some(listener) = metrics_listener {
        let app = metrics::routes(Arc::clone(&gateway));
        watchers.spawn(async move {
            // It cannot fail after it has begun, and ends with the watchers: scrapes may see a drain.
            let _ = runtime::serve::serve(listener, app, CancellationToken::new()).await;
        });
    }
    let app = routes::router(gateway, readiness, &edge);
    let uncounted = edge.uncounted.and(&edge.trusted_proxies);
    let listening = Server { limits: edge.limits, uncounted, tls, refused };
    let result = listening.serve(public, app, stop).await.map_err(GatewayError::Serve);
    drop(served);
    stop_counting.cancel();
    // They cannot fail but by a panic, which is reported where it happens; each has a bound.
    let _ = tokio::join!(recording, counting);
    result
}

async fn open_subscriptions(
    settings: &Settings,
) -> Result<(Arc<Subscriptions>, Revision), SubscriptionsError> {
    let store = settings.subscriptions.open().await?;
    Subscriptions::open(store, &settings.pepper, (settings.clock)()).await
}
