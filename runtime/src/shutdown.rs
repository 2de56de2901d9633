//! From signals to a token that everything in the process can watch.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::health::Component;

/// A token that SIGTERM or SIGINT cancels.
///
/// Call it inside a Tokio runtime, before anything that must be stopped is started: a signal that
/// arrives after the call is never lost.
///
/// # Panics
/// When the process may not install signal handlers, or outside a runtime.
pub fn on_signals() -> CancellationToken {
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be handled");
    let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be handled");
    let token = CancellationToken::new();
    let fired = token.clone();
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "shutting down");
        fired.cancel();
    });
    token
}

/// Makes `shutdown` known before it happens: `component` is ready until then, and `stop` is
/// cancelled so much later, when load balancers that ask for readiness have stopped sending.
pub async fn announced(
    shutdown: CancellationToken,
    component: Component,
    delay: Duration,
    stop: CancellationToken,
) {
    component.ready();
    shutdown.cancelled().await;
    component.not_ready("stopping");
    sleep(delay).await;
    stop.cancel();
}
