//! What goes on beside the requests: following which generation serves, and watching the
//! services that requests need.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use runtime::health::{Component, Readiness};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::state::App;

/// How often the pointer to the generations in use is read: several times in its lifetime
/// ([`projections::rebuild::POINTER_LIFETIME`]).
const GENERATION_PERIOD: Duration = Duration::from_millis(500);

/// How often the audit service is asked whether it is there.
const AUDIT_PERIOD: Duration = Duration::from_secs(2);

/// The same while it is not: a start is waited for, and probes in this time are no load.
const AWAY_PERIOD: Duration = Duration::from_millis(100);

/// How long a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The component of the read models, which is not ready while they are opened either.
pub(crate) const PROJECTION_STORE: &str = "projection store";

/// The component of the erasures that a restored key ring may not know of.
pub(crate) const ERASURES: &str = "erasures";

/// What this service needs, as `/readyz` names it.
pub(crate) struct Components {
    store: Component,
    audit: Component,
}

impl Components {
    pub(crate) fn of(readiness: &Readiness) -> Self {
        Self {
            store: readiness.component(PROJECTION_STORE),
            audit: readiness.component("audit service"),
        }
    }
}

/// Starts the tasks; they end with `ended`.
pub(crate) fn start(app: &Arc<App>, components: Components, ended: &CancellationToken) {
    let Components { store, audit } = components;
    let generations = follow_generation(app.clone(), store);
    tokio::spawn(ended.clone().run_until_cancelled_owned(generations));
    tokio::spawn(ended.clone().run_until_cancelled_owned(watch_audit(app.clone(), audit)));
}

async fn follow_generation(app: Arc<App>, component: Component) {
    let mut ticks = interval(GENERATION_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let asked = Instant::now();
        match timeout(PROBE_TIMEOUT, app.store.pointer()).await {
            Ok(Ok(pointer)) => {
                app.set_pointer(pointer, asked);
                component.ready();
            }
            Ok(Err(_)) => component.not_ready("the projection store is not available"),
            Err(_) => component.not_ready("the projection store does not answer in time"),
        }
    }
}

async fn watch_audit(app: Arc<App>, component: Component) {
    loop {
        match timeout(PROBE_TIMEOUT, app.audit.checkpoint()).await {
            Ok(Ok(_)) => component.ready(),
            Ok(Err(_)) => component.not_ready("the audit service is not available"),
            Err(_) => component.not_ready("the audit service does not answer in time"),
        }
        sleep(if component.is_ready() { AUDIT_PERIOD } else { AWAY_PERIOD }).await;
    }
}
