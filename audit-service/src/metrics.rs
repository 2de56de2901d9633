//! Measurements of a ledger and of its appender.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use domain::{
    record::{Record, RecordType},
    time::Timestamp,
    wire::AppendResult,
};
use opentelemetry::{
    KeyValue,
    metrics::{AsyncInstrument, Counter, Gauge, Histogram, Meter},
};
use tokio::sync::watch;

use crate::{
    appender::Head, clock::Clock, commit::Committed, notary::Notary, outside::reach, stop::Final,
};

/// Bounds of the number of records in a block, up to [`crate::block::MAX_BLOCK_RECORDS`].
const RECORDS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0];

/// The instruments of a ledger, and what is to be looked at when somebody asks.
pub struct LedgerMetrics {
    records: Counter<u64>,
    blocks: Counter<u64>,
    block_records: Histogram<u64>,
    commits: Histogram<f64>,
    fence_conflicts: Counter<u64>,
    ambiguous: Counter<u64>,
    refused: Counter<u64>,
    halted: Gauge<u64>,
    /// Records in the queue.
    waiting: AtomicU64,
    /// Since when a block is under way, in milliseconds after `started` and one more; 0 for none.
    under_way: AtomicU64,
    started: Instant,
    /// Since when the signing key signs, in milliseconds of the epoch; the least for not known.
    signs_since: AtomicI64,
}

/// A block whose fate is not known yet.
#[must_use = "it ends when it is dropped"]
pub(crate) struct UnderWay<'a>(&'a LedgerMetrics);

impl LedgerMetrics {
    /// Instruments of this meter, each of which shows 0 for what has not happened.
    pub fn new(meter: &Meter) -> Arc<Self> {
        let counter =
            |name, description| meter.u64_counter(name).with_description(description).build();
        let metrics = Self {
            records: counter("vitalog.ledger.records_appended", "Records appended"),
            blocks: counter("vitalog.ledger.blocks_appended", "Blocks appended"),
            block_records: meter
                .u64_histogram("vitalog.ledger.block_records")
                .with_description("Records in the blocks that were appended")
                .with_boundaries(RECORDS.to_vec())
                .build(),
            commits: meter
                .f64_histogram("vitalog.ledger.commit_duration")
                .with_unit("s")
                .with_description("From the forming of a block until it was durable")
                .with_boundaries(runtime::metrics::SECONDS.to_vec())
                .build(),
            fence_conflicts: counter(
                "vitalog.ledger.fence_conflicts",
                "Blocks whose place another process's block had taken",
            ),
            ambiguous: counter(
                "vitalog.ledger.ambiguous_results",
                "Blocks that the store gave no clear answer to, by what became of them",
            ),
            refused: counter(
                "vitalog.ledger.proposals_refused",
                "Proposals that were not appended",
            ),
            halted: meter
                .u64_gauge("vitalog.ledger.halted")
                .with_description("1 where appending has ended for good")
                .build(),
            waiting: AtomicU64::new(0),
            under_way: AtomicU64::new(0),
            started: Instant::now(),
            signs_since: AtomicI64::new(i64::MIN),
        };
        metrics.begin_at_zero();
        Arc::new(metrics)
    }

    /// Alerts need a value from which a counter rises.
    fn begin_at_zero(&self) {
        for record_type in RecordType::ALL {
            self.records.add(0, &[KeyValue::new("type", record_type.as_str())]);
        }
        self.blocks.add(0, &[]);
        self.fence_conflicts.add(0, &[]);
        for resolved in ["stored", "fenced", "abandoned"] {
            self.ambiguous.add(0, &[KeyValue::new("resolved", resolved)]);
        }
        for reason in ["conflict", "command_reused", "refused", "unavailable"] {
            self.refused.add(0, &[KeyValue::new("reason", reason)]);
        }
        for reason in Final::REASONS {
            self.halted.record(0, &[KeyValue::new("reason", reason)]);
        }
    }

