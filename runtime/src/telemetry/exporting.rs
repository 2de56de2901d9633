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

/// Places that must be free for a trace to begin: one has some ten spans, and many are under way.
const ROOM: usize = CAPACITY / 8;

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

    /// Whether spans that are made now are likely to be taken.
    pub(super) fn has_room(&self) -> bool {
        self.sender.capacity() >= ROOM
    }

    /// Counts a span that was not even made.
    pub(super) fn left_out(&self) {
        self.counts.add(&self.counts.dropped, 1);
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::Mutex;

    use opentelemetry::trace::{Span, Tracer, TracerProvider};
    use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
    use opentelemetry_sdk::trace::{SdkTracerProvider, SpanProcessor};

    use super::*;

    /// A back end that answers what it is told to, and then takes everything.
    #[derive(Clone, Debug, Default)]
    struct BackEnd {
        taken: Arc<Mutex<usize>>,
        refuses: Arc<Mutex<usize>>,
        hangs: bool,
    }

    impl SpanExporter for BackEnd {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            if self.hangs {
                return pending().await;
            }
            let mut refuses = self.refuses.lock().unwrap();
            if *refuses > 0 {
                *refuses -= 1;
                return Err(OTelSdkError::InternalFailure("refused".to_owned()));
            }
            *self.taken.lock().unwrap() += batch.len();
            Ok(())
        }
    }

    /// One ended span, many times.
    fn put(queue: &Queue, spans: usize) {
        #[derive(Debug)]
        struct Into(Queue);
        impl SpanProcessor for Into {
            fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &opentelemetry::Context) {
            }
            fn on_end(&self, span: SpanData) {
                self.0.put(span);
            }
            fn force_flush(&self) -> OTelSdkResult {
                Ok(())
            }
            fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
                Ok(())
            }
        }
        let provider = SdkTracerProvider::builder().with_span_processor(Into(queue.clone()));
        let tracer = provider.build().tracer("test");
        for _ in 0..spans {
            tracer.start("span").end();
        }
    }

    #[tokio::test]
    async fn a_flush_sends_all_that_waits() {
        let back_end = BackEnd::default();
        let queue = Queue::start("test", ready(back_end.clone()));
        put(&queue, 3 * MAX_BATCH + 7);
        queue.flush().await;
        assert_eq!(*back_end.taken.lock().unwrap(), 3 * MAX_BATCH + 7);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_sent_again() {
        let back_end = BackEnd { refuses: Arc::new(Mutex::new(2)), ..BackEnd::default() };
        let queue = Queue::start("test", ready(back_end.clone()));
        put(&queue, 5);
        queue.flush().await;
        assert_eq!(*back_end.taken.lock().unwrap(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_for_long_makes_room() {
        let back_end = BackEnd { refuses: Arc::new(Mutex::new(usize::MAX)), ..BackEnd::default() };
        let queue = Queue::start("test", ready(back_end.clone()));
        put(&queue, 5);
        let begun = Instant::now();
        queue.flush().await;
        assert!(begun.elapsed() <= KEEP + PAUSE);
        assert_eq!(*back_end.taken.lock().unwrap(), 0);
    }

    #[tokio::test]
    async fn a_back_end_that_hangs_costs_spans_and_holds_nothing_up() {
        let queue = Queue::start("test", ready(BackEnd { hangs: true, ..BackEnd::default() }));
        assert!(queue.has_room());
        put(&queue, 3 * CAPACITY);
        assert!(!queue.has_room(), "nobody makes spans any more");
        let text = metrics::process().text().unwrap();
        let dropped = "vitalog_telemetry_spans_total{exporter=\"test\",outcome=\"dropped\"} ";
        let dropped = text.lines().find_map(|line| line.strip_prefix(dropped)).unwrap();
        assert!(dropped.parse::<usize>().unwrap() >= CAPACITY, "{dropped}");
    }
}
