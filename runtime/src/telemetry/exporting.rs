//! A bounded queue of spans and the task that sends them.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::metrics;

/// Spans that may wait, a kilobyte each or so; beyond it the newest are dropped and counted.
const CAPACITY: usize = 8_192;

/// Spans that are sent at once at most.
const MAX_BATCH: usize = 512;

/// How long the first span of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);

/// How long sending a batch may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a batch is sent again that was not taken; then it is dropped.
const KEEP: Duration = Duration::from_secs(30);

/// Pause before a batch is sent again.
const PAUSE: Duration = Duration::from_secs(1);

/// Spans on their way to one back end; clones are the same queue.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    sender: mpsc::Sender<SpanData>,
    flush: mpsc::Sender<oneshot::Sender<()>>,
    counts: Arc<Counts>,
}

/// What became of spans.
#[derive(Debug)]
struct Counts {
    spans: Counter<u64>,
    exported: [KeyValue; 2],
    dropped: [KeyValue; 2],
}

impl Counts {
    fn new(exporter: &'static str) -> Self {
        let labels =
            |outcome| [KeyValue::new("exporter", exporter), KeyValue::new("outcome", outcome)];
        let spans = metrics::meter()
            .u64_counter("vitalog.telemetry.spans")
            .with_description("Spans, by what became of them")
            .build();
        let counts = Self { spans, exported: labels("exported"), dropped: labels("dropped") };
        counts.add(&counts.exported, 0);
        counts.add(&counts.dropped, 0);
        counts
    }

    fn add(&self, labels: &[KeyValue], spans: usize) {
        self.spans.add(spans as u64, labels);
    }
}

impl Queue {
    /// Starts the task that sends, on the current runtime, once `exporter` is there.
    pub(super) fn start<E: SpanExporter + 'static>(
        name: &'static str,
        exporter: impl Future<Output = E> + Send + 'static,
    ) -> Self {
        let (sender, spans) = mpsc::channel(CAPACITY);
        let (flush, flushes) = mpsc::channel(1);
        let counts = Arc::new(Counts::new(name));
        let counting = Arc::clone(&counts);
        tokio::spawn(async move {
            let exporter = exporter.await;
            Task { name, exporter, spans, counts: counting, failing: false }.run(flushes).await;
        });
        Self { sender, flush, counts }
    }

    /// Takes a span, or drops it where the queue is full. Never waits.
    pub(super) fn put(&self, span: SpanData) {
        if self.sender.try_send(span).is_err() {
            self.counts.add(&self.counts.dropped, 1);
        }
    }

    /// Waits until what is in the queue now was sent or dropped.
    pub(super) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.flush.send(done).await.is_ok() {
            let _ = flushed.await;
        }
    }
}

struct Task<E> {
    name: &'static str,
    exporter: E,
    spans: mpsc::Receiver<SpanData>,
    counts: Arc<Counts>,
    failing: bool,
}

impl<E: SpanExporter> Task<E> {
    /// Until every handle of the queue is gone.
    async fn run(mut self, mut flushes: mpsc::Receiver<oneshot::Sender<()>>) {
        loop {
            let mut batch = Vec::new();
            let asked = tokio::select! {
                biased;
                flush = flushes.recv() => match flush {
                    Some(done) => Some(done),
                    None => return,
                },
                taken = self.spans.recv_many(&mut batch, MAX_BATCH) => {
                    if taken == 0 {
                        return;
                    }
                    self.gather(&mut batch, &mut flushes).await
                }
            };
            self.send(batch).await;
            if let Some(done) = asked {
                self.drain().await;
                let _ = done.send(());
            }
        }
    }

    /// Waits for more spans, until there are enough, time is up, or somebody wants them sent.
    async fn gather(
        &mut self,
        batch: &mut Vec<SpanData>,
        flushes: &mut mpsc::Receiver<oneshot::Sender<()>>,
    ) -> Option<oneshot::Sender<()>> {
        let until = Instant::now() + GATHER;
        while batch.len() < MAX_BATCH {
            let room = MAX_BATCH - batch.len();
            tokio::select! {
                biased;
                flush = flushes.recv() => return flush,
                () = tokio::time::sleep_until(until) => return None,
                taken = self.spans.recv_many(batch, room) => if taken == 0 { return None },
            }
        }
        None
    }

    async fn drain(&mut self) {
        loop {
            let mut batch = Vec::new();
            while batch.len() < MAX_BATCH
                && let Ok(span) = self.spans.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            self.send(batch).await;
        }
    }

    async fn send(&mut self, batch: Vec<SpanData>) {
        if batch.is_empty() {
            return;
        }
        let count = batch.len();
        let give_up = Instant::now() + KEEP;
        loop {
            let sent = timeout(SEND_TIMEOUT, self.exporter.export(batch.clone())).await;
            if matches!(sent, Ok(Ok(()))) {
                self.say(false);
                return self.counts.add(&self.counts.exported, count);
            }
            self.say(true);
            if Instant::now() + PAUSE >= give_up {
                return self.counts.add(&self.counts.dropped, count);
            }
            sleep(PAUSE).await;
        }
    }

    /// Logs changes alone. The error's own text stays out: it may repeat addresses and headers.
    fn say(&mut self, failing: bool) {
        if failing && !self.failing {
            tracing::warn!(exporter = self.name, "spans cannot be sent, trying again");
        } else if !failing && self.failing {
            tracing::info!(exporter = self.name, "spans are sent again");
        }
        self.failing = failing;
    }
}
