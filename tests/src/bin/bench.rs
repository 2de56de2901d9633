//! `cargo run --release -p tests --bin bench`: what the system bears on this machine.
//!
//! Starts MongoDB and the built `standalone` on each store, measures the raw rate of whole
//! blocks, appends straight at the audit service and requests through the gateway, and prints
//! medians with their ratios to the raw rate of the same run.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use audit_client::{AuditClient, Options};
use clap::Parser;
use runtime::secrets::SecretRef;
use tests::{
    bench::{
        appends, baseline,
        load::{self, Operation, Target},
        proofs,
        report::{Figures, machine_load},
    },
    mongod,
    system::{Store, System},
};

/// Patients that reads choose from.
const SEEDED: usize = 2_000;

/// Callers of the append measurement.
const CALLERS: usize = 256;

/// Proofs made and checked at each size.
const PROOFS: usize = 1_000;

/// Measures what the system bears.
#[derive(Debug, Parser)]
struct Arguments {
    /// Runs of each measurement; their median is shown.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Seconds of one run.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Connections to measure at.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    connections: Vec<usize>,
    /// Stores to measure: sqlite, mongo.
    #[arg(long, value_delimiter = ',', default_value = "sqlite,mongo")]
    stores: Vec<String>,
    /// Operations to measure: echo, create, load, create-test, list-tests, search.
    #[arg(long, value_delimiter = ',', default_value = "create,load,create-test,list-tests")]
    operations: Vec<String>,
    /// Records of ledgers to prove records of; ten million take 400 MB.
    #[arg(long, value_delimiter = ',', default_value = "1000,1000000,10000000")]
    proof_sizes: Vec<u64>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let time = Duration::from_secs(arguments.seconds);
    show(&format!("load of the machine at the start: {}", machine_load()));
    for size in &arguments.proof_sizes {
        let costs = proofs::costs(*size, PROOFS).await?;
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let (make, check) = (micros(costs.make), micros(costs.check));
        show(&format!(
            "proofs of {size} records: made in {make:.0} µs, checked in {check:.0} µs, at most {} bytes",
            costs.bytes
        ));
    }
    let raw = raw_rates(&arguments, time).await?;
    for store in &arguments.stores {
        measure(&arguments, store, raw, time).await?;
    }
    show(&format!("load of the machine at the end: {}", machine_load()));
    Ok(())
}

/// The raw record rate with blocks of 64, which everything is compared with.
async fn raw_rates(arguments: &Arguments, time: Duration) -> anyhow::Result<f64> {
    let mut first = None;
    for records in [64, 256] {
        let mut runs = Vec::new();
        for _ in 0..arguments.runs {
            let database = mongod::database("raw");
            runs.push(baseline::blocks(mongod::uri().await, &database, records, time).await?);
            mongod::drop_databases(&database).await;
        }
        let figures = Figures::median(runs).context("at least one run")?;
        let base = *first.get_or_insert(figures.rate);
        line(&format!("raw blocks of {records}, records"), figures, base);
    }
    first.context("at least one measurement")
}

async fn measure(
    arguments: &Arguments,
    store: &str,
    raw: f64,
    time: Duration,
) -> anyhow::Result<()> {
    let store_of = match store {
        "sqlite" => Store::Sqlite,
        "mongo" => Store::shared_mongo().await,
        other => anyhow::bail!("no store {other}"),
    };
    let system = System::standalone(store_of).await;
    let audit = audit_client(&system)?;
    // In turns, so that whatever else the machine does meets both.
    let (mut plain, mut proven) = (Vec::new(), Vec::new());
    for _ in 0..arguments.runs {
        plain.push(appends::events(&audit, CALLERS, time, false).await);
        proven.push(appends::events(&audit, CALLERS, time, true).await);
    }
    let plain = Figures::median(plain).context("at least one run")?;
    let proven = Figures::median(proven).context("at least one run")?;
    line(&format!("{store}: appends, {CALLERS} callers"), plain, raw);
    line(&format!("{store}: appends with proofs"), proven, raw);
    show(&format!("{store}: appends with proofs are {:.2} × without", proven.rate / plain.rate));
    system.finish().await;

    // The read models of the appends above are still being written: begin anew.
    let store_of = if store == "sqlite" { Store::Sqlite } else { Store::shared_mongo().await };
    let system = System::standalone(store_of).await;
    let address = system.addresses().gateway.trim_start_matches("http://").to_owned();
    let target = Target { address, key: system.key("clinic") };
    let ids = Arc::new(load::seed(&target, SEEDED).await?);
    for name in &arguments.operations {
        let operation =
            Operation::named(name, &ids).with_context(|| format!("no operation {name}"))?;
        for connections in &arguments.connections {
            let mut runs = Vec::new();
            for _ in 0..arguments.runs {
                runs.push(load::run(&target, &operation, *connections, time).await?);
            }
            let figures = Figures::median(runs).context("at least one run")?;
            line(&format!("{store}: {name}, {connections} connections"), figures, raw);
        }
    }
    system.finish().await;
    Ok(())
}

fn audit_client(system: &System) -> anyhow::Result<AuditClient> {
    let key = system.data().join("secrets").join("service-patient-service.key");
    let key = SecretRef::File(key).load()?;
    Ok(AuditClient::start(Options::new(&system.addresses().audit_service, key)))
}

fn line(what: &str, figures: Figures, raw: f64) {
    show(&format!("{what:<38} {figures}  {:5.2} × raw", figures.rate / raw));
}

#[allow(clippy::print_stdout)]
fn show(text: &str) {
    println!("{text}");
}
