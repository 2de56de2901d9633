//! Logs: JSON lines on standard error.
//!
//! A line has `time`, `level`, `service`, `target`, `message`, the fields of the event, and the
//! `trace` id of the request that it is about.

use std::fmt;
use std::panic::PanicHookInfo;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, fmt as tracing_fmt};

use crate::spans;
use crate::trace_context::TraceContext;

/// Targets whose lines below info are logged when `RUST_LOG` asks for them. Libraries are not among
/// them: database drivers and HTTP clients print documents, headers and addresses there.
const OWN_TARGETS: [&str; 10] = [
    "request",
    "runtime",
    "domain",
    "audit",
    "audit_service",
    "audit_client",
    "projections",
    "patient_service",
    "gateway",
    "standalone",
];

/// Writes logs to standard error as JSON lines, at the levels of `RUST_LOG`.
pub(super) fn lines<S>(service: &'static str) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let directives = crate::settings::env("RUST_LOG").unwrap_or_default();
    let levels = EnvFilter::try_new(directives.as_str())
        .ok()
        .filter(|_| !directives.trim().is_empty())
        .unwrap_or_else(|| EnvFilter::new("info"));
    let ours = filter_fn(|meta| {
        // Of spans the request's alone: it knows the trace.
        let targets = [spans::TARGET, spans::UNSAMPLED];
        let requests = targets.contains(&meta.target()) && meta.name() == spans::REQUEST;
        if meta.is_span() {
            requests
        } else {
            *meta.level() <= Level::INFO || is_own(meta.target())
        }
    });
    tracing_fmt::layer()
        .with_writer(std::io::stderr)
        .fmt_fields(NoFields)
        .event_format(JsonLines { service })
        .with_filter(levels.and(ours))
}

pub(super) fn log_panics() {
    std::panic::set_hook(Box::new(log_panic));
}

fn is_own(target: &str) -> bool {
    OWN_TARGETS.contains(&target.split("::").next().unwrap_or_default())
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let (file, line) = info.location().map_or(("unknown", 0), |at| (at.file(), at.line()));
    tracing::error!(file, line, "panic; its text is left out, it may hold patient data");
}

/// Writes nothing down of a span.
struct NoFields;

impl<'a> FormatFields<'a> for NoFields {
    fn format_fields<R: RecordFields>(&self, _: Writer<'a>, _: R) -> fmt::Result {
        Ok(())
    }
}

/// Writes an event as one flat JSON object.
struct JsonLines {
    service: &'static str,
}

impl<S> FormatEvent<S, NoFields> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, NoFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Map::new();
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        line.insert("time".into(), time.into());
        line.insert("level".into(), event.metadata().level().as_str().into());
        line.insert("service".into(), self.service.into());
        line.insert("target".into(), event.metadata().target().into());
        for span in context.event_scope().into_iter().flatten() {
            if let Some(context) = span.extensions().get::<TraceContext>() {
                line.insert("trace".into(), context.trace_id_hex().into());
                break;
            }
        }
        event.record(&mut Fields(&mut line));
        writeln!(writer, "{}", Value::Object(line))
    }
}

struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }
}
