//! Whether this process's clock may date records (design §4, "Clock").

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use domain::time::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::LedgerStore;

/// How far a clock may be ahead of the store's, or behind the ledger's head.
const TOLERANCE_MS: i64 = 2_000;

/// How often the store's clock is asked for.
const INTERVAL: Duration = Duration::from_secs(5);

/// Where the time comes from.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The clock with its checks.
#[derive(Clone)]
pub struct ClockGuard {
    clock: Clock,
    compared: Arc<Mutex<Option<Reading>>>,
}

/// What the store's clock showed, and when that was.
#[derive(Clone, Copy)]
struct Reading {
    at: Instant,
    shown: Timestamp,
}

/// The clock must not date records now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClockError {
    /// More than two seconds ahead of the store's clock.
    #[error("this process's clock is ahead of the ledger store's")]
    Ahead,
    /// More than two seconds behind the last record.
    #[error("this process's clock is behind the last record")]
    Behind,
    /// The store's clock could not be read yet.
    #[error("this process's clock was not compared with the ledger store's")]
    NotCompared,
}

impl ClockError {
    /// The error's text, for readiness.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Ahead => "clock is ahead of the ledger store's",
            Self::Behind => "clock is behind the last record",
            Self::NotCompared => "clock was not compared with the ledger store's",
        }
    }
}

impl ClockGuard {
    /// A guard that trusts the clock as soon as it was compared with the store's.
    pub fn new(clock: Clock) -> Self {
        Self { clock, compared: Arc::default() }
    }

    /// The time, if it may date a record after one of `last`. A clock that seems to be ahead is
    /// compared once more before it is refused.
    pub async fn time(
        &self,
        store: &dyn LedgerStore,
        last: Timestamp,
    ) -> Result<Timestamp, ClockError> {
        match self.check(last) {
            Err(ClockError::Ahead | ClockError::NotCompared) => {
                self.compare(store).await;
                self.check(last)
            }
            answer => answer,
        }
    }

    /// As [`ClockGuard::time`], by the last comparison alone. A clock that was set forward since
    /// then is found by the time that has really passed: one record with a date far ahead would
    /// stop every process until that date.
    pub fn check(&self, last: Timestamp) -> Result<Timestamp, ClockError> {
        let now = (self.clock)();
        let Reading { at, shown } = self.lock().ok_or(ClockError::NotCompared)?;
        let passed = i64::try_from(at.elapsed().as_millis()).unwrap_or(i64::MAX);
        if now.millis() - shown.millis().saturating_add(passed) > TOLERANCE_MS {
            return Err(ClockError::Ahead);
        }
        if last.millis().saturating_sub(now.millis()) > TOLERANCE_MS {
            return Err(ClockError::Behind);
        }
        Ok(now)
    }

    /// Reads the store's clock once. A store that does not answer changes nothing.
    pub async fn compare(&self, store: &dyn LedgerStore) {
        // Read before asking: the answer's delay then counts for us, never against us.
        let at = Instant::now();
        if let Ok(shown) = store.clock().await {
            *self.lock() = Some(Reading { at, shown });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Reading>> {
        self.compared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compares again and again until the process goes down.
    pub async fn keep_comparing(self, store: Arc<dyn LedgerStore>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => self.compare(&*store).await,
                () = shutdown.cancelled() => return,
            }
        }
    }
}
