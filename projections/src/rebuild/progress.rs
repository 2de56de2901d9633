//! How far a build is: a bar for people who wait, lines in the log for others.

use std::time::{Duration, Instant};

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a bar changes at most.
const PERIOD: Duration = Duration::from_millis(200);

/// Between two lines in the log.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Work on records, the first of which may be done already.
pub(super) struct Progress {
    started: Instant,
    /// Records that were done when this work began.
    first: Option<u64>,
    /// Elapsed time at which to show something next.
    next: Duration,
    bar: Option<ProgressBar>,
}

impl Default for Progress {
    fn default() -> Self {
        Self { started: Instant::now(), first: None, next: LINE_EVERY, bar: None }
    }
}

impl Progress {
    /// Shows a bar from now on, if it is wanted and standard error is a terminal.
    pub(super) fn show(&mut self, wanted: bool) {
        if !wanted {
            return;
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if bar.is_hidden() {
            return;
        }
        let template = "rebuilding [{wide_bar}] {human_pos}/{human_len} records, {msg}";
        let style = ProgressStyle::with_template(template);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        self.next = Duration::ZERO;
        self.bar = Some(bar);
    }

    /// So many records of so many are done.
    pub(super) fn advance(&mut self, done: u64, of: u64) {
        let first = *self.first.get_or_insert(done);
        let elapsed = self.started.elapsed();
        if elapsed < self.next {
            return;
        }
        let (per_second, left) = rate(done - first.min(done), of.saturating_sub(done), elapsed);
        if let Some(bar) = &self.bar {
            self.next = elapsed + PERIOD;
            bar.set_length(of);
            bar.set_position(done);
            let (per_second, left) = (HumanCount(per_second), HumanDuration(left));
            bar.set_message(format!("{per_second} records/s, {left:#} left"));
        } else {
            self.next = elapsed + LINE_EVERY;
            let left_seconds = left.as_secs();
            tracing::info!(
                records = done,
                of,
                records_per_second = per_second,
                left_seconds,
                "rebuilding"
            );
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Records a second, and how long the rest takes at that rate.
fn rate(done: u64, rest: u64, elapsed: Duration) -> (u64, Duration) {
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    let left = rest.saturating_mul(millis) / done.max(1);
    (done.saturating_mul(1_000) / millis, Duration::from_millis(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_this_process_alone() {
        let mut progress = Progress::default();
        progress.advance(900_000, 1_000_000);
        assert_eq!(progress.first, Some(900_000));
        let ten = Duration::from_secs(10);
        assert_eq!(rate(50_000, 25_000, ten), (5_000, Duration::from_secs(5)));
        assert_eq!(rate(0, 0, Duration::ZERO), (0, Duration::ZERO));
    }
}
