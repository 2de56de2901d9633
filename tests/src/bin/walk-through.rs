//! `cargo run -p tests --bin walk-through -- --pictures docs/pictures`: makes the pictures of the
//! walk-through in `docs/operations.md` again, and what stands in its text.
//!
//! The four services run on a MongoDB, the ledger's part of it behind a proxy, under a light load,
//! with every trace sampled and a real Prometheus that has the repository's rules. Then the proxy
//! becomes slow. The program waits until the alerts fire, which takes some minutes, as their windows
//! are what they are, and looks where a developer on call would look.
//!
//! Needs what `tests/run` needs, and the pages of Debian's Prometheus with the libraries that they
//! use (`apt-get install prometheus`, or `VITALOG_PROMETHEUS_PAGES`).

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use mongodb::options::ClientOptions;
use serde_json::Value;
use tests::{
    http::Api,
    mongod,
    otlp::{Collector, Kind, Protocol, Span, Trace},
    proxy::{Mode, TcpProxy},
    system::{Layout, System, free_address},
    walk_through::{
        browser, dashboard,
        prometheus::{Alert, Prometheus},
        traffic::Traffic,
        waterfall,
    },
};

/// The alerts that are waited for.
const ALERTS: [&str; 2] = ["StoreSlow", "LatencyBudgetBurnsFast"];

/// How long they may take: their longest window and pause, and as much again.
const PATIENCE: Duration = Duration::from_mins(15);

/// How long the spans of a request may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(20);

/// Between two looks at the alerts.
const LOOK: Duration = Duration::from_secs(1);

/// What the graphs show.
const RANGE: &str = "6m";

/// The panels that lead from the door to the store, the names of their pictures, and their heights.
const PANELS: [(&str, &str, u32); 4] = [
    ("Duration p99 by route", "door.png", 900),
    ("Duration p99 by service", "services.png", 870),
    ("Duration p95 by operation", "stores.png", 1_280),
    ("Commit time", "commit.png", 850),
];

/// Makes the pictures of the walk-through.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where they are put.
    #[arg(long)]
    pictures: PathBuf,
    /// Seconds before the store becomes slow.
    #[arg(long, default_value_t = 180)]
    calm: u64,
    /// By how many milliseconds each piece is held up, in both directions.
    #[arg(long, default_value_t = 150)]
    delay: u64,
    /// Requests a second.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100))]
    rate: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    std::fs::create_dir_all(&arguments.pictures)?;
    let stage = Stage::start().await?;
    let mut story = String::new();
    let told = stage.play(&arguments, &mut story).await;
    std::fs::write(arguments.pictures.join("seen.txt"), &story)?;
    show(&story);
    stage.system.finish().await;
    told
}

/// What runs.
struct Stage {
    system: System,
    collector: Collector,
    proxy: TcpProxy,
    prometheus: Prometheus,
}

impl Stage {
    async fn start() -> anyhow::Result<Self> {
        let collector = Collector::start().await;
        let mongo = mongod::uri().await;
        let host = ClientOptions::parse(mongo).await?.hosts[0].to_string();
        let proxy = TcpProxy::start(host).await?;
        let through_proxy = format!("mongodb://{}/?directConnection=true", proxy.address());
        let (door, _) = free_address()?;
        let layout = Layout {
            ledger_store: Some(through_proxy),
            replicas: 1,
            environment: vec![("RUST_LOG".to_owned(), "info,request=debug".to_owned())],
            ..Layout::on(mongo)
        };
        let mut layout = layout.telling_all(&collector.settings(Protocol::Http));
        layout.told.entry("gateway").or_default().push(format!("--metrics-listen={door}"));
        let system = System::four_processes(layout).await;
        let folder = system.folder().join("prometheus");
        std::fs::create_dir(&folder)?;
        let at = |name: &str| system.health_url(name).trim_start_matches("http://").to_owned();
        let [patients, audit, follower] =
            ["patient-service-0", "audit-service-0", "projections"].map(at);
        let targets = [
            ("gateway", door.as_str()),
            ("patient-service", &patients),
            ("audit-service", &audit),
            ("projections", &follower),
        ];
        let prometheus = Prometheus::start(&folder, &targets).await?;
        Ok(Self { system, collector, proxy, prometheus })
    }

