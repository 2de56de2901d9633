//! Trying again what may come back.

use std::{error::Error, time::Duration};

use runtime::retry::{FIRST_PAUSE, LONGEST_PAUSE};

/// Tries of one step of a command that ends, such as a rebuild: with the pauses of
/// [`Backoff`] about half a minute, which a failover of a replica set takes less than.
pub(crate) const MAX_TRIES: u32 = 12;

/// Pauses that double up to a limit.
#[derive(Debug)]
pub(crate) struct Backoff {
    pause: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { pause: FIRST_PAUSE }
    }
}

impl Backoff {
    /// Begins again with the shortest pause.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Waits; the next pause is twice as long.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

/// An error that may go away by itself.
pub(crate) trait Transient: Error {
    /// Whether trying the same again may succeed.
    fn is_transient(&self) -> bool;
}

/// Counts the tries of one step.
#[derive(Debug)]
pub(crate) struct Tries {
    what: &'static str,
    failed: u32,
    backoff: Backoff,
}

impl Tries {
    /// None yet of a step, which is named for the log.
    pub(crate) fn of(what: &'static str) -> Self {
        Self { what, failed: 0, backoff: Backoff::default() }
    }

    /// Waits until it is time to try again; the error itself if that is no use, or after
    /// [`MAX_TRIES`] failures.
    pub(crate) async fn again<E: Transient>(&mut self, error: E) -> Result<(), E> {
        self.failed += 1;
        if self.failed >= MAX_TRIES || !error.is_transient() {
            return Err(error);
        }
        tracing::warn!(what = self.what, failed = self.failed, %error, "trying again");
        self.backoff.wait().await;
        Ok(())
    }
}

/// Runs a step until it succeeds, fails for good, or failed [`MAX_TRIES`] times.
pub(crate) async fn persist<T, E, F, Fut>(what: &'static str, mut step: F) -> Result<T, E>
where
    E: Transient,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let mut tries = Tries::of(what);
    loop {
        match step().await {
            Ok(value) => return Ok(value),
            Err(error) => tries.again(error).await?,
        }
    }
}
