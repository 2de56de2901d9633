//! `cargo run --release -p tests --bin growth-bench`: whether a large ledger is slower.
//!
//! Fills ledgers of several sizes with valid blocks, starts the real appender on each, and
//! measures appends, reads and the start. Each round on a large one goes with a round on a fresh one
//! of the smallest size, so that ratios compare the same minutes. Then the same for read models,
//! and what both take on the disk. One store after the other, each deleted before the next.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use projections::{open::open_projection_store, store::ProjectionStore};
use runtime::store_location::StoreLocation;
use tempfile::TempDir;
use tests::{
    bench::{
        grown::{Filling, Grown, Place},
        growth::{self, Round, Samples},
        lives::{self, Lives},
        models,
        report::machine_load,
        stored_bytes::{self, Stored},
    },
    mongod::{self, Cluster},
};

/// Bytes on the disk that are free for each record of the largest size, or nothing is begun:
/// what the larger of the stores takes, and a sixth more.
const FREE_BYTES_A_RECORD: u64 = 1_500;

/// Bytes that stay free in any case.
const SPARE_BYTES: u64 = 2 << 30;

/// Takes as long as the ledger is large, so it is measured once.
const WHOLE_START: &str = "start: the whole ledger verified";

/// Measures what the size of a ledger costs.
#[derive(Debug, Parser)]
struct Arguments {
    /// Records of the ledgers; the first is what the others are compared with.
    #[arg(long, value_delimiter = ',', default_value = "1000,1000000")]
    sizes: Vec<u64>,
    /// Records whose read models are measured in the same way; empty leaves them out.
    #[arg(long, value_delimiter = ',', default_value = "1000,1000000", num_args = 0..)]
    read_models: Vec<u64>,
    /// Stores to measure.
    #[arg(long, value_delimiter = ',', default_value = "sqlite,mongo")]
    store: Vec<Kind>,
    /// Records of one block of what is filled in.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    records_per_block: u64,
    /// Where the data goes, MongoDB's too; deleted afterwards.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    data: PathBuf,
    /// Rounds of each measurement; their median is shown.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Operations of each kind in a round.
    #[arg(long, default_value_t = 300)]
    samples: usize,
    /// Appends of 64 records in a round.
    #[arg(long, default_value_t = 60)]
    appends_of_many: usize,
    /// Also starts without the remembered checkpoint, once at each size.
    #[arg(long)]
    whole_start: bool,
    /// Minutes for one store; beyond them filling is given up.
    #[arg(long, default_value_t = 60)]
    minutes: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Sqlite,
    Mongo,
}

/// One store with the ledgers on it.
struct Bench<'a> {
    arguments: &'a Arguments,
    name: &'static str,
    folder: TempDir,
    cluster: Option<Cluster>,
    lives: Lives,
    until: Instant,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    enough_room(&arguments)?;
    show(&format!("load of the machine at the start: {}", machine_load()));
    for kind in &arguments.store {
        let folder =
            tempfile::Builder::new().prefix("vitalog-growth-").tempdir_in(&arguments.data)?;
        let (name, cluster) = match kind {
            Kind::Sqlite => ("sqlite", None),
            Kind::Mongo => ("mongo", Some(Cluster::start_under(folder.path(), 1).await?)),
        };
        let until = Instant::now() + Duration::from_secs(60 * arguments.minutes);
        let lives = Lives::default();
        let bench = Bench { arguments: &arguments, name, folder, cluster, lives, until };
        for size in &arguments.sizes {
            bench.ledger(*size).await?;
        }
        bench.read_models().await?;
    }
    show(&format!("load of the machine at the end: {}", machine_load()));
    Ok(())
}

fn enough_room(arguments: &Arguments) -> anyhow::Result<()> {
    let room = rustix::fs::statvfs(&arguments.data)?;
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    let largest = arguments.sizes.iter().chain(&arguments.read_models).max().context("a size")?;
    let needed = largest.saturating_mul(FREE_BYTES_A_RECORD).saturating_add(SPARE_BYTES);
    ensure!(
        free >= needed,
        "{} has {} MB free, {} MB are needed: give smaller --sizes or another --data",
        arguments.data.display(),
        free >> 20,
        needed >> 20
    );
    Ok(())
}

