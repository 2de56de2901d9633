//! What sends: OTLP over gRPC or HTTP, and Application Insights.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderMap;
use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{
    ExporterBuildError, MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
    WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::SpanExporter as _;
use tokio::runtime::Handle;

use super::exporting::Queue;
use super::settings::{OtlpProtocol, TelemetryArgs};
use crate::client::internal_client;
use crate::secrets::SecretRef;

/// How long one export may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Between two tries to make an exporter whose secret is not there.
const AGAIN: Duration = Duration::from_secs(5);

type Insights = opentelemetry_application_insights::Exporter<reqwest::Client>;

/// Why there is no exporter. Shows no header and no connection string.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("its secret cannot be loaded")]
    Secret(#[from] crate::secrets::SecretError),
    #[error("the headers are not name=value,name=value")]
    Headers,
    #[error("the connection string is none")]
    ConnectionString,
    #[error("the address cannot be used")]
    Address,
}

impl From<ExporterBuildError> for Unusable {
    fn from(_: ExporterBuildError) -> Self {
        Self::Address
    }
}

/// A queue for every back end that the settings name.
pub(super) fn start(args: &TelemetryArgs, resource: &Resource) -> Vec<Queue> {
    let mut queues = Vec::new();
    if args.otlp_endpoint.is_some() {
        let (args, resource) = (args.clone(), resource.clone());
        queues.push(Queue::start("otlp", async move {
            let mut exporter = until_made("otlp", move || spans(&args)).await;
            exporter.set_resource(&resource);
            exporter
        }));
    }
    if let Some(reference) = args.application_insights.clone() {
        let resource = resource.clone();
        queues.push(Queue::start("application_insights", async move {
            let mut exporter =
                until_made("application insights", move || insights(&reference)).await;
            exporter.set_resource(&resource);
            exporter
        }));
    }
    queues
}

/// What sends metrics; absent where no collector is named.
pub(super) fn otlp_metrics(args: &TelemetryArgs) -> Option<Later> {
    args.otlp_endpoint.as_ref()?;
    let later = Later::default();
    let (there, args) = (Arc::clone(&later.0), args.clone());
    tokio::spawn(async move {
        let exporter = until_made("otlp metrics", move || metrics(&args)).await;
        let _ = there.set(exporter);
    });
    Some(later)
}

fn spans(args: &TelemetryArgs) -> Result<SpanExporter, Unusable> {
    let to = Collector::of(args)?;
    let builder = SpanExporter::builder();
    Ok(match args.otlp_protocol {
        OtlpProtocol::Grpc => to.grpc(builder.with_tonic())?.build()?,
        OtlpProtocol::HttpProtobuf => to.http(builder.with_http(), "/v1/traces").build()?,
    })
}

fn metrics(args: &TelemetryArgs) -> Result<MetricExporter, Unusable> {
    let to = Collector::of(args)?;
    let builder = MetricExporter::builder();
    Ok(match args.otlp_protocol {
        OtlpProtocol::Grpc => to.grpc(builder.with_tonic())?.build()?,
        OtlpProtocol::HttpProtobuf => to.http(builder.with_http(), "/v1/metrics").build()?,
    })
}

fn insights(connection: &SecretRef) -> Result<Insights, Unusable> {
    let secret = connection.load()?;
    let text = secret.text()?;
    // The library's error repeats the text.
    Insights::new_from_connection_string(text, internal_client())
        .map_err(|_| Unusable::ConnectionString)
}

/// A collector and what it wants to be told.
struct Collector {
    endpoint: String,
    headers: HashMap<String, String>,
}

impl Collector {
    fn of(args: &TelemetryArgs) -> Result<Self, Unusable> {
        let mut headers = HashMap::new();
        if let Some(reference) = &args.otlp_headers {
            let secret = reference.load()?;
            for pair in secret.text()?.split(',') {
                let (name, value) = pair.split_once('=').ok_or(Unusable::Headers)?;
                headers.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
            }
        }
        Ok(Self { endpoint: args.otlp_endpoint.clone().unwrap_or_default(), headers })
    }

    fn grpc<B: WithExportConfig + WithTonicConfig>(&self, builder: B) -> Result<B, Unusable> {
        let headers: HeaderMap =
            (&self.headers).try_into().map_err(|_: http::Error| Unusable::Headers)?;
        let builder = builder.with_endpoint(self.endpoint.as_str()).with_timeout(TIMEOUT);
        let builder = builder.with_metadata(MetadataMap::from_headers(headers));
        if self.endpoint.starts_with("https:") {
            return Ok(builder.with_tls_config(ClientTlsConfig::new().with_enabled_roots()));
        }
        Ok(builder)
    }

    fn http<B: WithExportConfig + WithHttpConfig>(&self, builder: B, path: &str) -> B {
        builder
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}{path}", self.endpoint))
            .with_timeout(TIMEOUT)
            .with_headers(self.headers.clone())
            .with_http_client(internal_client())
    }
}

/// Makes an exporter, on a thread of its own as secrets may be far away, until that works.
async fn until_made<E: Send + 'static>(
    what: &'static str,
    make: impl Fn() -> Result<E, Unusable> + Send + Sync + 'static,
) -> E {
    let make = Arc::new(make);
    loop {
        let (making, runtime) = (Arc::clone(&make), Handle::current());
        let trying = tokio::task::spawn_blocking(move || {
            // The gRPC channel wants a runtime.
            let _entered = runtime.enter();
            making()
        });
        match trying.await {
            Ok(Ok(exporter)) => return exporter,
            Ok(Err(error)) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(exporter = what, %error, source, "telemetry cannot be sent yet");
            }
            Err(_) => tracing::error!(exporter = what, "telemetry cannot be sent"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// An exporter of metrics that may not be there yet. Until then nothing is lost: metrics are sums.
#[derive(Debug, Default)]
pub(crate) struct Later(Arc<OnceLock<MetricExporter>>);

impl PushMetricExporter for Later {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        match self.0.get() {
            Some(exporter) => exporter.export(metrics).await,
            None => Ok(()),
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.get().map_or(Ok(()), |exporter| exporter.shutdown_with_timeout(timeout))
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}
