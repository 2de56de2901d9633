//! Figures of one measurement, and medians of several.

use std::{fmt, time::Duration};

/// What one measurement gave.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Operations that succeeded, a second.
    pub rate: f64,
    /// Median latency.
    pub p50: Duration,
    /// Latency that 99 in 100 stay under.
    pub p99: Duration,
    /// Operations that failed.
    pub failed: usize,
}

impl Figures {
    /// From the latencies of what succeeded within `elapsed`.
    pub fn of(mut latencies: Vec<Duration>, failed: usize, elapsed: Duration) -> Self {
        latencies.sort_unstable();
        let at = |quantile: usize| {
            let index = latencies.len() * quantile / 100;
            latencies.get(index.min(latencies.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        let count = u32::try_from(latencies.len()).unwrap_or(u32::MAX);
        Self { rate: f64::from(count) / elapsed.as_secs_f64(), p50: at(50), p99: at(99), failed }
    }

    /// The run whose rate is the median.
    pub fn median(mut runs: Vec<Self>) -> Option<Self> {
        runs.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        let failed = runs.iter().map(|run| run.failed).sum();
        runs.get(runs.len() / 2).map(|run| Self { failed, ..*run })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
        write!(
            f,
            "{:8.0}/s  p50 {:7.2} ms  p99 {:7.2} ms",
            self.rate,
            millis(self.p50),
            millis(self.p99)
        )?;
        if self.failed > 0 { write!(f, "  FAILED {}", self.failed) } else { Ok(()) }
    }
}

/// The one-minute load average of the machine.
pub fn machine_load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}
