//! The whole of Vitalog in one process: `cargo run --release` starts it.

use std::path::Path;

use runtime::{crypto, settings, shutdown, telemetry};
use standalone::config::Options;

/// Requests allocate much and from every thread, which glibc's allocator makes them pay for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options: Options = settings::parse();
    crypto::install_tls_provider();
    let telemetry = telemetry::init("standalone", &options.telemetry);
    let (data_dir, scheme) = (options.data_dir.clone(), options.door.scheme());
    let served = standalone::run(options, shutdown::on_signals(), move |addresses| {
        greet(&data_dir, &format!("{scheme}://{}", addresses.gateway));
    })
    .await;
    telemetry.finish().await;
    served
}

#[allow(clippy::print_stdout)]
fn greet(data_dir: &Path, url: &str) {
    let data_dir = data_dir.display();
    println!("Vitalog is ready at {url} (API: {url}/docs)");
    println!("Keys:     {data_dir}/keys/clinic.key, compliance.key, privacy.key");
    println!("Verifier: {data_dir}/ledger.pub");
    println!();
    println!("Try:");
    println!("  curl -i {url}/patient \\");
    println!("    -H \"Ocp-Apim-Subscription-Key: $(cat {data_dir}/keys/clinic.key)\" \\");
    println!(
        "    -d '{{\"firstName\":\"JANE\",\"gender\":\"female\",\"dateOfBirth\":\"1980-07-01\",\"postCode\":\"1234\"}}'"
    );
}
