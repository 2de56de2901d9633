//! `cargo run --release -p tests --bin load -- closed|open|find …`: the load test.
//!
//! `closed` has users who wait for answers, as the older system's test had; `open` sends at a fixed
//! rate; `find` looks for the highest rate at which latencies stay short. All of them create what
//! they ask for, and fail on any unexpected status and any request without an answer.

use std::{fs, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use clap::{Args, Parser, Subcommand};
use reqwest::Url;
use runtime::secrets::SecretRef;
use serde_json::json;
use tests::load::{
    MAX_REQUESTS, closed,
    find::{Limits, Search},
    mix::Known,
    open,
    summary::Summary,
    target::Target,
};
use tracing_subscriber::filter::LevelFilter;

/// Puts load on a gateway.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Users who wait for their answers
    Closed(Closed),
    /// A fixed rate, whatever is answered
    Open(Open),
    /// The highest rate at which 99 of 100 latencies stay short and nothing fails
    Find(Find),
}

/// Where to.
#[derive(Debug, Args)]
struct Door {
    /// The gateway
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    gateway: Url,
    /// Where the subscription key is: `env:NAME`, `file:/path` or `keyvault:https://…`
    #[arg(long, value_name = "REF", required_unless_present = "key_file")]
    key: Option<SecretRef>,
    /// The file that the subscription key is in
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Closed {
    #[command(flatten)]
    door: Door,
    /// Users
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=5_000))]
    users: u16,
    /// Seconds from when all users have begun
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    duration: u64,
    /// Users do not think for 1 to 5 seconds between tasks
    #[arg(long)]
    full_speed: bool,
    /// The run ends early after so many requests
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_REQUESTS)))]
    requests: u32,
    /// Where the report goes; its ending says its form: .html, .md or .json
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// What both forms of the open loop are told.
#[derive(Debug, Args)]
struct Loop {
    #[command(flatten)]
    door: Door,
    /// Seconds before a measurement, whose latencies do not count
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(..=600))]
    warm_up_seconds: u64,
    /// The most tasks under way; those due beyond it fail
    #[arg(long, value_name = "NUMBER", default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..))]
    at_once: u16,
    /// How many patients to ask for
    #[arg(long, value_name = "NUMBER", default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..))]
    patients: u16,
}

#[derive(Debug, Args)]
struct Open {
    #[command(flatten)]
    common: Loop,
    /// Requests a second
    #[arg(long, value_name = "NUMBER", value_parser = positive)]
    rate: f64,
    /// Seconds of the measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    duration: u64,
}

#[derive(Debug, Args)]
struct Find {
    #[command(flatten)]
    common: Loop,
    /// Milliseconds that 99 of 100 latencies must stay under
    #[arg(long, value_name = "NUMBER", default_value_t = 100.0, value_parser = positive)]
    p99_ms: f64,
    /// Seconds of the measurement at each rate
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    step_seconds: u64,
    /// Requests a second to begin with
    #[arg(long, value_name = "NUMBER", default_value_t = 50.0, value_parser = positive)]
    from: f64,
    /// Requests a second that are not exceeded
    #[arg(long, value_name = "NUMBER", default_value_t = 20_000.0, value_parser = positive)]
    most: f64,
    /// How close to come, in percent of the rate
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, value_parser = positive)]
    precision: f64,
    /// Where to write the result as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    // Goose logs through `log`, a line for each failure; they are counted anyway.
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::ERROR)
        .with_writer(std::io::stderr)
        .init();
    // Before there is a runtime, because a vault may have to be asked.
    let target = Arc::new(match &arguments.command {
        Command::Closed(closed) => closed.door.target(),
        Command::Open(open) => open.common.door.target(),
        Command::Find(find) => find.common.door.target(),
    }?);
    let runtime = tokio::runtime::Runtime::new()?;
    let passed = runtime.block_on(async {
        match arguments.command {
            Command::Closed(closed) => closed.run(&target).await,
            Command::Open(open) => open.run(&target).await,
            Command::Find(find) => find.run(&target).await,
        }
    })?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Door {
    fn target(&self) -> anyhow::Result<Target> {
        let file = self.key_file.clone().map(SecretRef::File);
        let key = self.key.clone().or(file).context("no key")?.load()?;
        Target::new(&self.gateway, &key)
    }
}

