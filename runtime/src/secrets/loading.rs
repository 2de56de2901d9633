//! Loading the secrets of a process that is alive meanwhile.

use std::thread;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::health::Readiness;

/// The part of a service that is not ready while its secrets are loaded.
pub const SECRETS: &str = "secrets";

/// Runs `load`, which loads secrets, on a thread of its own: the first load of a vault's secret may
/// wait for [`PATIENCE`](super::vault::PATIENCE), and health is to be answered meanwhile. The part
/// [`SECRETS`] of `readiness` is ready afterwards. `None` when `shutdown` came first; the thread is
/// left to itself then, so that a process that is told to stop does not wait for a vault.
///
/// # Errors
/// Those of `load`.
///
/// # Panics
/// When `load` does.
pub async fn loading<T, E>(
    readiness: &Readiness,
    shutdown: &CancellationToken,
    load: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<Option<T>, E>
where
    T: Send + 'static,
    E: Send + 'static,
{
    let component = readiness.component(SECRETS);
    component.not_ready("being loaded");
    let (done, loaded) = oneshot::channel();
    thread::spawn(move || {
        // Nobody waits for it any more where the process stops.
        let _ = done.send(load());
    });
    tokio::select! {
        biased;
        () = shutdown.cancelled() => Ok(None),
        loaded = loaded => {
            let loaded = loaded.expect("loading secrets does not panic")?;
            component.ready();
            Ok(Some(loaded))
        }
    }
}
