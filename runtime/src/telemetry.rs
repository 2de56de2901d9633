//! Logs: JSON lines on standard error.
//!
//! A line has `time`, `level`, `service`, `target`, `message`, and at the top level the fields of
//! the event and of the spans around it, among them the `trace` id of the request.

use std::fmt;
use std::panic::PanicHookInfo;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::{LookupSpan, Scope};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt as tracing_fmt};

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

/// Sends logs to standard error as JSON lines, at the levels of `RUST_LOG` (`info` without one),
/// and makes panics one such line.
///
/// Call it once in `main`; later calls do nothing. Libraries are logged from info upwards,
/// whatever `RUST_LOG` says. The text of a panic is left out, because it may hold patient data:
/// the line says where it happened.
pub fn init(service: &'static str) {
    let directives = crate::settings::env("RUST_LOG").unwrap_or_default();
    let filter = EnvFilter::try_new(directives.as_str())
        .ok()
        .filter(|_| !directives.trim().is_empty())
        .unwrap_or_else(|| EnvFilter::new("info"));
    let lines = tracing_fmt::layer()
        .with_writer(std::io::stderr)
        .fmt_fields(JsonFields::new())
        .event_format(JsonLines { service })
        .with_filter(filter_fn(|meta| *meta.level() <= Level::INFO || is_own(meta.target())));
    if tracing_subscriber::registry().with(filter).with(lines).try_init().is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
}

fn is_own(target: &str) -> bool {
    OWN_TARGETS.contains(&target.split("::").next().unwrap_or_default())
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let (file, line) = info.location().map_or(("unknown", 0), |at| (at.file(), at.line()));
    tracing::error!(file, line, "panic; its text is left out, it may hold patient data");
}

/// Writes an event as one flat JSON object.
struct JsonLines {
    service: &'static str,
}

impl<S> FormatEvent<S, JsonFields> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
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
        for span in context.event_scope().into_iter().flat_map(Scope::from_root) {
            let extensions = span.extensions();
            let Some(fields) = extensions.get::<FormattedFields<JsonFields>>() else {
                continue;
            };
            if let Ok(Value::Object(fields)) = serde_json::from_str(&fields.fields) {
                line.extend(fields);
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
