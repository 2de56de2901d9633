//! Logs, traces and metrics of a process: where they go, and how they are brought there at its end.
//!
//! Logs are JSON lines on standard error. Spans and metrics are sent to an `OpenTelemetry` collector
//! (OTLP) and spans to Application Insights, where the settings name one. Sending is done beside
//! the requests, from bounded queues: a back end that is away or slow costs spans, never requests.

mod exporters;
mod exporting;
mod logs;
mod sampling;
mod settings;

use std::sync::OnceLock;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, Tracer};
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::metrics::{self, Meters};
use crate::{spans, trace_context};
use exporting::Queue;
use sampling::{Queues, Sampler};

pub(crate) use exporters::Later as NoExporter;
pub use settings::{DEFAULT_TRACE_RATIO, OtlpProtocol, TelemetryArgs};

/// How long telemetry may hold up the end of a process.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Links of a span at most: a group commit has one to every request that it carries, and a block
/// holds a thousand records.
const MAX_LINKS: u32 = 1_000;

/// Where spans go that are made afterwards.
static QUEUES: OnceLock<Queues> = OnceLock::new();

/// What a process has to finish before it ends.
#[derive(Debug, Default)]
#[must_use = "spans that are not sent when the process ends are lost"]
pub struct Telemetry {
    spans: Option<SdkTracerProvider>,
    queues: Vec<Queue>,
    meters: Option<Meters>,
}

/// Sends logs to standard error as JSON lines, at the levels of `RUST_LOG` (`info` without one),
/// and makes panics one such line. For programs that serve nothing; call it once in `main`.
///
/// Libraries are logged from info upwards, whatever `RUST_LOG` says. The text of a panic is left
/// out, because it may hold patient data: the line says where it happened.
pub fn logs(service: &'static str) {
    if Registry::default().with(logs::lines(service)).try_init().is_ok() {
        logs::log_panics();
    }
}

/// As [`logs`], and sends spans and metrics where the settings say. Call it once in `main`, on the
/// runtime and before anything else; later calls do nothing.
///
/// Secrets of the settings are loaded beside the start, so that a vault that is away holds nothing
/// up; until then what there is to send waits in its queue.
pub fn init(service: &'static str, args: &TelemetryArgs) -> Telemetry {
    trace_context::sample(args.trace_ratio);
    let resource = resource(service);
    let meters = || Meters::exporting(&resource, exporters::otlp_metrics(args));
    let meters = metrics::install(meters).then(|| metrics::process().clone());
    let queues = exporters::start(args, &resource);
    let provider = (!queues.is_empty()).then(|| provider(&queues, resource));
    let tracer = provider.as_ref().map(|provider| provider.tracer("vitalog"));
    let registry = Registry::default().with(logs::lines(service)).with(tracer.map(traces));
    if registry.try_init().is_ok() {
        logs::log_panics();
        let _ = QUEUES.set(Queues(queues.clone()));
        spans::record(provider.is_some());
    }
    Telemetry { spans: provider, queues, meters }
}

impl Telemetry {
    /// Sends what is not sent yet, for [`FLUSH_TIMEOUT`] at most. Call it when nothing is served
    /// any more.
    pub async fn finish(self) {
        let Self { spans, queues, meters } = self;
        let sent = async {
            futures::future::join_all(queues.iter().map(Queue::flush)).await;
            if let Some(meters) = meters {
                // It waits for its exporter, which wants this runtime's threads.
                let _ = tokio::task::spawn_blocking(move || meters.shutdown()).await;
            }
        };
        if tokio::time::timeout(FLUSH_TIMEOUT, sent).await.is_err() {
            tracing::warn!("telemetry could not be sent in time and is lost");
        }
        drop(spans);
    }
}

/// Whether spans are worth making: not while those of before wait for a back end that is away or
/// slow. A span that is left out is counted as dropped.
pub(crate) fn has_room() -> bool {
    let Some(queues) = QUEUES.get() else { return false };
    let room = queues.have_room();
    if !room {
        queues.left_out();
    }
    room
}

/// Sends a span that was made afterwards.
pub(crate) fn send(span: SpanData) {
    if let Some(queues) = QUEUES.get() {
        queues.put(span);
    }
}

fn resource(service: &'static str) -> Resource {
    Resource::builder_empty()
        .with_service_name(service)
        .with_attributes([
            opentelemetry::KeyValue::new("service.namespace", "vitalog"),
            opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            opentelemetry::KeyValue::new("service.instance.id", trace_context::random_hex()),
        ])
        .build()
}

fn provider(queues: &[Queue], resource: Resource) -> SdkTracerProvider {
    SdkTracerProvider::builder()
        .with_sampler(Sampler)
        .with_max_links_per_span(MAX_LINKS)
        .with_resource(resource)
        .with_span_processor(Queues(queues.to_vec()))
        .build()
}

/// Makes spans of those that are meant for traces, and of nothing else: fields and events of
/// libraries may hold anything.
fn traces<S>(tracer: Tracer) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let ours = filter_fn(|meta| meta.is_span() && meta.target() == spans::TARGET);
    tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_level(false)
        .with_tracked_inactivity(false)
        // Nothing here asks for the current context: parents are known by their spans.
        .with_context_activation(false)
        .with_filter(ours.with_max_level_hint(LevelFilter::INFO))
}