impl Bench<'_> {
    /// Measures a ledger of one size beside fresh ones of the first size.
    async fn ledger(&self, size: u64) -> anyhow::Result<()> {
        let begun = Instant::now();
        let grown = self.fill(size).await?;
        let seconds = begun.elapsed().as_secs_f64();
        show(&format!("\n{}: {size} records filled in {seconds:.0} s", self.name));
        let stored = match &grown.place {
            Place::Sqlite(path) => stored_bytes::sqlite(path)?,
            Place::Mongo { uri, database } => stored_bytes::mongo(uri, database).await?,
        };
        bytes(&stored, grown.filled);
        let first = *self.arguments.sizes.first().context("a size")?;
        let (mut rounds, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..self.arguments.rounds {
            if size != first {
                let small = self.fill(first).await?;
                beside.push(self.round(&small).await?);
                self.remove(&small.place).await?;
            }
            rounds.push(self.round(&grown).await?);
        }
        if self.arguments.whole_start {
            let (running, took) = grown.start(false).await?;
            running.stop().await;
            show(&format!("{WHOLE_START}: {:.2} s", took.as_secs_f64()));
        }
        table(first, &rounds, &beside);
        self.remove(&grown.place).await
    }

    async fn round(&self, grown: &Grown) -> anyhow::Result<Round> {
        let samples =
            Samples { single: self.arguments.samples, many: self.arguments.appends_of_many };
        let (running, took) = grown.start(true).await?;
        let round = growth::round(&running.ledger, &self.lives, grown.filled, samples).await;
        running.stop().await;
        let mut round = round?;
        round.insert("start: from the remembered checkpoint", growth::figures(vec![took]));
        Ok(round)
    }

    async fn fill(&self, size: u64) -> anyhow::Result<Grown> {
        let folder = self.folder.path().join(mongod::database("ledger"));
        std::fs::create_dir(&folder)?;
        let place = match &self.cluster {
            None => Place::Sqlite(folder.join("ledger.db")),
            Some(cluster) => {
                Place::Mongo { uri: cluster.uri(), database: mongod::database("ledger") }
            }
        };
        let in_a_block = self.arguments.records_per_block;
        let filling = Filling { size, in_a_block, until: self.until };
        Grown::fill(place, folder, &self.lives, filling).await
    }

    async fn remove(&self, place: &Place) -> anyhow::Result<()> {
        match place {
            Place::Sqlite(path) => std::fs::remove_dir_all(path.parent().context("a folder")?)?,
            Place::Mongo { uri, database } => {
                mongodb::Client::with_uri_str(uri).await?.database(database).drop().await?;
            }
        }
        Ok(())
    }

    /// Measures read models of each size beside those of the first.
    async fn read_models(&self) -> anyhow::Result<()> {
        let Some(first) = self.arguments.read_models.first() else { return Ok(()) };
        let samples = self.arguments.samples;
        let mut small: Option<(Arc<dyn ProjectionStore>, u64)> = None;
        for size in &self.arguments.read_models {
            let prefix = mongod::database("models");
            let location = match &self.cluster {
                None => StoreLocation::Sqlite(self.folder.path().join(&prefix)),
                Some(cluster) => cluster.uri().parse()?,
            };
            let store = open_projection_store(&location, &prefix.parse()?).await?;
            let serving = store.serving().await?;
            let (begun, patients) = (Instant::now(), lives::patients(*size));
            models::fill(&*store, serving, &self.lives, 0, patients).await?;
            let seconds = begun.elapsed().as_secs_f64();
            let name = self.name;
            show(&format!("\n{name}: read models of {size} records filled in {seconds:.0} s"));
            let (mut rounds, mut beside) = (Vec::new(), Vec::new());
            for _ in 0..self.arguments.rounds {
                if let Some((store, patients)) = &small {
                    beside.push(models::round(&**store, serving, *patients, samples).await?);
                }
                rounds.push(models::round(&*store, serving, patients, samples).await?);
            }
            table(*first, &rounds, &beside);
            let stored = match &location {
                StoreLocation::Sqlite(path) => stored_bytes::sqlite(path)?,
                _ => self.mongo_bytes(&prefix).await?,
            };
            bytes(&stored, *size);
            small.get_or_insert((store, patients));
        }
        Ok(())
    }

    async fn mongo_bytes(&self, prefix: &str) -> anyhow::Result<Vec<Stored>> {
        let cluster = self.cluster.as_ref().context("a MongoDB")?;
        stored_bytes::mongo(&cluster.uri(), &format!("{prefix}_patients")).await
    }
}

/// Medians of the rounds, and their ratios to those beside.
fn table(first: u64, rounds: &[Round], beside: &[Round]) {
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let small = growth::median(beside);
    show(&format!(
        "{:<42} {:>9} {:>9}   beside {first}: p50, p99 and ratios",
        "medians of the rounds, ms", "p50", "p99"
    ));
    for (kind, (p50, p99)) in growth::median(rounds) {
        let compared = small.get(kind).map_or_else(String::new, |(small_p50, small_p99)| {
            format!(
                "   {:9.3} {:9.3}   {:5.2} {:5.2}",
                millis(*small_p50),
                millis(*small_p99),
                p50.as_secs_f64() / small_p50.as_secs_f64(),
                p99.as_secs_f64() / small_p99.as_secs_f64(),
            )
        });
        show(&format!("{kind:<42} {:9.3} {:9.3}{compared}", millis(p50), millis(p99)));
    }
}

/// Bytes for each record of the ledger behind it, of what takes more than one in a hundred.
#[allow(clippy::cast_precision_loss)]
fn bytes(stored: &[Stored], records: u64) {
    let each = |bytes: u64| bytes as f64 / records as f64;
    let all: u64 = stored.iter().map(Stored::on_disk).sum();
    show(&format!("bytes a record of the ledger: {:<22} {:7.1}", "in all", each(all)));
    for one in stored.iter().filter(|one| one.on_disk() * 100 > all) {
        let compressed = if one.plain == one.data {
            String::new()
        } else {
            format!(", data {:.1} before compression", each(one.plain))
        };
        show(&format!(
            "bytes a record of the ledger: {:<22} {:7.1} = data {:.1} + indexes {:.1}{compressed}",
            one.name,
            each(one.on_disk()),
            each(one.data),
            each(one.indexes),
        ));
    }
}

#[allow(clippy::print_stdout)]
fn show(text: &str) {
    println!("{text}");
}
