//! What is applied to the read models, by whom and how fast, as metrics.

use std::sync::LazyLock;

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram},
};
use runtime::metrics;

/// Bounds of the histogram of batches.
const CHANGES: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// The metrics of applying. Made once, with all labels at 0.
pub struct Tally {
    applied: Counter<u64>,
    pending: Counter<u64>,
    repairs: Counter<u64>,
    pub(crate) apply_seconds: Histogram<f64>,
    pub(crate) batch_changes: Histogram<u64>,
}

/// Those of this process.
pub static TALLY: LazyLock<Tally> = LazyLock::new(Tally::default);

/// Who brings a change into the read models.
#[derive(Debug, Clone, Copy)]
pub(crate) enum By {
    Command,
    Follower,
}

impl Default for Tally {
    fn default() -> Self {
        let meter = metrics::meter();
        let counter =
            |name, description| meter.u64_counter(name).with_description(description).build();
        let tally = Self {
            applied: counter(
                "vitalog.projection.applied",
                "Changes of streams brought into the read models",
            ),
            pending: counter(
                "vitalog.projection.pending",
                "Commands answered before the read models had their event",
            ),
            repairs: counter("vitalog.projection.repairs", "Streams made whole from the ledger"),
            apply_seconds: metrics::seconds(
                "vitalog.projection.apply.duration",
                "How long commands' changes took into the read models, waiting included",
            ),
            batch_changes: meter
                .u64_histogram("vitalog.projection.batch.changes")
                .with_description("Changes of commands written at once")
                .with_boundaries(CHANGES.to_vec())
                .build(),
        };
        tally.applied(By::Command, 0);
        tally.applied(By::Follower, 0);
        tally.pending.add(0, &[]);
        tally.repairs.add(0, &[]);
        tally
    }
}

impl Tally {
    /// A command is answered before its event is in the read models.
    pub fn pending(&self) {
        self.pending.add(1, &[]);
    }

    pub(crate) fn applied(&self, by: By, changes: u64) {
        let by = match by {
            By::Command => "command",
            By::Follower => "follower",
        };
        self.applied.add(changes, &[KeyValue::new("by", by)]);
    }

    pub(crate) fn repaired(&self) {
        self.repairs.add(1, &[]);
    }
}