impl Closed {
    async fn run(self, target: &Arc<Target>) -> anyhow::Result<bool> {
        if let Some(report) = &self.report {
            // Goose would find out only when it has begun.
            fs::File::create(report).with_context(|| format!("--report {}", report.display()))?;
        }
        let known: Arc<[Known]> = target.create_known(self.users.into()).await?.into();
        let plan = closed::Plan {
            users: self.users.into(),
            time: Duration::from_secs(self.duration),
            full_speed: self.full_speed,
            requests: self.requests,
            report: self.report,
        };
        let summary = closed::run(target, &known, plan).await?;
        show(&summary.to_string());
        Ok(passed(&summary))
    }
}

impl Open {
    async fn run(self, target: &Arc<Target>) -> anyhow::Result<bool> {
        let plan = self.common.plan(self.rate, self.duration)?;
        let summary = open::run(target, &self.common.known(target).await?, plan).await?;
        show(&summary.to_string());
        Ok(passed(&summary))
    }
}

impl Find {
    async fn run(self, target: &Arc<Target>) -> anyhow::Result<bool> {
        self.common.plan(self.most, self.step_seconds)?;
        let known = self.common.known(target).await?;
        let mut search = Search::new(Limits {
            from: self.from.min(self.most),
            most: self.most,
            precision: self.precision / 100.0,
        });
        let mut steps = Vec::new();
        show("  rate/s  answered/s   p50 ms   p95 ms   p99 ms  failed  generator");
        while let Some(rate) = search.next() {
            let plan = self.common.plan(rate, self.step_seconds)?;
            let summary = open::run(target, &known, plan).await?;
            let limit = Duration::from_secs_f64(self.p99_ms / 1e3);
            let kept = summary.passed() && summary.all.p99 < limit;
            search.learn(rate, kept);
            show(&step(rate, &summary, kept));
            let mut figures = summary.json();
            figures["rate"] = json!(rate);
            figures["kept"] = json!(kept);
            steps.push(figures);
        }
        let (found, limit) = (search.highest(), self.p99_ms);
        show(&match found {
            Some(rate) => format!("{rate:.1}/s is the highest rate with p99 under {limit} ms"),
            None => format!("no rate with p99 under {limit} ms and no failure"),
        });
        if let Some(file) = &self.json {
            let text = json!({ "p99LimitMs": limit, "highestRate": found, "steps": steps });
            fs::write(file, format!("{text:#}\n")).with_context(|| file.display().to_string())?;
        }
        Ok(found.is_some())
    }
}

impl Loop {
    async fn known(&self, target: &Target) -> anyhow::Result<Arc<[Known]>> {
        Ok(target.create_known(self.patients.into()).await?.into())
    }

    fn plan(&self, rate: f64, seconds: u64) -> anyhow::Result<open::Plan> {
        let (warm_up, time) =
            (Duration::from_secs(self.warm_up_seconds), Duration::from_secs(seconds));
        let requests = rate * (warm_up + time).as_secs_f64();
        ensure!(requests <= f64::from(MAX_REQUESTS), "more than {MAX_REQUESTS} requests at a time");
        Ok(open::Plan { rate, warm_up, time, at_once: self.at_once.into() })
    }
}

/// Whether all was as expected; says so if not.
fn passed(summary: &Summary) -> bool {
    if !summary.passed() {
        show("FAILED: not everything was answered as expected");
    }
    summary.passed()
}

fn step(rate: f64, summary: &Summary, kept: bool) -> String {
    let row = &summary.all;
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let worst = summary.failures.iter().max_by_key(|failed| failed.2);
    let worst = worst.map(|(name, why, count)| format!(" ({name}: {count} × {why})"));
    format!(
        "{rate:8.1}  {:10.1} {:8.2} {:8.2} {:8.2}  {:6}  {:8.0}%  {}{}",
        row.rate,
        millis(row.p50),
        millis(row.p95),
        millis(row.p99),
        row.failed,
        summary.cores * 100.0,
        if kept { "kept" } else { "too high" },
        worst.unwrap_or_default(),
    )
}

fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let positive = number.is_finite() && number > 0.0;
    if positive { Ok(number) } else { Err("not above 0".to_owned()) }
}

#[allow(clippy::print_stdout)]
fn show(text: &str) {
    println!("{text}");
}
