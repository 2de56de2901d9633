//! Where the gateway tells what it counts.

use std::net::SocketAddr;

use clap::Args;
use runtime::hardening::NetworkArgs;

/// The listener of `/metrics`.
#[derive(Debug, Args)]
pub struct MetricsOptions {
    /// Address of the internal listener that answers `GET /metrics`; without it there is none
    #[arg(long, env = "VITALOG_GATEWAY_METRICS_LISTEN", value_name = "ADDRESS")]
    pub(super) metrics_listen: Option<SocketAddr>,
    /// Whose connections that listener takes.
    #[command(flatten)]
    pub(super) networks: NetworkArgs,
}
