//! Settings of the service, from flags and environment; the only reader of them.

use std::{net::SocketAddr, sync::Arc};

use audit_client::{AuditClient, Options};
use clap::Parser;
use domain::{ids::Name, time::Timestamp};
use projections::open::{OpenError, open_key_ring, open_projection_store, until_open};
use runtime::{
    health::Readiness,
    secrets::{SecretError, SecretRef},
    service_keys::{CallerSpec, Callers},
    store_location::StoreLocation,
};
use tokio_util::sync::CancellationToken;

use crate::{
    service::{Deps, Door},
    state::Clock,
    upkeep::PROJECTION_STORE,
};

/// Patients and their tests: commands and reads, every one of them in the ledger first.
#[derive(Debug, Parser)]
#[command(name = "patient-service", version)]
pub struct Settings {
    /// Address to listen on.
    #[arg(long, env = "VITALOG_PATIENT_LISTEN", default_value = "127.0.0.1:7071")]
    pub listen: SocketAddr,
    /// Address of audit-service.
    #[arg(long, env = "VITALOG_AUDIT_URL", default_value = "http://127.0.0.1:7072")]
    pub audit_url: String,
    /// This service's key for audit-service.
    #[arg(long, env = "VITALOG_AUDIT_KEY", value_name = "REF")]
    pub audit_key: SecretRef,
    /// A caller and its service key: gateway=REF, or gateway=REF,REF while a key is rotated.
    #[arg(
        long = "caller",
        env = "VITALOG_PATIENT_CALLERS",
        value_name = "NAME=REF",
        value_delimiter = ' ',
        required = true
    )]
    pub callers: Vec<CallerSpec>,
    /// The read models' store: sqlite:PATH, mongodb://…, or a reference to such a URI.
    #[arg(long, env = "VITALOG_PATIENTS_STORE", hide_env_values = true)]
    pub store: StoreLocation,
    /// The key ring's store: sqlite:PATH, mongodb://…, or a reference to such a URI.
    #[arg(long, env = "VITALOG_KEYS_STORE", hide_env_values = true)]
    pub keys: StoreLocation,
    /// Databases on MongoDB are called `<prefix>_patients` and `<prefix>_keys`.
    #[arg(long, env = "VITALOG_DATABASE_PREFIX", default_value = "vitalog")]
    pub database_prefix: Name,
    /// The key-encryption key: 32 bytes, hexadecimal or base64.
    #[arg(long, env = "VITALOG_KEK", value_name = "REF")]
    pub kek: SecretRef,
    /// The HMAC key of command ids, the same in every replica: 32 bytes, hexadecimal or base64.
    #[arg(long, env = "VITALOG_COMMAND_KEY", value_name = "REF")]
    pub command_key: SecretRef,
}

/// Why the settings do not make a service.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A secret cannot be used.
    #[error("a secret cannot be used")]
    Secret(#[from] SecretError),
    /// A store refuses to be opened; waiting does not help.
    #[error("a store cannot be opened")]
    Open(#[from] OpenError),
}

impl Settings {
    /// Who is let in. Their keys are read again until `shutdown`.
    pub fn door(&self, shutdown: &CancellationToken) -> Result<Door, ConfigError> {
        let callers = Callers::load(&self.callers)?;
        tokio::spawn(callers.clone().keep_reloading(self.callers.clone(), shutdown.clone()));
        let callers = Arc::new(callers);
        Ok(Door { callers, readiness: Readiness::default() })
    }

    /// Loads the secrets and opens the stores, waiting for those that are not there yet; `None`
    /// when shutdown came first.
    pub async fn connect(
        &self,
        readiness: &Readiness,
        shutdown: &CancellationToken,
    ) -> Result<Option<Deps>, ConfigError> {
        match self.open(readiness, shutdown).await {
            Ok(deps) => Ok(Some(deps)),
            Err(ConfigError::Open(OpenError::Stopped)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn open(
        &self,
        readiness: &Readiness,
        shutdown: &CancellationToken,
    ) -> Result<Deps, ConfigError> {
        let audit_key = self.audit_key.load()?;
        let command_key = self.command_key.load()?;
        let ring = readiness.component("key ring");
        let store = readiness.component(PROJECTION_STORE);
        let (store, ring) = tokio::try_join!(
            until_open(PROJECTION_STORE, &store, shutdown, || {
                open_projection_store(&self.store, &self.database_prefix)
            }),
            until_open("key ring", &ring, shutdown, || {
                open_key_ring(&self.keys, &self.database_prefix, &self.kek)
            }),
        )?;
        let audit = AuditClient::start(Options::new(&self.audit_url, audit_key));
        Ok(Deps { audit, store, ring, command_key, clock: SYSTEM_CLOCK })
    }
}

/// The machine's clock.
#[allow(clippy::disallowed_methods)]
const SYSTEM_CLOCK: Clock = || Timestamp::from(chrono::Utc::now());

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Settings::command().debug_assert();
    }
}
