//! The vault secrets of a process: had once, refreshed in the background.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Builder, Runtime},
    time::{sleep, timeout},
};

use super::{
    VaultFailure, VaultSecret,
    azure::{Azure, Failed},
};
use crate::{secrets::Secret, settings};

/// How long the first load of a secret waits for the vault.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks whether a secret has changed, where nothing else is said.
pub const REFRESH: Duration = Duration::from_mins(1);

/// How long one attempt may take, the identity's token included.
pub const ATTEMPT: Duration = Duration::from_secs(10);

/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause before the second attempt; it doubles with each one, up to the refresh interval.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause that a vault is granted when it asks to slow down.
const LONGEST_PAUSE: Duration = Duration::from_mins(10);

/// The setting of the refresh interval, in seconds.
const REFRESH_SETTING: &str = "VITALOG_KEYVAULT_REFRESH";

/// The most seconds of that setting: a day.
const MAX_REFRESH: u64 = 86_400;

/// How vaults are asked.
#[derive(Debug, Clone)]
pub struct VaultOptions {
    /// The client, for vaults and for the identity endpoint.
    pub http: reqwest::Client,
    /// The client id of a user-assigned identity.
    pub client_id: Option<String>,
    /// See [`REFRESH`].
    pub refresh: Duration,
    /// See [`PATIENCE`].
    pub patience: Duration,
    /// See [`ATTEMPT`].
    pub attempt: Duration,
}

impl VaultOptions {
    /// Options with the default bounds.
    pub fn new(http: reqwest::Client) -> Self {
        Self { http, client_id: None, refresh: REFRESH, patience: PATIENCE, attempt: ATTEMPT }
    }

    fn from_environment() -> Result<Self, VaultFailure> {
        crate::crypto::install_tls_provider();
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(|_| VaultFailure::Setup)?;
        let refresh = settings::env(REFRESH_SETTING).map_or(Ok(REFRESH), |text| {
            let seconds = text.parse().ok().filter(|seconds| (1..=MAX_REFRESH).contains(seconds));
            seconds.map(Duration::from_secs).ok_or(VaultFailure::Refresh)
        })?;
        let client_id = settings::env("AZURE_CLIENT_ID").filter(|id| !id.is_empty());
        Ok(Self { client_id, refresh, ..Self::new(http) })
    }
}

/// The secrets of vaults that were loaded, kept fresh by a thread of their own.
pub struct Vaults {
    shared: Arc<Shared>,
    /// Taken when this goes: it must not be waited for.
    runtime: Option<Runtime>,
}

struct Shared {
    azure: Azure,
    options: VaultOptions,
    /// As many as the settings name; none is ever removed.
    entries: Mutex<HashMap<VaultSecret, Entry>>,
    changed: Condvar,
}

struct Entry {
    value: Option<Secret>,
    failure: Option<VaultFailure>,
    /// Until when whoever needs a first value waits.
    deadline: Instant,
}

impl Vaults {
    /// The secrets of this process.
    pub(in crate::secrets) fn of_process() -> Result<&'static Self, VaultFailure> {
        static VAULTS: OnceLock<Result<Vaults, VaultFailure>> = OnceLock::new();
        let made = || VaultOptions::from_environment().and_then(Vaults::new);
        VAULTS.get_or_init(made).as_ref().map_err(|failure| *failure)
    }

    /// No secrets yet.
    ///
    /// # Errors
    /// [`VaultFailure::Setup`] when the thread cannot be started.
    pub fn new(options: VaultOptions) -> Result<Self, VaultFailure> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("vaults")
            .enable_all()
            .build()
            .map_err(|_| VaultFailure::Setup)?;
        let azure = Azure::new(options.http.clone(), options.client_id.clone());
        let (entries, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { azure, options, entries, changed });
        Ok(Self { shared, runtime: Some(runtime) })
    }

    /// The last value that the vault gave. The first load of a secret waits for one.
    ///
    /// # Errors
    /// Why there never was a value: at once when the vault says that it will not give one, else
    /// when [`VaultOptions::patience`] is over. The vault is still asked then.
    pub fn load(&self, secret: &VaultSecret) -> Result<Secret, VaultFailure> {
        let mut entries = self.shared.entries();
        if !entries.contains_key(secret) {
            let deadline = Instant::now() + self.shared.options.patience;
            entries.insert(secret.clone(), Entry { value: None, failure: None, deadline });
            if let Some(runtime) = &self.runtime {
                runtime.spawn(Arc::clone(&self.shared).keep(secret.clone()));
            }
        }
        loop {
            let entry = entries.get(secret).ok_or(VaultFailure::Setup)?;
            if let Some(value) = &entry.value {
                return Ok(value.clone());
            }
            if let Some(failure) = entry.failure.filter(|failure| !failure.is_transient()) {
                return Err(failure);
            }
            let left = entry.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(entry.failure.unwrap_or(VaultFailure::TooSlow));
            }
            let waited = self.shared.changed.wait_timeout(entries, left);
            entries = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Vaults {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    /// Asks for a secret again and again.
    async fn keep(self: Arc<Self>, secret: VaultSecret) {
        let VaultOptions { refresh, attempt, .. } = self.options;
        let mut backoff = FIRST_PAUSE;
        loop {
            let fetched = timeout(attempt, self.azure.fetch(&secret)).await;
            let pause = match fetched.unwrap_or_else(|_| Err(VaultFailure::TooSlow.into())) {
                Ok(value) => {
                    backoff = FIRST_PAUSE;
                    self.succeeded(&secret, value);
                    refresh
                }
                Err(Failed { failure, retry_after }) => {
                    self.failed(&secret, failure);
                    let pause = if failure.is_transient() { backoff } else { refresh };
                    backoff = (backoff * 2).min(refresh.max(FIRST_PAUSE));
                    retry_after.unwrap_or_default().min(LONGEST_PAUSE).max(pause)
                }
            };
            sleep(pause).await;
        }
    }

    fn succeeded(&self, secret: &VaultSecret, value: Secret) {
        let mut entries = self.entries();
        if let Some(entry) = entries.get_mut(secret) {
            if entry.failure.take().is_some() {
                tracing::info!(%secret, "the vault gives the secret again");
            }
            entry.value = Some(value);
        }
        self.changed.notify_all();
    }

    /// Says so once, until the vault gives it again.
    fn failed(&self, secret: &VaultSecret, failure: VaultFailure) {
        let mut entries = self.entries();
        if let Some(entry) = entries.get_mut(secret)
            && entry.failure.replace(failure).is_none()
        {
            let reason = failure.to_string();
            if entry.value.is_some() {
                tracing::error!(%secret, reason, "the vault fails; the secret's last value stays");
            } else {
                tracing::warn!(%secret, reason, "the vault does not give the secret yet");
            }
        }
        self.changed.notify_all();
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<VaultSecret, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
