//! A back end of telemetry: a real OTLP receiver, for gRPC and for protobuf over HTTP on one port.
//!
//! It decodes what it gets, keeps all of it, and is as bad a back end as a test wants.

mod metrics;
mod receiver;
mod spans;
mod tree;

use std::{
    fmt::Write as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::collector::{
    metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest,
};
use prost::Message;
use tokio::{sync::watch, task::JoinSet};

pub use metrics::Metric;
pub use spans::{Context, Kind, Span};
pub use tree::Trace;

/// How long spans may take to arrive. Far more than they need, because the machine may be busy.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a [`Collector`] does with what it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Takes it.
    Take,
    /// Answers 503.
    Refuse,
    /// Takes it, and answers after this time.
    Slow(Duration),
}

/// How it is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC.
    Grpc,
    /// Protobuf over HTTP.
    Http,
}

/// A receiver of spans and metrics; it ends when it is dropped.
#[derive(Debug)]
pub struct Collector {
    endpoint: String,
    shared: Arc<Shared>,
    // Ends the receiver when it is dropped.
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    mode: watch::Sender<Mode>,
    requests: AtomicUsize,
    received: Mutex<Received>,
    arrived: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Received {
    spans: Vec<Span>,
    metrics: Vec<Metric>,
    /// Every request as it was, where texts stand in clear.
    raw: Vec<Vec<u8>>,
}

impl Collector {
    /// Listens on a free port of loopback.
    pub async fn start() -> Self {
        let shared = Arc::new(Shared {
            mode: watch::Sender::new(Mode::Take),
            requests: AtomicUsize::default(),
            received: Mutex::default(),
            arrived: watch::Sender::new(()),
        });
        let (endpoint, tasks) =
            receiver::start(Arc::clone(&shared)).await.expect("a receiver on loopback");
        Self { endpoint, shared, _tasks: tasks }
    }

    /// Where it listens, as `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What a service is told in order to send everything here.
    pub fn settings(&self, protocol: Protocol) -> Vec<String> {
        settings(&self.endpoint, protocol, "1")
    }

    /// Changes what it does from the next request on.
    pub fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    /// Requests so far, whatever became of them.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Every span so far, in the order in which they came.
    pub fn spans(&self) -> Vec<Span> {
        self.shared.received().spans.clone()
    }

    /// The spans so far of one trace.
    pub fn trace(&self, id: &str) -> Trace {
        Trace::of(&self.shared.received().spans, id)
    }

    /// Every metric so far, in the order in which they came.
    pub fn metrics(&self) -> Vec<Metric> {
        self.shared.received().metrics.clone()
    }

    /// Everything so far as texts: what was on the wire, and what it says, one a request.
    pub fn dump(&self) -> Vec<String> {
        let received = self.shared.received();
        received.raw.iter().map(|raw| String::from_utf8_lossy(raw).into_owned()).collect()
    }

    /// Waits until `found` finds something among the spans.
    ///
    /// # Panics
    /// If it does not in a minute; the message says what there was.
    pub async fn wait_for<T>(&self, what: &str, mut found: impl FnMut(&[Span]) -> Option<T>) -> T {
        let mut arrived = self.shared.arrived.subscribe();
        let deadline = Instant::now() + PATIENCE;
        loop {
            arrived.mark_unchanged();
            if let Some(found) = found(&self.shared.received().spans) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let changed = tokio::time::timeout(left, arrived.changed()).await;
            assert!(changed.is_ok(), "no {what} after {PATIENCE:?}:\n{}", self.everything());
        }
    }

    /// Waits until the trace satisfies `complete`, and returns it.
    pub async fn wait_for_trace(&self, id: &str, complete: impl Fn(&Trace) -> bool) -> Trace {
        let what = format!("complete trace {id}");
        let found = |spans: &[Span]| Some(Trace::of(spans, id)).filter(&complete);
        self.wait_for(&what, found).await
    }

    fn everything(&self) -> String {
        let received = self.shared.received();
        let mut ids: Vec<&str> = received.spans.iter().map(|span| span.trace.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut text = String::new();
        for id in ids {
            let _ = writeln!(text, "{}", Trace::of(&received.spans, id));
        }
        text
    }
}

/// What a service is told in order to send what this share of the traces has to an address, be
/// anybody there or not.
pub fn settings(endpoint: &str, protocol: Protocol, ratio: &str) -> Vec<String> {
    let protocol = match protocol {
        Protocol::Grpc => "grpc",
        Protocol::Http => "http/protobuf",
    };
    [("otlp-endpoint", endpoint), ("otlp-protocol", protocol), ("trace-ratio", ratio)]
        .map(|(name, value)| format!("--{name}={value}"))
        .to_vec()
}

impl Shared {
    fn received(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_spans(&self, request: &ExportTraceServiceRequest) {
        let mut received = self.received();
        received.spans.extend(spans::of(request));
        received.raw.push(request.encode_to_vec());
        drop(received);
        self.arrived.send_replace(());
    }

    fn take_metrics(&self, request: &ExportMetricsServiceRequest) {
        let mut received = self.received();
        received.metrics.extend(metrics::of(request));
        received.raw.push(request.encode_to_vec());
    }
}
