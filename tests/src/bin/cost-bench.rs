//! `cargo run --release -p tests --bin cost-bench`: what one command costs in processor time.
//!
//! On MongoDB the four services and a `mongod` run as processes of their own, on SQLite
//! `standalone` does everything. Commands are sent at a steady rate; what the kernel says that each
//! process used, less what it uses when nothing is asked, is divided by their number.

use std::{collections::BTreeMap, sync::Arc, time::Duration, time::Instant};

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use tests::{
    bench::{
        cpu::{self, Used},
        load::{self, Operation, Target},
        report::machine_load,
        steady,
    },
    mongod::Cluster,
    system::{Layout, Store, System},
};

/// Connections that the load comes over.
const CONNECTIONS: u32 = 32;

/// What the store's own process is called here.
const MONGOD: &str = "mongod";

/// How this process is called here: it makes the load, and on MongoDB it also passes on what the
/// gateway and patient-service send to each other and to audit-service.
const LOAD: &str = "(this benchmark)";

/// What is done after the last answer: following, tiles, the checkpoint file.
const SETTLING: Duration = Duration::from_secs(2);

/// Measures what one command costs.
#[derive(Debug, Parser)]
struct Arguments {
    /// Stores to measure.
    #[arg(long, value_delimiter = ',', default_value = "mongo,sqlite")]
    store: Vec<Kind>,
    /// Operations to measure: create, load, create-test, list-tests, search, echo.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "create,load,search,create-test,list-tests"
    )]
    operations: Vec<String>,
    /// Requests a second.
    #[arg(long, value_delimiter = ',', default_value = "100,400")]
    rates: Vec<u32>,
    /// Seconds of load of one round.
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Rounds of each measurement; their median is shown.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Patients that are there before.
    #[arg(long, default_value_t = 2_000)]
    patients: usize,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Sqlite,
    Mongo,
}

/// A running system, and the processes that it consists of.
struct Measured {
    name: &'static str,
    target: Target,
    pids: BTreeMap<String, u32>,
    /// Processor time a second when nothing is asked.
    idle: BTreeMap<String, f64>,
    // Kept because they end when they are dropped, the system first.
    _system: System,
    _cluster: Option<Cluster>,
}

/// Milliseconds of one command by process, and the latency's quantiles in milliseconds.
struct Cost {
    by_process: BTreeMap<String, f64>,
    p50: f64,
    p99: f64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    show(&format!("load of the machine at the start: {}", machine_load()));
    for kind in &arguments.store {
        let measured = Measured::start(*kind).await?;
        let ids = Arc::new(load::seed(&measured.target, arguments.patients).await?);
        // What follows the seeding must not be taken for idling.
        tokio::time::sleep(SETTLING).await;
        measured.idling(Duration::from_secs(5)).await?.measure(&arguments, &ids).await?;
    }
    show(&format!("load of the machine at the end: {}", machine_load()));
    Ok(())
}

impl Measured {
    async fn start(kind: Kind) -> anyhow::Result<Self> {
        let (name, system, cluster) = match kind {
            Kind::Sqlite => ("sqlite", System::standalone(Store::Sqlite).await, None),
            Kind::Mongo => {
                let cluster = Cluster::start(1).await?;
                let layout = Layout { replicas: 1, ..Layout::on(cluster.uri()) };
                ("mongo", System::four_processes(layout).await, Some(cluster))
            }
        };
        let mut pids = system.pids();
        pids.insert(LOAD.to_owned(), std::process::id());
        if let Some(cluster) = &cluster {
            pids.insert(MONGOD.to_owned(), cluster.pid(0)?);
        }
        let address = system.addresses().gateway.trim_start_matches("http://").to_owned();
        let target = Target { address, key: system.key("clinic") };
        let idle = BTreeMap::new();
        Ok(Self { name, target, pids, idle, _system: system, _cluster: cluster })
    }

    /// Learns what the processes use when nothing is asked.
    async fn idling(mut self, time: Duration) -> anyhow::Result<Self> {
        let (before, begun) = (cpu::used(&self.pids)?, Instant::now());
        tokio::time::sleep(time).await;
        let (after, elapsed) = (cpu::used(&self.pids)?, begun.elapsed());
        self.idle = between(&before, &after)
            .map(|(process, used)| (process.clone(), used.div_duration_f64(elapsed)))
            .collect();
        for (process, share) in &self.idle {
            show(&format!("{}: idle, {process:<20} {:7.2} ms a second", self.name, share * 1e3));
        }
        Ok(self)
    }

    async fn measure(&self, arguments: &Arguments, ids: &Arc<Vec<String>>) -> anyhow::Result<()> {
        let name = self.name;
        for called in &arguments.operations {
            let operation = Operation::named(called, ids);
            let operation = operation.with_context(|| format!("no operation {called}"))?;
            for rate in &arguments.rates {
                let mut costs = Vec::new();
                for _ in 0..arguments.rounds {
                    costs.push(self.cost(&operation, *rate, arguments.seconds).await?);
                }
                let middle = |of: &dyn Fn(&Cost) -> f64| {
                    let mut values: Vec<f64> = costs.iter().map(of).collect();
                    values.sort_by(f64::total_cmp);
                    values.get(values.len() / 2).copied().unwrap_or_default()
                };
                let of = |process: &String| {
                    middle(&|cost| cost.by_process.get(process).copied().unwrap_or_default())
                };
                let each: Vec<String> = self
                    .pids
                    .keys()
                    .map(|process| format!("{process} {:.3}", of(process)))
                    .collect();
                let served = |cost: &Cost| -> f64 {
                    let served = cost.by_process.iter().filter(|(process, _)| *process != LOAD);
                    served.map(|(_, cost)| cost).sum()
                };
                show(&format!(
                    "{name}: {called:<12} {rate:5}/s  CPU ms each: all {:.3} = {}; \
                     latency p50 {:.2} ms, p99 {:.2} ms",
                    middle(&served),
                    each.join(", "),
                    middle(&|cost| cost.p50),
                    middle(&|cost| cost.p99),
                ));
            }
        }
        Ok(())
    }

    async fn cost(&self, operation: &Operation, rate: u32, seconds: u32) -> anyhow::Result<Cost> {
        let count = rate * seconds;
        let (before, begun) = (cpu::used(&self.pids)?, Instant::now());
        let figures = steady::run(&self.target, operation, CONNECTIONS, rate, count).await?;
        ensure!(figures.failed == 0, "{} of {count} requests failed", figures.failed);
        tokio::time::sleep(SETTLING).await;
        let (after, elapsed) = (cpu::used(&self.pids)?, begun.elapsed());
        let by_process = between(&before, &after)
            .map(|(process, used)| {
                let idle = self.idle.get(process).copied().unwrap_or_default();
                let busy = used.as_secs_f64() - idle * elapsed.as_secs_f64();
                (process.clone(), busy * 1e3 / f64::from(count))
            })
            .collect();
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        Ok(Cost { by_process, p50: millis(figures.p50), p99: millis(figures.p99) })
    }
}

fn between<'a>(before: &'a Used, after: &'a Used) -> impl Iterator<Item = (&'a String, Duration)> {
    let both =
        before.iter().filter_map(|(process, used)| Some((process, used, after.get(process)?)));
    both.map(|(process, before, after)| (process, after.saturating_sub(*before)))
}

#[allow(clippy::print_stdout)]
fn show(text: &str) {
    println!("{text}");
}
