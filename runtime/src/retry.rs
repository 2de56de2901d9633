//! Waiting at start for something that this process needs.

use std::fmt::Display;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::health::Component;

/// The first pause; each later one is twice as long.
pub const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause, so that a dependency that comes back is found within seconds.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Tries `f` until it succeeds, and `component` with it; `None` when `shutdown` came first.
///
/// The number of attempts has no bound, only the pauses have: a service that cannot reach its store
/// stays alive and not ready. A failure is logged when its text differs from the one before.
pub async fn until_ready<T, E, F, Fut>(
    what: &'static str,
    component: &Component,
    shutdown: &CancellationToken,
    mut f: F,
) -> Option<T>
where
    E: Display,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let mut pause = FIRST_PAUSE;
    let mut attempts = 0_u64;
    let mut logged = String::new();
    loop {
        attempts += 1;
        let result = tokio::select! {
            biased;
            () = shutdown.cancelled() => return None,
            result = f() => result,
        };
        match result {
            Ok(value) => {
                if attempts > 1 {
                    tracing::info!(what, attempts, "succeeded after failures");
                }
                component.ready();
                return Some(value);
            }
            Err(error) => {
                component.not_ready("unavailable, trying again");
                let reason = error.to_string();
                if reason != logged {
                    tracing::warn!(what, attempts, error = reason, "failed, trying again");
                    logged = reason;
                }
            }
        }
        // Between half and the whole of the pause, so that replicas do not knock in step.
        let jittered = pause.mul_f64(rand::random_range(0.5..=1.0));
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(jittered) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
