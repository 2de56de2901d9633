//! How far long work is: a bar on standard error for people who wait, nothing for scripts.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work that ends before this shows no bar.
const SHORT: Duration = Duration::from_secs(1);

/// How far the work is.
pub(crate) struct Progress {
    what: &'static str,
    done: u64,
    total: u64,
    bytes: u64,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Begins work on so many records. `what` says what is done to them, such as `exporting`.
    pub(crate) fn new(what: &'static str, total: u64) -> Self {
        Self { what, done: 0, total, bytes: 0, started: Instant::now(), bar: None }
    }

    /// Says that so many more records, of so many bytes, are done.
    pub(crate) fn advance(&mut self, records: u64, bytes: u64) {
        self.done += records;
        self.bytes += bytes;
        let elapsed = self.started.elapsed();
        if elapsed < SHORT {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| new_bar(self.what, self.total, self.started));
        bar.set_position(self.done);
        // Tenths of a megabyte a second.
        let tenths = u128::from(self.bytes) / 100 / elapsed.as_millis().max(1);
        bar.set_message(format!("{}.{} MB/s", tenths / 10, tenths % 10));
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

/// A bar that draws nothing where standard error is no terminal.
fn new_bar(what: &'static str, total: u64, started: Instant) -> ProgressBar {
    let target = ProgressDrawTarget::stderr();
    let bar = ProgressBar::with_draw_target(Some(total), target).with_elapsed(started.elapsed());
    let template = "{prefix} [{wide_bar}] {pos}/{len} records, {per_sec}, {msg}, {eta} left";
    let style = ProgressStyle::with_template(template);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.with_prefix(what)
}
