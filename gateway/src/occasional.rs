//! Counts of what happens too often to be logged each time.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines in the log: an outage fails thousands of requests a second.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// How often something happened, and when the log last said so.
#[derive(Debug, Default)]
pub(crate) struct Occasional(Mutex<Happened>);

#[derive(Debug, Default)]
struct Happened {
    unlogged: u64,
    logged: Option<Instant>,
}

impl Occasional {
    /// Counts one more. When a line in the log is due, gives how often it happened since the last.
    pub(crate) fn count(&self) -> Option<u64> {
        let mut happened = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        happened.unlogged += 1;
        if happened.logged.is_some_and(|logged| logged.elapsed() < LOG_INTERVAL) {
            return None;
        }
        happened.logged = Some(Instant::now());
        Some(std::mem::take(&mut happened.unlogged))
    }
}
