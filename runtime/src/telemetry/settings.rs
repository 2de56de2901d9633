//! Settings of telemetry, with the names that `OpenTelemetry` gives them.

use clap::{Args, ValueEnum};

use crate::secrets::SecretRef;
use crate::trace_context::Ratio;

/// The share of traces that is kept where nothing else is said.
pub const DEFAULT_TRACE_RATIO: &str = "0.1";

/// Where spans and metrics go.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Telemetry")]
pub struct TelemetryArgs {
    /// Address of a collector that takes OTLP, such as `http://collector:4318`, or `:4317` for
    /// gRPC.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL", value_parser = address)]
    pub otlp_endpoint: Option<String>,
    /// How it is spoken to.
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_PROTOCOL",
        value_name = "PROTOCOL",
        default_value = "http/protobuf"
    )]
    pub otlp_protocol: OtlpProtocol,
    /// Headers for it, as `name=value,name=value`. REF is `env:NAME`, `file:/path` or
    /// `keyvault:https://…`.
    #[arg(long, env = "VITALOG_OTLP_HEADERS", value_name = "REF", requires = "otlp_endpoint")]
    pub otlp_headers: Option<SecretRef>,
    /// Connection string of an Application Insights that takes traces. REF is `env:NAME`,
    /// `file:/path` or `keyvault:https://…`.
    #[arg(long, env = "VITALOG_APPLICATION_INSIGHTS", value_name = "REF")]
    pub application_insights: Option<SecretRef>,
    /// The share of traces that are sampled, 0 to 1, where the caller has not decided. Of others
    /// what fails is sent.
    #[arg(
        long,
        env = "OTEL_TRACES_SAMPLER_ARG",
        value_name = "SHARE",
        default_value = DEFAULT_TRACE_RATIO
    )]
    pub trace_ratio: Ratio,
}

/// How a collector is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OtlpProtocol {
    /// gRPC.
    Grpc,
    /// Protobuf over HTTP.
    #[value(name = "http/protobuf")]
    HttpProtobuf,
}

/// The address of a collector. User and password are refused: they would be shown by `ps`.
fn address(text: &str) -> Result<String, &'static str> {
    let url = reqwest::Url::parse(text).map_err(|_| "write http://host:port")?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !plain {
        return Err("write http://host:port, with headers in --otlp-headers");
    }
    Ok(text.trim_end_matches('/').to_owned())
}
