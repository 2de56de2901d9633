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
mod breaker;
pub mod bulkheads;
mod denials;
mod docs;
mod error;
mod exchange;
mod identity;
mod metrics;
mod occasional;
mod prefer;
mod proxy;
mod query;
mod upstream;

use std::io;
use std::sync::Arc;

use runtime::health::Readiness;
use runtime::secrets::SecretError;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admission::Identities;
use crate::bulkheads::Bulkheads;
use crate::config::Settings;
use crate::metrics::Metrics;
use crate::proxy::Gateway;
use crate::subscriptions::{Subscriptions, SubscriptionsError};
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
    pub metrics: Option<TcpListener>,
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
    let subscriptions = Arc::new(Subscriptions::load(settings.subscriptions, &settings.pepper)?);
    loaded.ready();

    let client = runtime::client::internal_client();
    let metrics = Arc::new(Metrics::new());
    let upstream = |name, at| {
        Upstream::new(name, at, settings.breaker_failures, Arc::clone(&metrics)).map(Arc::new)
    };
    let patients = upstream("patient-service", settings.patients)?;
    let audit = upstream("audit-service", settings.audit)?;

    // Dropped, and with it every watcher, when serving ends.
    let mut watchers = JoinSet::new();
    watchers.spawn(Arc::clone(&subscriptions).watch(settings.reload_interval));
    for upstream in [&patients, &audit] {
        let component = readiness.component(upstream.name());
        watchers.spawn(Arc::clone(upstream).watch_readiness(client.clone(), component));
        watchers.spawn(Arc::clone(upstream).watch_key(settings.reload_interval));
    }

    let (denials, recorder) =
        denials::channel(Arc::clone(&audit), settings.denials_per_second, Arc::clone(&metrics));
    let served = CancellationToken::new();
    let recording = tokio::spawn(recorder.run(served.clone()));
    // Also where this future is dropped.
    let served = served.drop_guard();

    let gateway = Gateway {
        denials,
        metrics,
        identities: Identities { subscriptions },
        patients,
        audit,
        client,
        bulkheads: Bulkheads::new(settings.places),
        upstream_timeout: settings.upstream_timeout,
        answer_timeout: settings.answer_timeout,
        shutdown: shutdown.clone(),
    };
    let gateway = Arc::new(gateway);
    if let Some(listener) = metrics_listener {
        let app = metrics::routes(Arc::clone(&gateway));
        watchers.spawn(async move {
            // It cannot fail after it has begun, and ends with the watchers: scrapes may see a drain.
            let _ = runtime::serve::serve(listener, app, CancellationToken::new()).await;
        });
    }
    let app = routes::router(gateway, readiness);
    let result = runtime::serve::serve(public, app, shutdown).await.map_err(GatewayError::Serve);
    drop(served);
    // It cannot fail: nobody aborts it, and it has a bound of its own.
    let _ = recording.await;
    result
}
