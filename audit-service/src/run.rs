//! The service as a whole: a listener in, a clean stop out.

use std::{io, sync::Arc};

use runtime::{
    gate::Gate, health::Readiness, listener::Listener, serve::serve, service_keys::Callers,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::ConfigError,
    routes::{self, AppState},
    service::{AuditLedger, OpenError, Parts},
};

/// The name of the service, in spans and metrics.
pub(crate) const SERVICE: &str = "audit-service";

/// Why the service ended other than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The settings, a secret or the store cannot be used.
    #[error("the audit service cannot start")]
    Config(#[from] ConfigError),
    /// The stored ledger was refused.
    #[error("the audit service cannot open its ledger")]
    Open(#[from] OpenError),
    /// The listener failed.
    #[error("the audit service cannot serve")]
    Serve(#[from] io::Error),
}

/// Serves health at once, and the ledger as soon as its store is there and verified.
///
/// On shutdown requests under way are finished, then the appender, then the checkpoint file.
pub async fn run(
    listener: impl Into<Listener>,
    callers: Callers,
    readiness: Readiness,
    shutdown: CancellationToken,
    parts: impl Future<Output = Result<Parts, ConfigError>>,
) -> Result<(), RunError> {
    let tasks = TaskTracker::new();
    // The appender may wait for its store until requests have been drained.
    let abandon = CancellationToken::new();
    let gate = Gate::new(SERVICE);
    let app = gate.router(readiness.clone());
    let serving = tokio::spawn(serve(listener.into(), app, shutdown.clone()));
    let opened = async {
        let parts = parts.await?;
        Ok::<_, RunError>(AuditLedger::open(parts, &readiness, &tasks, &shutdown, &abandon).await?)
    };
    let result = opened.await.map(|ledger| {
        let state = AppState { ledger, reads: Arc::default(), shutdown: shutdown.clone() };
        gate.open(routes::router(state, callers, readiness));
    });
    let told_to_stop = shutdown.is_cancelled();
    if result.is_err() {
        shutdown.cancel();
    }
    serving.await.map_err(io::Error::other)??;
    gate.close();
    abandon.cancel();
    tasks.close();
    tasks.wait().await;
    if told_to_stop { Ok(()) } else { result }
}
