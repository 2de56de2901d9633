//! Options of the program, from flags and environment; their only reader.

use std::{net::SocketAddr, path::PathBuf};

use audit_service::outside::OutsideArgs;
use clap::Parser;
use domain::ids::Name;
use gateway::config::{DoorOptions, OidcOptions};
use projections::follower::KEEP_SEARCH_CRITERIA;
use runtime::{store_location::StoreLocation, telemetry::TelemetryArgs};

/// The whole of Vitalog in one process.
#[derive(Debug, Clone, Parser)]
#[command(name = "standalone", version)]
pub struct Options {
    /// Address of the public door.
    #[arg(long, env = "VITALOG_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where keys and embedded stores are; made at the first start.
    #[arg(long, env = "VITALOG_DATA_DIR", default_value = "./vitalog-data")]
    pub data_dir: PathBuf,
    /// A MongoDB for all stores (`mongodb://…`, or a reference to such a URI); without it they are
    /// files in the data directory. A reference is `env:NAME`, `file:/path` or
    /// `keyvault:https://…`.
    #[arg(long, env = "VITALOG_STORE")]
    pub store: Option<StoreLocation>,
    /// Databases on MongoDB are called `PREFIX_ledger`, `PREFIX_patients` and `PREFIX_keys`.
    #[arg(long, env = "VITALOG_DATABASE_PREFIX", default_value = "vitalog")]
    pub database_prefix: Name,
    /// Months for which search criteria can be read; then their key is destroyed. 0 keeps them.
    #[arg(
        long,
        env = "VITALOG_KEEP_SEARCH_CRITERIA",
        value_name = "MONTHS",
        default_value_t = KEEP_SEARCH_CRITERIA
    )]
    pub keep_search_criteria: u32,
    /// Address of `GET /metrics`, on this machine alone; a free port without one.
    #[arg(
        long,
        env = "VITALOG_METRICS_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:0",
        value_parser = loopback
    )]
    pub metrics_listen: SocketAddr,
    /// Where traces and metrics go.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
    /// The public door's protocol and bounds.
    #[command(flatten)]
    pub door: DoorOptions,
    /// Bearer tokens at the public door.
    #[command(flatten)]
    pub oidc: OidcOptions,
    /// Witnesses and anchors of the ledger.
    #[command(flatten)]
    pub outside: OutsideArgs,
}

/// Nobody else is to see what an operator sees.
fn loopback(text: &str) -> Result<SocketAddr, &'static str> {
    let address: SocketAddr = text.parse().map_err(|_| "write ADDRESS:PORT")?;
    if address.ip().is_loopback() { Ok(address) } else { Err("it must be a loopback address") }
}
