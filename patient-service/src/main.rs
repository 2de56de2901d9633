//! The patient service as a program.

use anyhow::Context;
use patient_service::{config::Settings, run_once_connected};
use runtime::{crypto, settings, shutdown, telemetry};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let settings: Settings = settings::parse();
    telemetry::init("patient-service");
    crypto::install_tls_provider();
    let shutdown = shutdown::on_signals();
    let door = settings.door(&shutdown)?;
    let listener = TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("cannot listen on {}", settings.listen))?;
    tracing::info!(address = %listener.local_addr()?, "patient-service is listening");
    let readiness = door.readiness.clone();
    let connect = settings.connect(&readiness, &shutdown);
    Ok(run_once_connected(listener, door, connect, shutdown.clone()).await?)
}