    async fn play(&self, arguments: &Arguments, story: &mut String) -> anyhow::Result<()> {
        let Arguments { pictures, calm, delay, rate } = arguments;
        let traffic = Traffic::start(self.system.clinic(), *rate);
        writeln!(story, "{rate} requests/s, Prometheus looks every second")?;
        tokio::time::sleep(Duration::from_secs(*calm)).await;
        let firing: Vec<_> = self.prometheus.alerts().await?;
        ensure!(firing.iter().all(|alert| !alert.fires), "before anything is slow: {firing:?}");
        writeln!(story, "\nafter {calm} s, nothing fires")?;
        self.figures(story).await?;

        let slow = Instant::now();
        self.proxy.set(Mode::Slow(Duration::from_millis(*delay)));
        writeln!(story, "\nthe ledger's store takes 2 x {delay} ms longer from now on")?;
        self.alerts(slow, story).await?;
        let alerts = self.prometheus.alert(ALERTS[0]);
        browser::picture(&alerts, (1_200, 1_150), &pictures.join("alerts.png")).await?;
        for (panel, file, height) in PANELS {
            // Of several quantiles the last.
            let query = dashboard::queries(panel)?.pop().context("a query")?;
            let page = self.prometheus.graph(&query, RANGE)?;
            browser::picture(&page, (1_200, height), &pictures.join(file)).await?;
        }
        writeln!(story)?;
        self.figures(story).await?;

        let trace = self.slow_trace(slow.elapsed()).await?;
        std::fs::write(pictures.join("trace.svg"), waterfall::draw(&trace))?;
        writeln!(story, "\n{trace}")?;
        self.log_lines(&trace.id, story)?;
        record(&self.system.compliance(), &trace, story).await?;
        self.proxy.set(Mode::Forward);
        writeln!(story, "\nanswers, by request and status:")?;
        for ((what, status), count) in traffic.answers() {
            writeln!(story, "  {what} {status}: {count}")?;
        }
        Ok(())
    }

    /// What the panels show as numbers.
    async fn figures(&self, story: &mut String) -> anyhow::Result<()> {
        for (panel, _, _) in PANELS {
            writeln!(story, "{panel}:")?;
            for query in dashboard::queries(panel)? {
                writeln!(story, "  {query}")?;
                for (labels, value) in self.prometheus.values(&query).await? {
                    writeln!(story, "    {labels}: {:.1} ms", value * 1e3)?;
                }
            }
        }
        Ok(())
    }

    /// Waits until the alerts fire, and says when which did what.
    async fn alerts(&self, slow: Instant, story: &mut String) -> anyhow::Result<()> {
        let mut seen = BTreeSet::new();
        while slow.elapsed() < PATIENCE {
            for alert in self.prometheus.alerts().await? {
                // Its summary has values in it, and is another at every look.
                if seen.insert((alert.name.clone(), alert.fires)) {
                    let state = if alert.fires { "fires" } else { "is pending" };
                    let (seconds, Alert { name, summary, .. }) = (slow.elapsed().as_secs(), alert);
                    writeln!(story, "after {seconds} s {name} {state}: {summary}")?;
                }
            }
            if ALERTS.iter().all(|name| seen.contains(&((*name).to_owned(), true))) {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        bail!("of {ALERTS:?} there was only {seen:?} in {PATIENCE:?}")
    }

    /// A new patient as slow as most, of those since the store is slow whose spans are all there.
    async fn slow_trace(&self, since: Duration) -> anyhow::Result<Trace> {
        // What is slow now is complete by then.
        tokio::time::sleep(ARRIVAL).await;
        let spans = self.collector.spans();
        let last = spans.iter().map(|span| span.ended).max().context("no spans")?;
        let began = last - u64::try_from(since.as_nanos())?;
        let is_door = |span: &&Span| {
            span.kind == Kind::Server && span.service == "gateway" && span.name == "POST /patient"
        };
        let mut doors: Vec<&Span> =
            spans.iter().filter(is_door).filter(|span| span.started > began).collect();
        doors.sort_by_key(|span| std::cmp::Reverse(span.ended - span.started));
        let traces = doors.iter().map(|door| self.collector.trace(&door.trace));
        let whole = traces.filter(|trace| {
            let has = |name: &str| trace.spans.iter().any(|span| span.name == name);
            trace.roots().len() == 1 && has("commit") && has("apply")
        });
        let mut whole: Vec<Trace> = whole.collect();
        ensure!(!whole.is_empty(), "no whole trace of a slow request");
        Ok(whole.swap_remove(whole.len() / 2))
    }

    fn log_lines(&self, trace: &str, story: &mut String) -> anyhow::Result<()> {
        writeln!(story, "the logs of this trace:")?;
        for (program, log) in self.system.logs() {
            for line in log.lines().filter(|line| line.contains(trace)) {
                writeln!(story, "  {program}: {line}")?;
            }
        }
        Ok(())
    }
}

/// The record of a trace in the ledger, which the commit's span names.
async fn record(compliance: &Api, trace: &Trace, story: &mut String) -> anyhow::Result<()> {
    let commit = trace.spans.iter().find(|span| span.name == "commit").context("a commit")?;
    let number = |name: &str| commit.number(name).context("a number of the commit");
    let (first, records) = (number("vitalog.commit.first")?, number("vitalog.commit.records")?);
    let path = format!("/audit/records?from={first}&limit={records}");
    let answer = compliance.get(&path).await;
    ensure!(answer.status == 200, "{answer:?}");
    writeln!(story, "\nGET {path}")?;
    let mut found = false;
    for line in answer.text().lines() {
        let record: Value = serde_json::from_str(line)?;
        if record["trace"] == trace.id.as_str() {
            found = true;
            writeln!(story, "  {line}")?;
        } else {
            let [seq, kind, trace] = ["seq", "type", "trace"].map(|name| &record[name]);
            writeln!(story, "  {seq} {kind} of the trace {trace}")?;
        }
    }
    ensure!(found, "the trace {} is in no record of {path}", trace.id);
    Ok(())
}

#[allow(clippy::print_stdout)]
fn show(text: &str) {
    println!("{text}");
}
