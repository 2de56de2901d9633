//! Where the gateway tells what it counts.

use std::net::SocketAddr;

use clap::Args;
use runtime::networks::Network;

/// The listener of `/metrics`.
#[derive(Debug, Args)]
pub struct MetricsOptions {
    /// Address of the internal listener that answers `GET /metrics`; without it there is none
    #[arg(long, env = "VITALOG_GATEWAY_METRICS_LISTEN", value_name = "ADDRESS")]
    pub(super) metrics_listen: Option<SocketAddr>,
    /// Network whose connections that listener takes besides this machine's, such as 10.1.0.0/16;
    /// may be given several times
    #[arg(
        long = "allow-network",
        env = "VITALOG_ALLOW_NETWORK",
        value_name = "NETWORK",
        value_delimiter = ' '
    )]
    pub(super) allow_network: Vec<Network>,
}
