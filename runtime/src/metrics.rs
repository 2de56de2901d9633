//! Metrics of a process: `OpenTelemetry` instruments, shown at `GET /metrics` for Prometheus and
//! sent by OTLP.
//!
//! Labels are words of this program: routes' templates, reasons, names of services and stores. No
//! id, key, address or content of anybody can become one, and an instrument has a bounded number
//! of them.

mod process;

use std::sync::OnceLock;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use opentelemetry::metrics::{Histogram, Meter, MeterProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::periodic_reader_with_async_runtime::PeriodicReader;
use opentelemetry_sdk::runtime::Tokio;
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};

use crate::key_ages;

/// Bounds of histograms of durations, in seconds: from a read in memory to the longest wait.
pub const SECONDS: [f64; 16] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Between two times that metrics are sent.
const INTERVAL: Duration = Duration::from_secs(15);

/// The metrics of a process, or of a part of it that is to be looked at alone; clones are the same.
#[derive(Clone, Debug)]
pub struct Meters {
    provider: SdkMeterProvider,
    registry: Registry,
}

static PROCESS: OnceLock<Meters> = OnceLock::new();

/// The metrics of this process.
pub fn process() -> &'static Meters {
    PROCESS.get_or_init(Meters::default)
}

/// Instruments of this process. Make each once: `LazyLock` or a field.
pub fn meter() -> Meter {
    process().meter()
}

/// A histogram of this process's durations.
pub fn seconds(name: &'static str, description: &'static str) -> Histogram<f64> {
    meter()
        .f64_histogram(name)
        .with_unit("s")
        .with_description(description)
        .with_boundaries(SECONDS.to_vec())
        .build()
}

/// Makes these the process's metrics, if none have been asked for yet; otherwise they are not made,
/// because some that send would be waited for when they are dropped.
pub(crate) fn install(make: impl FnOnce() -> Meters) -> bool {
    let installed = PROCESS.get().is_none() && PROCESS.set(make()).is_ok();
    if installed {
        process::observe(&meter());
        key_ages::observe(&meter());
    }
    installed
}

impl Default for Meters {
    fn default() -> Self {
        Self::exporting(&Resource::builder_empty().build(), None::<crate::telemetry::NoExporter>)
    }
}

impl Meters {
    pub(crate) fn exporting(
        resource: &Resource,
        exporter: Option<impl PushMetricExporter>,
    ) -> Self {
        let registry = Registry::new();
        let mut builder = SdkMeterProvider::builder().with_resource(resource.clone());
        let shown = opentelemetry_prometheus::exporter().with_registry(registry.clone());
        // It fails where the registry has one already; this one is new.
        if let Ok(shown) = shown.scope_info_enabled(false).without_target_info().build() {
            builder = builder.with_reader(shown);
        }
        if let Some(exporter) = exporter {
            let sending = PeriodicReader::builder(exporter, Tokio).with_interval(INTERVAL);
            builder = builder.with_reader(sending.build());
        }
        Self { provider: builder.build(), registry }
    }

    /// Makes instruments.
    pub fn meter(&self) -> Meter {
        self.provider.meter("vitalog")
    }

    /// All of them as text for Prometheus.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// `GET /metrics`. Holds numbers alone and needs no key.
    pub fn routes(&self) -> Router {
        let meters = self.clone();
        Router::new().route("/metrics", get(async move || meters.show()))
    }

    fn show(&self) -> Response {
        match self.text() {
            Ok(text) => ([(CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }

    /// Sends them a last time.
    pub(crate) fn shutdown(&self) {
        // What cannot be sent now is lost; the exporter has said why.
        let _ = self.provider.shutdown();
    }
}
