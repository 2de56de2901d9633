//! A ledger of any size: valid blocks straight into its store, then the real appender on it.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use audit_service::{
    AuditLedger, Parts,
    block::entries,
    checkpoint::{CheckpointFile, CheckpointSigner, TreeHead, new_signing_key},
    ledger::Ledger,
    outside::Outside,
    seal::SealKeys,
    service::system_clock,
    store::{
        LedgerStore,
        mongo::{MongoLedger, MongoOptions},
        sqlite::SqliteLedger,
    },
    tiles::Edge,
};
use domain::ids::Name;
use runtime::{health::Readiness, secrets::Secret};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::lives::{self, Lives};

/// Where a ledger is kept.
#[derive(Debug, Clone)]
pub enum Place {
    /// A file.
    Sqlite(PathBuf),
    /// A database on a MongoDB.
    Mongo {
        /// Where the MongoDB is.
        uri: String,
        /// The database.
        database: String,
    },
}

impl Place {
    async fn open(&self) -> anyhow::Result<Arc<dyn LedgerStore>> {
        Ok(match self {
            Self::Sqlite(path) => Arc::new(SqliteLedger::open(path)?),
            Self::Mongo { uri, database } => {
                Arc::new(MongoLedger::connect(uri, database, MongoOptions::default()).await?)
            }
        })
    }
}

/// A ledger that was filled.
#[derive(Debug)]
pub struct Grown {
    /// Where it is kept.
    pub place: Place,
    /// Records that it was filled with; a service that ran on it may have added some.
    pub filled: u64,
    folder: PathBuf,
}

/// The service on such a ledger.
pub struct Running {
    /// The ledger.
    pub ledger: AuditLedger,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

/// How to fill a ledger.
#[derive(Debug, Clone, Copy)]
pub struct Filling {
    /// Records.
    pub size: u64,
    /// Records of one block.
    pub in_a_block: u64,
    /// When to give up.
    pub until: Instant,
}

impl Grown {
    /// Fills an empty ledger as its service would have: blocks, the tiles made of them, and in
    /// `folder` the checkpoint of its end.
    pub async fn fill(
        place: Place,
        folder: PathBuf,
        lives: &Lives,
        filling: Filling,
    ) -> anyhow::Result<Self> {
        let Filling { size, in_a_block, until } = filling;
        let (store, signer) = (place.open().await?, signer()?);
        let mut ledger = Ledger::genesis(signer.first().clone(), Arc::new(seal_keys()));
        let mut tiles = Edge::default();
        let source: Name = "patient-service".parse()?;
        while ledger.size() < size {
            let first = ledger.size();
            ensure!(Instant::now() < until, "only {first} of {size} records in time");
            let (mut text, mut records) = (Vec::new(), Vec::new());
            for seq in first..size.min(first + in_a_block) {
                let (origin, source) = (ledger.origin().clone(), source.clone());
                let record =
                    lives.record(seq)?.into_record(origin, source, ledger.link(), lives::at(seq));
                let line = record.to_line();
                tiles.push(ledger.push(&record, &line)?);
                text.push(line);
                records.push(record);
            }
            store.append(&ledger.close_block(first, text, entries(&records))).await?;
            let changed = tiles.take_changed();
            if !changed.is_empty() {
                store.put_tiles(&changed).await?;
            }
        }
        let grown = Self { place, filled: size, folder };
        let head = TreeHead { size: ledger.size(), root: ledger.root() };
        grown.checkpoint("checkpoint").save(&signer.sign(ledger.keys(), head)?)?;
        Ok(grown)
    }

    /// Starts the service, and says how long that took. The checkpoint that is remembered is that
    /// of the end, as after a stop in good order; without it the whole ledger is verified.
    pub async fn start(&self, remembered: bool) -> anyhow::Result<(Running, Duration)> {
        let begun = Instant::now();
        let parts = Parts {
            store: self.place.open().await?,
            signer: signer()?,
            seal_keys: seal_keys(),
            checkpoint_file: self.checkpoint(if remembered { "checkpoint" } else { "forgotten" }),
            clock: system_clock(),
            outside: Outside::default(),
        };
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        let readiness = Readiness::default();
        let ledger = AuditLedger::open(parts, &readiness, &tasks, &stopping, &stopping).await?;
        Ok((Running { ledger, tasks, stopping }, begun.elapsed()))
    }

    fn checkpoint(&self, name: &str) -> CheckpointFile {
        CheckpointFile::new(self.folder.join(name))
    }
}

impl Running {
    /// Stops the service in good order.
    pub async fn stop(self) {
        let Self { ledger, tasks, stopping } = self;
        drop(ledger);
        stopping.cancel();
        tasks.close();
        tasks.wait().await;
    }
}

fn signer() -> anyhow::Result<CheckpointSigner> {
    let key = new_signing_key(&"bench.vitalog".parse()?, [3; 32]);
    Ok(CheckpointSigner::from_secret(&Secret::new(key.as_bytes()))?)
}

fn seal_keys() -> SealKeys {
    SealKeys::new([4; 32])
}
