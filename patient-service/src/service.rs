//! Putting the parts together and serving.

use std::{io, sync::Arc};

use audit_client::AuditClient;
use projections::{
    erasure::{ReapplyError, reapply_at_start},
    key_ring::KeyRing,
    store::ProjectionStore,
};
use runtime::{
    gate::Gate,
    health::Readiness,
    listener::Listener,
    secrets::{Secret, SecretError},
    service_keys::Callers,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::ConfigError,
    routes::router,
    state::{App, Clock},
    upkeep::{self, Components, ERASURES},
};

/// The name of the service, in spans and metrics.
pub(crate) const SERVICE: &str = "patient-service";

/// What the service works with: opened, and shared with whoever else is in the process.
pub struct Deps {
    /// The ledger.
    pub audit: AuditClient,
    /// The read models.
    pub store: Arc<dyn ProjectionStore>,
    /// The data keys.
    pub ring: KeyRing,
    /// The HMAC key of command ids: 64 hex digits or the base64 of 32 bytes.
    pub command_key: Secret,
    /// Those before it, under which a command that is sent again is looked for, too.
    pub older_command_keys: Vec<Secret>,
    /// The current time, which says under which epoch's key a search is sealed.
    pub clock: Clock,
}

/// Who is let in, and who is told how the service is; nobody yet by default.
#[derive(Clone, Default)]
pub struct Door {
    /// Callers and their service keys; `gateway` alone may ask.
    pub callers: Arc<Callers>,
    /// Reported at `/readyz`; the service adds its components.
    pub readiness: Readiness,
}

/// Why the service ended other than by shutdown.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The settings do not make a service.
    #[error("the service cannot start")]
    Settings(#[from] ConfigError),
    /// The command key is no key.
    #[error("the command key cannot be used")]
    CommandKey(#[source] SecretError),
    /// The erasures of patients could not be brought about in a restored key ring.
    #[error("keys of erased patients cannot be destroyed")]
    Erasures(#[from] ReapplyError),
    /// Serving failed.
    #[error("serving failed")]
    Serve(#[source] io::Error),
}

/// Serves on a bound listener until `shutdown`, then drains.
pub async fn run(
    listener: impl Into<Listener>,
    door: Door,
    deps: Deps,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    run_once_connected(listener, door, async { Ok(Some(deps)) }, shutdown).await
}

/// As [`run`], but answers health requests, and everything else 503, while `connect` opens the
/// stores. `connect` gives `None` when shutdown came first.
pub async fn run_once_connected(
    listener: impl Into<Listener>,
    door: Door,
    connect: impl Future<Output = Result<Option<Deps>, ConfigError>>,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let Door { callers, readiness } = door;
    let gate = Gate::new(SERVICE);
    // Not ready before the store has said which generation serves and the ledger has answered.
    let components = Components::of(&readiness);
    let erasures = readiness.component(ERASURES);
    // Whatever ends this function also ends the tasks that it started.
    let ended = shutdown.child_token();
    let _guard = ended.clone().drop_guard();
    let serving = runtime::serve::serve(listener, gate.router(readiness), shutdown.clone());
    let opening = async {
        if let Some(deps) = connect.await? {
            // Before anything is read under a key that must not exist any more.
            let store = deps.store.as_ref();
            let Deps { ring, audit, .. } = &deps;
            match reapply_at_start(store, ring, audit, &erasures, &shutdown).await {
                Some(reapplied) => reapplied?,
                None => return Ok(()),
            }
            let app = Arc::new(App::new(deps).map_err(RunError::CommandKey)?);
            upkeep::start(&app, components, &ended);
            gate.open(router(app, callers));
        }
        Ok(())
    };
    tokio::try_join!(async { serving.await.map_err(RunError::Serve) }, opening)?;
    gate.close();
    Ok(())
}