    /// Shows what has to be looked at: the size of the ledger, the queue, the block under way, and
    /// the ages of the newest checkpoint and of the key that signs it. Ends when the appender does.
    pub fn observe(
        self: &Arc<Self>,
        meter: &Meter,
        head: watch::Receiver<Head>,
        notary: &Arc<Notary>,
        clock: Clock,
    ) {
        let seconds = |name, description| {
            meter.f64_observable_gauge(name).with_unit("s").with_description(description)
        };
        let (grown, notary) = (head.clone(), Arc::downgrade(notary));
        seconds("vitalog.checkpoint.age", reach::AGE)
            .with_callback(move |age| {
                if let (Some(head), Some(notary)) = (current(&grown), notary.upgrade()) {
                    age.observe(notary.remembered().age(head), &[]);
                }
            })
            .build();
        meter
            .u64_observable_gauge("vitalog.ledger.size_records")
            .with_description("Records in the ledger")
            .with_callback(move |size| {
                if let Some(head) = current(&head) {
                    size.observe(head.size, &[]);
                }
            })
            .build();
        meter
            .u64_observable_gauge("vitalog.ledger.queue_records")
            .with_description("Records that wait for a block")
            .with_callback(self.looking(|metrics, queue| {
                queue.observe(metrics.waiting.load(Relaxed), &[]);
            }))
            .build();
        seconds(
            "vitalog.ledger.unsettled",
            "How long the fate of the block under way is not known",
        )
        .with_callback(self.looking(|metrics, unsettled| {
            unsettled.observe(metrics.unsettled().as_secs_f64(), &[]);
        }))
        .build();
        seconds("vitalog.key.age", "How long a key is in use")
            .with_callback(self.looking(move |metrics, age| {
                let since = metrics.signs_since.load(Relaxed);
                if since != i64::MIN {
                    let passed = clock().millis().saturating_sub(since).max(0).unsigned_abs();
                    let key = [KeyValue::new("key", "ledger_signing")];
                    age.observe(Duration::from_millis(passed).as_secs_f64(), &key);
                }
            }))
            .build();
    }

    fn looking<T>(
        self: &Arc<Self>,
        look: impl Fn(&Self, &dyn AsyncInstrument<T>) + Send + Sync + 'static,
    ) -> impl Fn(&dyn AsyncInstrument<T>) + Send + Sync + 'static {
        let metrics: Weak<Self> = Arc::downgrade(self);
        move |instrument| {
            if let Some(metrics) = metrics.upgrade() {
                look(&metrics, instrument);
            }
        }
    }

    /// A block of these records is durable, so long after it was begun.
    pub(crate) fn stored<'a>(&self, records: impl Iterator<Item = &'a Record>, took: Duration) {
        let mut counts = [0_u64; RecordType::ALL.len()];
        for record in records {
            counts[record.record_type as usize] += 1;
        }
        for (record_type, count) in
            RecordType::ALL.iter().zip(counts).filter(|(_, count)| *count > 0)
        {
            self.records.add(count, &[KeyValue::new("type", record_type.as_str())]);
        }
        self.blocks.add(1, &[]);
        self.block_records.record(counts.iter().sum(), &[]);
        self.commits.record(took.as_secs_f64(), &[]);
    }

    /// A block is on its way to the store.
    pub(crate) fn begin(&self) -> UnderWay<'_> {
        self.under_way.store(self.millis() + 1, Relaxed);
        UnderWay(self)
    }

    fn unsettled(&self) -> Duration {
        match self.under_way.load(Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_millis((self.millis() + 1).saturating_sub(since)),
        }
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX / 2)
    }

    /// What became of a block, and whether the store had given no clear answer before.
    pub(crate) fn settled(&self, committed: Committed, ambiguous: bool) {
        if committed == Committed::Fenced {
            self.fence_conflicts.add(1, &[]);
        }
        if ambiguous {
            self.ambiguous.add(1, &[KeyValue::new("resolved", committed.as_str())]);
        }
    }

    /// Counts what was not appended of these.
    pub(crate) fn answered(&self, results: &[AppendResult]) {
        for reason in results.iter().filter_map(refusal) {
            self.refused.add(1, &[KeyValue::new("reason", reason)]);
        }
    }

    pub(crate) fn halted(&self, reason: &Final) {
        self.halted.record(1, &[KeyValue::new("reason", reason.as_str())]);
    }

    pub(crate) fn queued(&self, records: usize) {
        self.waiting.fetch_add(records as u64, Relaxed);
    }

    pub(crate) fn dequeued(&self, records: usize) {
        self.waiting.fetch_sub(records as u64, Relaxed);
    }

    /// The key that signs was made the ledger's at this time.
    pub(crate) fn signs_since(&self, time: Timestamp) {
        self.signs_since.store(time.millis(), Relaxed);
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.store(0, Relaxed);
    }
}

/// Why a proposal was not appended; `None` if it was.
pub(crate) fn refusal(result: &AppendResult) -> Option<&'static str> {
    match result {
        AppendResult::Appended(_) => None,
        AppendResult::Conflict { .. } => Some("conflict"),
        AppendResult::CommandReused => Some("command_reused"),
        AppendResult::Refused { .. } => Some("refused"),
        AppendResult::Unavailable { .. } => Some("unavailable"),
    }
}

/// The head, unless the appender is gone.
pub(crate) fn current(head: &watch::Receiver<Head>) -> Option<Head> {
    head.has_changed().ok().map(|_| *head.borrow())
}
