//! Figures of a run, as a table and as JSON.

use std::{fmt, time::Duration};

use serde_json::{Value, json};

use super::target::Failure;

/// Figures of the requests of one name.
#[derive(Debug, Clone)]
pub struct Row {
    /// The name.
    pub name: String,
    /// How many were answered as expected.
    pub answered: u32,
    /// How many were not.
    pub failed: u32,
    /// Those answered as expected, a second.
    pub rate: f64,
    /// Latency that half of those stay within.
    pub p50: Duration,
    /// Latency that 95 of 100 stay within.
    pub p95: Duration,
    /// Latency that 99 of 100 stay within.
    pub p99: Duration,
}

/// Figures of a run.
#[derive(Debug, Clone)]
pub struct Summary {
    /// How long it was.
    pub elapsed: Duration,
    /// Processor cores that the generator itself used, on average.
    pub cores: f64,
    /// All requests together.
    pub all: Row,
    /// By name.
    pub rows: Vec<Row>,
    /// Name, cause and number of the failures.
    pub failures: Vec<(&'static str, Failure, u32)>,
}

impl Row {
    /// From latencies in microseconds.
    pub(super) fn of(name: &str, mut micros: Vec<u32>, failed: u32, elapsed: Duration) -> Self {
        micros.sort_unstable();
        let at = |percent| Duration::from_micros(percentile(&micros, percent).into());
        let answered = u32::try_from(micros.len()).unwrap_or(u32::MAX);
        let rate = f64::from(answered) / elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        let (p50, p95, p99) = (at(50), at(95), at(99));
        Self { name: name.to_owned(), answered, failed, rate, p50, p95, p99 }
    }
}

impl Summary {
    /// Whether requests were answered, and all as expected.
    pub fn passed(&self) -> bool {
        self.all.answered > 0 && self.all.failed == 0
    }

    /// The figures of all requests together.
    pub fn json(&self) -> Value {
        json!({
            "answered": self.all.answered, "failed": self.all.failed, "perSecond": self.all.rate,
            "p50Ms": millis(self.all.p50), "p95Ms": millis(self.all.p95), "p99Ms": millis(self.all.p99),
            "generatorCores": self.cores,
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:30}{:>10}{:>8}{:>9}{:>9}{:>9}{:>9}",
            "", "answered", "failed", "/s", "p50 ms", "p95 ms", "p99 ms"
        )?;
        for row in self.rows.iter().chain([&self.all]) {
            let (p50, p95, p99) = (millis(row.p50), millis(row.p95), millis(row.p99));
            let Row { name, answered, failed, rate, .. } = row;
            writeln!(
                f,
                "{name:30}{answered:>10}{failed:>8}{rate:>9.1}{p50:>9.2}{p95:>9.2}{p99:>9.2}"
            )?;
        }
        for (name, failure, count) in &self.failures {
            writeln!(f, "FAILED {name}: {count} × {failure}")?;
        }
        let (seconds, percent) = (self.elapsed.as_secs_f64(), self.cores * 100.0);
        write!(f, "{seconds:.1} s; the generator itself took {percent:.0}% of one core")
    }
}

/// The smallest value that `percent` of 100 do not exceed.
fn percentile(sorted: &[u32], percent: usize) -> u32 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// In milliseconds.
pub(super) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let sorted: Vec<u32> = (1..=200).collect();
        assert_eq!([1, 50, 95, 99].map(|percent| percentile(&sorted, percent)), [2, 100, 190, 198]);
        assert_eq!([50, 99].map(|percent| percentile(&[7], percent)), [7, 7]);
        assert_eq!(percentile(&[], 99), 0);
    }
}
