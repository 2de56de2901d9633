//! `cargo run --release -p tests --bin read-models-bench`: rebuilding, following and searching.
//!
//! Rebuilds run as the built `projections`, beside the same documents written in bulk into the
//! same store; searches ask the store itself. Prints one line a figure.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::Parser;
use domain::{
    ids::{KeyId, PatientId, TestId},
    patient::Current,
    search::SearchCriteria,
    strict_json::parse_object,
    time::Timestamp,
};
use projections::{
    change::StreamChange,
    documents::{Generation, PatientState},
    key_ring::{KeyRing, kek::Kek},
    open::{open_key_store, open_projection_store},
    store::ProjectionStore,
};
use runtime::{secrets::write_secret_file, store_location::StoreLocation};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{
    bench::{
        filler::{Ledger, person, service_key},
        load::{self, Operation, Target},
        raw_copy,
        report::{Figures, machine_load},
    },
    mongod,
    system::{Store, System},
};
use uuid::Uuid;

/// The key-encryption key. Programs refuse one that is a pattern.
const KEK: [u8; 32] = *b"the bench keeps no secrets of it";

/// Patients written at once into the store that is searched.
const BATCH: usize = 1_000;

/// Searches of one kind at each size.
const SEARCHES: usize = 200;

/// Results of one page of these searches.
const PAGE: usize = 20;

/// Measures the read models.
#[derive(Debug, Parser)]
struct Arguments {
    /// Events of the ledgers that are rebuilt from.
    #[arg(long, value_delimiter = ',', default_value = "100000,1000000")]
    events: Vec<u64>,
    /// Patients in the stores that are searched.
    #[arg(long, value_delimiter = ',', default_value = "1000,100000,1000000")]
    patients: Vec<usize>,
    /// Stores to measure: sqlite, mongo.
    #[arg(long, value_delimiter = ',', default_value = "sqlite,mongo")]
    stores: Vec<String>,
    /// Seconds of load under which the follower is measured; 0 leaves it out.
    #[arg(long, default_value_t = 20)]
    lag_seconds: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    show(&format!("load of the machine at the start: {}", machine_load()));
    for events in &arguments.events {
        rebuilds(&arguments.stores, *events).await?;
    }
    for store in &arguments.stores {
        if arguments.lag_seconds > 0 {
            lag(store, Duration::from_secs(arguments.lag_seconds)).await?;
        }
        for patients in &arguments.patients {
            searches(store, *patients).await?;
        }
    }
    show(&format!("load of the machine at the end: {}", machine_load()));
    Ok(())
}

/// One ledger, rebuilt into each store.
async fn rebuilds(stores: &[String], events: u64) -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let path = |name: &str| folder.path().join(name);
    write_secret_file(path("kek"), hex::encode(KEK))?;
    write_secret_file(path("service-key"), service_key("projections").text()?)?;
    let ledger = Ledger::start(folder.path()).await?;
    let keys = StoreLocation::Sqlite(path("keys.db"));
    let ring = KeyRing::new(open_key_store(&keys, &"bench".parse()?).await?, Kek::new(KEK.into()));
    let begun = Instant::now();
    ledger.fill(&ring, events).await?;
    show(&format!("a ledger of {events} events was filled in {:.0} s", seconds(begun)));
    for store in stores {
        let prefix = mongod::database("rebuild");
        let location = match store.as_str() {
            "sqlite" => format!("sqlite:{}", path("patients.db").display()),
            _ => mongod::uri().await.to_owned(),
        };
        let (summary, memory) = rebuild(folder.path(), &ledger.url, &location, &prefix).await?;
        let built = u32::try_from(summary["generation"].as_u64().context("a generation")?)?;
        let raw = match store.as_str() {
            "sqlite" => raw_copy::sqlite(&path("patients.db"), built)?,
            _ => raw_copy::mongo(mongod::uri().await, &format!("{prefix}_patients"), built).await?,
        };
        let took = summary["buildSeconds"].as_f64().or(summary["seconds"].as_f64());
        let took = took.context("a duration")?;
        show(&format!(
            "{store}: {events} events rebuilt in {took:.1} s, {:.0}/s, {:.2} × the rate of raw \
             writes ({:.1} s), {memory} MB at most",
            summary["events"].as_f64().context("events")? / took,
            raw.as_secs_f64() / took,
            raw.as_secs_f64(),
        ));
        mongod::drop_databases(&prefix).await;
    }
    Ok(())
}

