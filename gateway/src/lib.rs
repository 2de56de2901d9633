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
mod running;
mod upstream;

use std::io;
use std::sync::Arc;

use runtime::gate::Gate;
use runtime::health::Readiness;
use runtime::listener::Listener;
use runtime::metrics::Meters;
use runtime::secrets::{SecretError, loading};
use runtime::serve::Server;
use runtime::shutdown::announced;
use runtime::tls::{TlsAcceptor, TlsError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::{ConfigError, EdgeSettings, Settings};
use crate::metrics::Metrics;
use crate::running::Running;
use crate::subscriptions::SubscriptionsError;

pub use oidc::IssuerClientError;

/// The name of the service, in spans and metrics.
pub(crate) const SERVICE: &str = "gateway";

/// Why the gateway cannot start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The settings do not make a gateway.
    #[error(transparent)]
    Settings(#[from] ConfigError),
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
    TokenIssuer(#[from] IssuerClientError),
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
    /// Answers when the subscriptions are loaded.
    pub metrics: Option<Listener>,
    /// What is told there, and where the gateway's own instruments are made.
    pub meters: Meters,
}

impl From<TcpListener> for Listeners {
    fn from(public: TcpListener) -> Self {
        Self { public, metrics: None, meters: Meters::default() }
    }
}

/// Serves the public API until `shutdown`, then drains.
///
/// Health is answered at once, and everything else 503 until the subscriptions are loaded. An
/// upstream that is away only makes the gateway not ready.
///
/// # Errors
/// [`GatewayError`] when the settings cannot be used or the subscriptions never could be.
pub async fn run(
    listeners: impl Into<Listeners>,
    settings: Settings,
    shutdown: CancellationToken,
) -> Result<(), GatewayError> {
    let (edge, readiness) = (settings.edge.clone(), Readiness::default());
    run_once_loaded(listeners, edge, readiness, async { Ok(Some(settings)) }, shutdown).await
}

/// As [`run`], but answers health, and everything else 503, while `settings` are loaded, too: their
/// secrets may be in a vault. `None` where shutdown came first. `edge` counts, not theirs.
///
/// # Errors
/// As for [`run`].
pub async fn run_once_loaded(
    listeners: impl Into<Listeners>,
    edge: EdgeSettings,
    readiness: Readiness,
    settings: impl Future<Output = Result<Option<Settings>, ConfigError>>,
    shutdown: CancellationToken,
) -> Result<(), GatewayError> {
    let Listeners { public, metrics: metrics_listener, meters } = listeners.into();
    let tls = edge.tls.clone();
    let load = move || tls.map(TlsAcceptor::load).transpose();
    // Nobody can ask for readiness yet.
    let tls = loading(&Readiness::default(), &shutdown, load).await?;
    let Some(tls) = tls else { return Ok(()) };

    let (gate, metrics) = (Gate::new(SERVICE), Arc::new(Metrics::new(meters.meter())));
    let stop = CancellationToken::new();
    readiness.measure(&meters.meter());
    let app = routes::door(&gate, readiness.clone(), &metrics, &edge);
    let uncounted = edge.uncounted.and(&edge.trusted_proxies);
    let refused = Arc::clone(&metrics.connections_refused);
    let server = Server { limits: edge.limits, uncounted, tls, refused };
    let serving = server.serve(public, app, stop.clone());
    let opening = async {
        let opened = match settings.await? {
            Some(settings) => {
                Running::start(settings, metrics, &readiness, &shutdown, &stop).await?
            }
            None => None,
        };
        let Some((mut running, gateway)) = opened else {
            // There is nothing to drain.
            stop.cancel();
            return Ok(None);
        };
        if let Some(listener) = metrics_listener {
            running.tell_metrics(listener, &meters);
        }
        let listening = readiness.component("listener");
        running.watch(announced(shutdown.clone(), listening, edge.drain_delay, stop.clone()));
        gate.open(routes::router(gateway));
        Ok(Some(running))
    };
    let serving = async { serving.await.map_err(GatewayError::Serve) };
    let ((), running) = tokio::try_join!(serving, opening)?;
    gate.close();
    if let Some(running) = running {
        running.finish().await;
    }
    Ok(())
}
