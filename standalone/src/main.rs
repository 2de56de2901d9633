//! The whole of Vitalog in one process: `cargo run --release` starts it.

use std::path::Path;

use runtime::{crypto, settings, shutdown, telemetry};
use standalone::{compose::Addresses, config::Options};

/// Requests allocate much and from every thread, which glibc's allocator makes them pay for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options: Options = settings::parse();
    telemetry::init("standalone");
    crypto::install_tls_provider();
    let data_dir = options.data_dir.clone();
    standalone::run(options, shutdown::on_signals(), move |addresses| {
        greet(&data_dir, addresses);
    })
    .await
}

#[allow(clippy::print_stdout)]
fn greet(data_dir: &Path, addresses: Addresses) {
    let (data_dir, address) = (data_dir.display(), addresses.gateway);
    println!("Vitalog is ready at http://{address} (API: http://{address}/docs)");
    println!("Keys:     {data_dir}/keys/clinic.key, compliance.key, privacy.key");
    println!("Verifier: {data_dir}/ledger.pub");
    println!();
    println!("Try:");
    println!("  curl -i http://{address}/patient \\");
    println!("    -H \"Ocp-Apim-Subscription-Key: $(cat {data_dir}/keys/clinic.key)\" \\");
    println!(
        "    -d '{{\"firstName\":\"JANE\",\"gender\":\"female\",\"dateOfBirth\":\"1980-07-01\",\"postCode\":\"1234\"}}'"
    );
}