/// Runs the built program; its summary, and the most memory it had, in MB.
async fn rebuild(
    folder: &Path,
    audit_url: &str,
    store: &str,
    prefix: &str,
) -> anyhow::Result<(Value, u64)> {
    let file = |name: &str| format!("file:{}", folder.join(name).display());
    // Into a file: it names up to a thousand documents, more than a pipe holds.
    let output = folder.join("summary.json");
    let mut child = tokio::process::Command::new(program("projections")?)
        .args(["rebuild", "--audit-url", audit_url, "--audit-key", &file("service-key")])
        .args(["--store", store, "--database-prefix", prefix, "--kek", &file("kek")])
        .arg(format!("--keys=sqlite:{}", folder.join("keys.db").display()))
        .env_clear()
        // What serves is empty, so every document differs: that is no news.
        .env("RUST_LOG", "error")
        .stdin(Stdio::null())
        .stdout(File::create(&output)?)
        .kill_on_drop(true)
        .spawn()?;
    let pid = child.id().context("it runs")?;
    let mut memory = 0;
    let status = loop {
        memory = peak_megabytes(pid).unwrap_or(memory);
        match child.try_wait()? {
            Some(status) => break status,
            None => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    ensure!(status.success(), "the rebuild failed: {status}");
    let summary = fs::read_to_string(&output)?;
    let last = summary.lines().last().context("a summary")?;
    Ok((serde_json::from_str(last)?, memory))
}

fn peak_megabytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1_024)
}

fn program(name: &str) -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe()?;
    Ok(this.parent().context("a folder")?.join(name))
}

