//! How far long work is: a bar on standard error for people who wait, nothing for scripts.

use std::time::{Duration, Instant};

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work that ends before this shows no bar.
const SHORT: Duration = Duration::from_secs(1);

/// How often a bar changes at most.
const PERIOD: Duration = Duration::from_millis(100);

/// How far the work is.
pub(crate) struct Progress {
    what: &'static str,
    done: u64,
    total: u64,
    bytes: u64,
    started: Instant,
    /// Elapsed time at which the bar changes next.
    next: Duration,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Begins work on so many records. `what` says what is done to them, such as `exporting`.
    pub(crate) fn new(what: &'static str, total: u64) -> Self {
        Self { what, done: 0, total, bytes: 0, started: Instant::now(), next: SHORT, bar: None }
    }

    /// Says that so many more records, of so many bytes, are done.
    pub(crate) fn advance(&mut self, records: u64, bytes: u64) {
        self.done += records;
        self.bytes += bytes;
        let elapsed = self.started.elapsed();
        if elapsed < self.next {
            return;
        }
        self.next = elapsed + PERIOD;
        let bar = self.bar.get_or_insert_with(|| new_bar(self.what, self.total));
        if bar.is_hidden() {
            return;
        }
        bar.set_position(self.done);
        bar.set_message(rates(self.done, self.total, self.bytes, elapsed));
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A bar that is hidden where standard error is no terminal.
fn new_bar(what: &'static str, total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    let template = "{prefix} [{wide_bar}] {human_pos}/{human_len} records, {msg}";
    let style = ProgressStyle::with_template(template);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.with_prefix(what)
}

/// Rates since the beginning, and how long the rest takes at that rate.
fn rates(done: u64, total: u64, bytes: u64, elapsed: Duration) -> String {
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    let per_second = done.saturating_mul(1_000) / millis;
    // Tenths of a megabyte.
    let tenths = bytes / 100 / millis;
    let rest = total.saturating_sub(done).saturating_mul(millis) / done.max(1);
    format!(
        "{} records/s, {}.{} MB/s, {:#} left",
        HumanCount(per_second),
        tenths / 10,
        tenths % 10,
        HumanDuration(Duration::from_millis(rest)),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_the_time_left_are_those_of_the_whole_work() {
        let seconds = Duration::from_secs;
        let words = rates(250_000, 1_000_000, 150_000_000, seconds(10));
        assert_eq!(words, "25,000 records/s, 15.0 MB/s, 30s left");
        assert_eq!(rates(0, 5, 0, seconds(0)), "0 records/s, 0.0 MB/s, 0s left");
        assert_eq!(rates(7, 5, 2_550_000, seconds(1)), "7 records/s, 2.5 MB/s, 0s left");
    }

    #[test]
    fn a_bar_appears_after_a_second() {
        let mut progress = Progress::new("exporting", 10);
        progress.advance(1, 1);
        assert!(progress.bar.is_none());
        progress.started = Instant::now().checked_sub(SHORT).unwrap();
        progress.advance(1, 1);
        assert!(progress.bar.is_some());
    }
}
