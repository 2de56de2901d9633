//! What was answered, how fast, and what failed.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    summary::{Row, Summary},
    target::Failure,
};

/// Counts requests by their names. It keeps one latency of four bytes for each, so that percentiles
/// are exact.
#[derive(Debug)]
pub struct Recorder {
    start: Instant,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    by_name: BTreeMap<&'static str, Samples>,
    requests: u32,
    last: Instant,
}

#[derive(Debug, Default)]
struct Samples {
    micros: Vec<u32>,
    failures: BTreeMap<Failure, u32>,
}

impl Recorder {
    /// Nothing yet, of a measurement that begins then.
    pub fn new(start: Instant) -> Self {
        let counts = Counts { by_name: BTreeMap::new(), requests: 0, last: start };
        Self { start, counts: Mutex::new(counts) }
    }

    /// A request was answered as expected after this time.
    pub fn answered(&self, name: &'static str, latency: Duration) {
        let micros = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        self.count(name, |samples| samples.micros.push(micros));
    }

    /// A request failed.
    pub fn failed(&self, name: &'static str, failure: Failure) {
        self.count(name, |samples| *samples.failures.entry(failure).or_default() += 1);
    }

    /// Requests counted so far.
    pub fn requests(&self) -> u32 {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).requests
    }

    fn count(&self, name: &'static str, add: impl FnOnce(&mut Samples)) {
        let now = Instant::now();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        add(counts.by_name.entry(name).or_default());
        counts.requests += 1;
        counts.last = counts.last.max(now);
    }

    /// All that was counted, over `time` or until the last answer, whichever is longer. `cores` is
    /// what this process used meanwhile.
    pub fn summary(&self, time: Duration, cores: f64) -> Summary {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = counts.last.saturating_duration_since(self.start).max(time);
        let row = |name: &str, samples: &Samples| {
            Row::of(name, samples.micros.clone(), samples.failures.values().sum(), elapsed)
        };
        let all = counts.by_name.values().flat_map(|samples| samples.micros.iter().copied());
        let failed = counts.by_name.values().flat_map(|samples| samples.failures.values()).sum();
        Summary {
            elapsed,
            cores,
            all: Row::of("all", all.collect(), failed, elapsed),
            rows: counts.by_name.iter().map(|(name, samples)| row(name, samples)).collect(),
            failures: counts
                .by_name
                .iter()
                .flat_map(|(name, samples)| {
                    let of = |(failure, count): (&Failure, &u32)| (*name, *failure, *count);
                    samples.failures.iter().map(of)
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_answered_and_failures_are_counted_by_cause() {
        let recorder = Recorder::new(Instant::now());
        for millis in (1..=100).rev() {
            recorder.answered("echo", Duration::from_millis(millis));
        }
        recorder.answered("load patient", Duration::from_secs(1));
        let status = Failure::Status { got: 503, expected: 200 };
        for failure in [status, Failure::TimedOut, status] {
            recorder.failed("load patient", failure);
        }
        let summary = recorder.summary(Duration::from_secs(10), 0.5);

        let [echo, load] = &summary.rows[..] else { panic!("{summary:?}") };
        let millis = Duration::from_millis;
        assert_eq!((echo.p50, echo.p95, echo.p99), (millis(50), millis(95), millis(99)));
        assert_eq!((echo.answered, echo.failed), (100, 0));
        assert_eq!((load.answered, load.failed, load.p50), (1, 3, Duration::from_secs(1)));
        assert_eq!((summary.all.answered, summary.all.failed), (101, 3));
        assert!((summary.all.rate - 10.1).abs() < 1e-9, "{}", summary.all.rate);
        let expected = [("load patient", status, 2), ("load patient", Failure::TimedOut, 1)];
        assert_eq!(summary.failures, expected);
        assert_eq!(recorder.requests(), 104);
    }
}
