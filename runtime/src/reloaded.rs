//! What is made of secrets and made again when they change, so that rotating one needs no restart.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use tokio::time::sleep;

use crate::key_ages;

/// What these keys are for, among the ages of keys.
const SERVICE: &str = "service";

/// A value made of service keys; the last good one. Never printed.
pub struct Reloaded<T> {
    what: String,
    value: ArcSwap<T>,
}

impl<T: PartialEq> Reloaded<T> {
    /// Holds what was loaded first; `what` says in the log which one it is.
    pub fn new(what: impl Into<String>, value: T) -> Arc<Self> {
        let what = what.into();
        key_ages::seen(SERVICE, &what, Duration::ZERO);
        Arc::new(Self { what, value: ArcSwap::from_pointee(value) })
    }

    /// The value as it is now.
    pub fn now(&self) -> Guard<Arc<T>> {
        self.value.load()
    }

    /// Puts another in its place.
    pub fn set(&self, value: T) {
        key_ages::seen(SERVICE, &self.what, Duration::ZERO);
        self.value.store(Arc::new(value));
    }

    /// Loads again at an interval, until the last handle is dropped. While that fails the last good
    /// value stays, which the log says once, and once more when it is over.
    pub fn keep_loading<E: Error + 'static, F: Fn() -> Result<T, E>>(
        self: &Arc<Self>,
        interval: Duration,
        load: F,
    ) -> impl Future<Output = ()> + use<T, E, F> {
        let this = Arc::downgrade(self);
        async move {
            let mut failing = false;
            loop {
                sleep(interval).await;
                let Some(this) = this.upgrade() else { return };
                let loaded = load();
                let fails = loaded.is_err();
                match loaded {
                    Ok(value) if value != **this.now() => {
                        tracing::info!(what = %this.what, "a secret was read again");
                        this.set(value);
                    }
                    Ok(_) if failing => {
                        tracing::info!(what = %this.what, "a secret can be read again");
                    }
                    Err(error) if !failing => {
                        let error = &error as &dyn Error;
                        tracing::error!(
                            what = %this.what,
                            error,
                            "a secret cannot be read again; the last good one stays"
                        );
                    }
                    Ok(_) | Err(_) => {}
                }
                failing = fails;
            }
        }
    }
}

impl<T> fmt::Debug for Reloaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloaded").field("what", &self.what).finish_non_exhaustive()
    }
}