/// How long after its commit a record is followed, with 64 connections that create patients.
async fn lag(store: &str, time: Duration) -> anyhow::Result<()> {
    let (kind, location) = match store {
        "sqlite" => (Store::Sqlite, None),
        _ => (Store::shared_mongo().await, Some(mongod::uri().await)),
    };
    let system = System::standalone(kind).await;
    let location = match location {
        None => StoreLocation::Sqlite(system.data().join("patients.db")),
        Some(uri) => uri.parse()?,
    };
    let models = open_projection_store(&location, &system.prefix().parse()?).await?;
    let key = runtime::secrets::SecretRef::File(
        system.data().join("secrets").join("service-projections.key"),
    );
    let audit = audit_client::AuditClient::start(audit_client::Options::new(
        &system.addresses().audit_service,
        key.load()?,
    ));
    let address = system.addresses().gateway.trim_start_matches("http://").to_owned();
    let target = Target { address, key: system.key("clinic") };
    let loading =
        tokio::spawn(async move { load::run(&target, &Operation::Create, 64, time).await });
    let (start, mut lags) = (Instant::now(), Vec::new());
    while start.elapsed() < time {
        let note = audit.checkpoint().await?;
        let size: u64 = note.lines().nth(1).context("a size")?.parse()?;
        let begun = Instant::now();
        while position(models.as_ref()).await? < size {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        lags.push(begun.elapsed());
    }
    let count = lags.len();
    let figures = Figures::of(lags, 0, start.elapsed());
    let load = loading.await??;
    show(&format!(
        "{store}: follower lag under {:.0} creates/s: p50 {:.0} ms, p99 {:.0} ms ({count} looks)",
        load.rate,
        figures.p50.as_secs_f64() * 1e3,
        figures.p99.as_secs_f64() * 1e3,
    ));
    system.finish().await;
    Ok(())
}

async fn position(store: &dyn ProjectionStore) -> anyhow::Result<u64> {
    let serving = store.serving().await?;
    Ok(store.position(serving).await?.map_or(0, |position| position.next_seq))
}

/// The searches of the contract at one size.
async fn searches(store: &str, patients: usize) -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let prefix = mongod::database("search");
    let location = match store {
        "sqlite" => StoreLocation::Sqlite(folder.path().join("patients.db")),
        _ => mongod::uri().await.parse()?,
    };
    let models = open_projection_store(&location, &prefix.parse()?).await?;
    let serving = models.serving().await?;
    let samples = write_patients(models.as_ref(), serving, patients).await?;
    for (name, members) in [
        ("id", vec!["id"]),
        ("insuranceNumber", vec!["insuranceNumber"]),
        ("lastName", vec!["lastName"]),
        ("firstName + lastName", vec!["firstName", "lastName"]),
        ("postCode", vec!["postCode"]),
        ("postCode + gender", vec!["postCode", "gender"]),
        ("gender", vec!["gender"]),
        ("born that day", vec!["dateOfBirthFrom", "dateOfBirthTo"]),
        ("born since", vec!["dateOfBirthFrom"]),
        ("{}", vec![]),
    ] {
        let mut latencies = Vec::with_capacity(SEARCHES);
        for turn in 0..SEARCHES {
            let sample = &samples[turn % samples.len()];
            let body: Value = members.iter().map(|it| (*it, sample[*it].clone())).collect();
            let criteria = parse_object(body.to_string().as_bytes())?;
            let criteria = SearchCriteria::from_body(&criteria)
                .map_err(|_| anyhow::anyhow!("criteria of {name}"))?;
            let begun = Instant::now();
            let found = models.search(serving, &criteria, None, PAGE).await?;
            latencies.push(begun.elapsed());
            ensure!(!found.is_empty(), "{name} finds nobody");
        }
        let figures = Figures::of(latencies, 0, Duration::from_secs(1));
        show(&format!(
            "{store}: search by {name} among {patients}: p50 {:.2} ms, p99 {:.2} ms",
            figures.p50.as_secs_f64() * 1e3,
            figures.p99.as_secs_f64() * 1e3,
        ));
    }
    mongod::drop_databases(&prefix).await;
    Ok(())
}

/// Writes patients, and gives some of them with the members that searches name.
async fn write_patients(
    store: &dyn ProjectionStore,
    generation: Generation,
    patients: usize,
) -> anyhow::Result<Vec<Value>> {
    let (mut samples, mut number) = (Vec::new(), 0_usize);
    let kid = KeyId::new(Uuid::new_v4());
    while number < patients {
        let mut changes = Vec::with_capacity(BATCH);
        for _ in 0..BATCH.min(patients - number) {
            number += 1;
            let mut content = person();
            content.insurance_number = Some(format!("INS-{number}"));
            let patient = PatientId::new(Uuid::new_v4());
            if number % (patients / 100).max(1) == 0 {
                samples.push(sample(patient, &serde_json::to_value(&content)?));
            }
            let at = Timestamp::from_millis(1_700_000_000_000);
            let current = Current { content, revision: 1, last_updated: at };
            changes.push(StreamChange {
                patient,
                from: 0,
                to: 1,
                state: Some(PatientState::Active { kid, current }),
                tests: std::collections::BTreeMap::<TestId, _>::new(),
                tests_gone_at: None,
                erased: None,
            });
        }
        store.apply(generation, &changes).await?;
    }
    Ok(samples)
}

fn sample(patient: PatientId, content: &Value) -> Value {
    let mut sample = content.clone();
    sample["id"] = json!(patient);
    sample["dateOfBirthFrom"] = content["dateOfBirth"].clone();
    sample["dateOfBirthTo"] = content["dateOfBirth"].clone();
    sample
}

fn seconds(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64()
}

#[allow(clippy::print_stdout)]
fn show(text: &str) {
    println!("{text}");
}
