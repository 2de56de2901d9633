//! `cargo run --release -p tests --bin telemetry-bench`: what telemetry costs.
//!
//! Several `standalone` systems, which differ in nothing but where their traces go, are put under
//! the same load in turns: telemetry off, a share of the traces sent to a back end in this process
//! that takes everything, and all of them sent to one that is away, slow or refusing. Printed are
//! medians, ratios against telemetry off, and the memory of each system at the end.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use axum::{Router, body::Bytes, http::StatusCode, routing::post};
use clap::{Parser, ValueEnum};
use tests::{
    bench::{
        load::{self, Operation, Target},
        report::{Figures, machine_load},
    },
    mongod,
    system::{Store, System},
};
use tokio::{net::TcpListener, task::JoinSet};

/// How long the slow back end takes for an answer.
const SLOW: Duration = Duration::from_secs(8);

/// Patients to read.
const PATIENTS: usize = 500;

/// Measures what telemetry costs.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where the systems keep their data.
    #[arg(long, value_enum, default_value = "sqlite")]
    store: On,
    /// Rounds of each measurement; their median is shown.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of one measurement.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Connections, each with one request under way.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// The systems to measure besides the one without telemetry.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "one-percent,all,away,slow,refusing"
    )]
    ways: Vec<Way>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum On {
    Sqlite,
    Mongodb,
}

/// Where traces go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    Off,
    OnePercent,
    All,
    Away,
    Slow,
    Refusing,
}

struct Measured {
    way: Way,
    system: System,
    target: Target,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let time = Duration::from_secs(arguments.seconds);
    let back_end = BackEnd::start().await?;
    let mut systems = Vec::new();
    for way in std::iter::once(Way::Off).chain(arguments.ways) {
        let store = match arguments.store {
            On::Sqlite => Store::Sqlite,
            On::Mongodb => Store::Mongo(mongod::uri().await.to_owned()),
        };
        let told = back_end.told(way);
        let told: Vec<&str> = told.iter().map(String::as_str).collect();
        let system = System::standalone_told(store, &told).await;
        let address = system.addresses().gateway.trim_start_matches("http://").to_owned();
        let target = Target { address, key: system.key("clinic") };
        systems.push(Measured { way, system, target });
    }
    show(&format!("load of the machine at the start: {}", machine_load()));
    let mut reads = Vec::new();
    for measured in &systems {
        let ids = Arc::new(load::seed(&measured.target, PATIENTS).await?);
        reads.push(Operation::Load(ids));
    }
    for what in ["create", "load"] {
        let mut runs = vec![Vec::new(); systems.len()];
        // The first round warms up.
        for round in 0..=arguments.rounds {
            for turn in 0..systems.len() {
                let at = (round + turn) % systems.len();
                let operation =
                    if what == "create" { Operation::Create } else { reads[at].clone() };
                let target = &systems[at].target;
                let run = load::run(target, &operation, arguments.connections, time).await?;
                if round > 0 {
                    runs[at].push(run);
                }
            }
        }
        compare(what, &systems, runs);
    }
    for measured in &systems {
        let memory = memory(&measured.system).await?;
        show(&format!(
            "{:12?} {:6.0} MiB, {}",
            measured.way,
            memory,
            spans(&measured.system).await?
        ));
    }
    Ok(())
}

fn compare(what: &str, systems: &[Measured], runs: Vec<Vec<Figures>>) {
    let medians: Vec<Figures> = runs.into_iter().filter_map(Figures::median).collect();
    let Some(off) = medians.first() else { return };
    for (measured, figures) in systems.iter().zip(&medians) {
        let rate = figures.rate / off.rate;
        let p99 = figures.p99.as_secs_f64() / off.p99.as_secs_f64();
        show(&format!(
            "{what:8} {:12?} {figures}  rate {rate:.3}, p99 {p99:.2} of that without",
            measured.way
        ));
    }
}

/// Mebibytes in use, as the system says itself.
async fn memory(system: &System) -> anyhow::Result<f64> {
    let metrics = metrics(system).await?;
    let value = metrics.lines().find_map(|line| line.strip_prefix("process_memory_usage_bytes "));
    let bytes: f64 = value.context("process_memory_usage_bytes")?.parse()?;
    Ok(bytes / 1024.0 / 1024.0)
}

/// What became of its spans.
async fn spans(system: &System) -> anyhow::Result<String> {
    let metrics = metrics(system).await?;
    let lines =
        metrics.lines().filter_map(|line| line.strip_prefix("vitalog_telemetry_spans_total"));
    Ok(lines.collect::<Vec<_>>().join(" "))
}

async fn metrics(system: &System) -> anyhow::Result<String> {
    let file: PathBuf = system.data().join("addresses.json");
    let addresses: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    let url = addresses["metrics"].as_str().context("metrics")?;
    Ok(reqwest::get(url).await?.text().await?)
}

/// Takes what is exported and looks at nothing.
struct BackEnd {
    takes: String,
    slow: String,
    refuses: String,
    _tasks: JoinSet<()>,
}

impl BackEnd {
    async fn start() -> anyhow::Result<Self> {
        let mut tasks = JoinSet::new();
        let takes = serve(&mut tasks, post(async |_: Bytes| StatusCode::OK)).await?;
        let slow = post(async |_: Bytes| {
            tokio::time::sleep(SLOW).await;
            StatusCode::OK
        });
        let slow = serve(&mut tasks, slow).await?;
        let refuses = post(async |_: Bytes| StatusCode::SERVICE_UNAVAILABLE);
        let refuses = serve(&mut tasks, refuses).await?;
        Ok(Self { takes, slow, refuses, _tasks: tasks })
    }

    fn told(&self, way: Way) -> Vec<String> {
        let (to, share) = match way {
            Way::Off => return Vec::new(),
            Way::OnePercent => (self.takes.as_str(), "0.01"),
            Way::All => (self.takes.as_str(), "1"),
            // A port that nobody listens on.
            Way::Away => ("http://127.0.0.1:9", "1"),
            Way::Slow => (self.slow.as_str(), "1"),
            Way::Refusing => (self.refuses.as_str(), "1"),
        };
        ["--otlp-endpoint", to, "--trace-ratio", share].map(str::to_owned).to_vec()
    }
}

async fn serve(
    tasks: &mut JoinSet<()>,
    app: axum::routing::MethodRouter,
) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let app = Router::new().fallback(app);
    tasks.spawn(async move {
        // It only ends with the benchmark.
        let _ = axum::serve(listener, app).await;
    });
    Ok(url)
}

#[allow(clippy::print_stdout)]
fn show(text: &str) {
    println!("{text}");
}
