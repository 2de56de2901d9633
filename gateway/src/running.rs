//! What runs beside the requests, from the first subscriptions to the last record.

use std::sync::Arc;

use runtime::health::Readiness;
use runtime::listener::Listener;
use runtime::metrics::Meters;
use runtime::retry;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::GatewayError;
use crate::admission::Identities;
use crate::bulkheads::Bulkheads;
use crate::config::{Settings, UpstreamSettings};
use crate::denials;
use crate::metrics::Metrics;
use crate::oidc::Tokens;
use crate::proxy::Gateway;
use crate::rates::Rates;
use crate::subscriptions::{Revision, Subscriptions, SubscriptionsError};
use crate::upstream::Upstream;

/// The tasks of a gateway; they end with it.
pub(crate) struct Running {
    /// Dropped, and with it every one, when serving has ended.
    watchers: JoinSet<()>,
    // Not among them: they have something to write at the end, also where this is dropped.
    counting: JoinHandle<()>,
    stop_counting: DropGuard,
    recording: JoinHandle<()>,
    served: DropGuard,
}

impl Running {
    /// Loads the subscriptions, waiting for a store that is not there yet, and starts what a gateway
    /// needs; `None` when `shutdown` came first. The gateway tells its long polls by `stop`.
    pub(crate) async fn start(
        settings: Settings,
        metrics: Arc<Metrics>,
        readiness: &Readiness,
        shutdown: &CancellationToken,
        stop: &CancellationToken,
    ) -> Result<Option<(Self, Arc<Gateway>)>, GatewayError> {
        let upstream = |name, at: &UpstreamSettings| {
            let (connector, metrics) = (settings.connector.clone(), Arc::clone(&metrics));
            Upstream::new(name, at.clone(), connector, settings.breaker_failures, metrics)
                .map(Arc::new)
        };
        let patients = upstream("patient-service", &settings.patients)?;
        let audit = upstream("audit-service", &settings.audit)?;
        let tokens = settings.oidc.clone().map(Tokens::new).transpose()?;

        let mut watchers = JoinSet::new();
        for upstream in [&patients, &audit] {
            let component = readiness.component(upstream.name());
            watchers.spawn(Arc::clone(upstream).watch_readiness(component));
            watchers.spawn(Arc::clone(upstream).watch_key(settings.reload_interval));
            watchers.spawn(Arc::clone(upstream.connections()).watch());
        }
        if let Some(tokens) = &tokens {
            // Subscription keys need no issuer.
            watchers.spawn(tokens.watch(readiness.advisory("token-issuer")));
        }

        let loaded = readiness.component("subscriptions");
        let opened = retry::until_ready("subscriptions", &loaded, shutdown, || async {
            match open_subscriptions(&settings).await {
                Err(error) if error.is_transient() => Err(error),
                opened => Ok(opened),
            }
        });
        let Some(opened) = opened.await else { return Ok(None) };
        let (subscriptions, revision) = opened?;
        watchers.spawn(Arc::clone(&subscriptions).watch(revision, settings.reload_interval));

        let stop_counting = CancellationToken::new();
        let counting = Arc::clone(&subscriptions).watch_usage(stop_counting.clone());
        let served = CancellationToken::new();
        let (denials, recorder) = denials::channel(
            audit.audit_client(settings.client.clone()),
            settings.denials_per_second,
            Arc::clone(&metrics),
        );
        let running = Self {
            watchers,
            counting: tokio::spawn(counting),
            stop_counting: stop_counting.drop_guard(),
            recording: tokio::spawn(recorder.run(served.clone())),
            served: served.drop_guard(),
        };
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
            unknown: Rates::new(settings.edge.unauthenticated),
        };
        let gateway = Arc::new(gateway);
        gateway.metrics.watch(&gateway);
        Ok(Some((running, gateway)))
    }

    /// Goes on with something until serving has ended.
    pub(crate) fn watch(&mut self, watcher: impl Future<Output = ()> + Send + 'static) {
        self.watchers.spawn(watcher);
    }

    /// Answers `GET /metrics` there.
    pub(crate) fn tell_metrics(&mut self, listener: Listener, meters: &Meters) {
        let app = meters.routes();
        self.watch(async move {
            // It cannot fail after it has begun, and ends with the watchers: scrapes may see a drain.
            let _ = runtime::serve::serve(listener, app, CancellationToken::new()).await;
        });
    }

    /// Waits until what is left has been written.
    pub(crate) async fn finish(self) {
        let Self { watchers, counting, stop_counting, recording, served } = self;
        drop((served, stop_counting));
        // They cannot fail but by a panic, which is reported where it happens; each has a bound.
        let _ = tokio::join!(recording, counting);
        drop(watchers);
    }
}

async fn open_subscriptions(
    settings: &Settings,
) -> Result<(Arc<Subscriptions>, Revision), SubscriptionsError> {
    let store = settings.subscriptions.open().await?;
    Subscriptions::open(store, &settings.peppers, (settings.clock)()).await
}
