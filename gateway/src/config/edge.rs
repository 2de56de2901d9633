//! The public listener.

use std::net::SocketAddr;

use clap::Args;

/// How the gateway listens.
#[derive(Debug, Args)]
pub struct EdgeOptions {
    /// Address to listen on
    #[arg(long, env = "VITALOG_GATEWAY_LISTEN", default_value = "127.0.0.1:8080")]
    pub(super) listen: SocketAddr,
}
