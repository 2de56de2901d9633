//! The running service: the appender's task, the remembered checkpoint, and what handlers use.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use audit_verify::key_history::KeyHistory;
use domain::{ids::Name, record::Record, time::Timestamp};
use opentelemetry::metrics::Meter;
use runtime::{health::Readiness, retry};
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    anchor::{Anchor, AnchorError, anchored},
    appender::{Appender, Head},
    checkpoint::{CheckpointError, CheckpointFile, CheckpointSigner, TreeHead},
    clock::{Clock, ClockGuard},
    key_lookup::{look_up, remembered, require_newest},
    ledger::Ledger,
    metrics::LedgerMetrics,
    notary::Notary,
    outside::{Outside, outage::Outage},
    proofs::Proofs,
    prover::Prover,
    queue::Queue,
    recent::Recent,
    seal::SealKeys,
    start::{self, StartError},
    store::{LedgerStore, StoreError},
    tail::TailGuard,
    tiler::Tiler,
    witness::book::CosignedBook,
};

/// How often the newest checkpoint is written to the checkpoint file.
const REMEMBER: Duration = Duration::from_secs(1);

/// All that a ledger needs to run.
pub struct Parts {
    /// Where blocks are kept.
    pub store: Arc<dyn LedgerStore>,
    /// Signs checkpoints, with the current key or the next; names the ledger.
    pub signer: CheckpointSigner,
    /// Seals blocks.
    pub seal_keys: SealKeys,
    /// Remembers the highest checkpoint.
    pub checkpoint_file: CheckpointFile,
    /// The time.
    pub clock: Clock,
    /// Witnesses and anchors.
    pub outside: Outside,
}

/// A handle to the running ledger; clones share it.
#[derive(Clone)]
pub struct AuditLedger {
    /// Appends.
    pub queue: Queue,
    /// The end of the ledger; changes as it grows.
    pub head: watch::Receiver<Head>,
    /// Where blocks are kept, for readers.
    pub store: Arc<dyn LedgerStore>,
    /// Proofs and tiles.
    pub proofs: Proofs,
    notary: Arc<Notary>,
    cosigned: Arc<CosignedBook>,
}

/// Why a ledger does not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The stored ledger was refused.
    #[error("the ledger was refused")]
    Start(#[from] StartError),
    /// The checkpoint file cannot be used.
    #[error("the remembered checkpoint cannot be used")]
    Checkpoint(#[from] CheckpointError),
    /// An anchor cannot be read, or keeps what is not this ledger's; this process remembers no checkpoint
    /// itself, so it cannot tell whether the store was cut back.
    #[error("the anchor {anchor} does not say what was signed before: {why}")]
    Anchored {
        /// The anchor.
        anchor: String,
        /// Why not.
        why: AnchorError,
    },
    /// The process was told to stop while it waited for the store.
    #[error("stopped while waiting for the ledger store")]
    Stopped,
}

impl AuditLedger {
    /// Verifies the stored ledger and starts its tasks on `tasks`. They end when the last handle
    /// is dropped. `shutdown` gives up waiting for the store at start, `abandon` for one that
    /// does not say what became of a block.
    pub async fn open(
        parts: Parts,
        readiness: &Readiness,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
        abandon: &CancellationToken,
    ) -> Result<Self, OpenError> {
        let meter = runtime::metrics::meter();
        Self::open_measured(parts, readiness, tasks, shutdown, abandon, &meter).await
    }

    /// As [`AuditLedger::open`], measured with this meter.
    pub async fn open_measured(
        parts: Parts,
        readiness: &Readiness,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
        abandon: &CancellationToken,
        meter: &Meter,
    ) -> Result<Self, OpenError> {
        let metrics = LedgerMetrics::new(meter);
        let component = readiness.component("ledger store");
        let Parts { store, signer, seal_keys, checkpoint_file, clock, outside } = parts;
        let (ledger, signs_since) = Opening {
            store: &*store,
            signer: &signer,
            file: &checkpoint_file,
            anchors: &outside.anchors,
        }
        .verified(Arc::new(seal_keys), &component, shutdown)
        .await?;
        if let Some(time) = signs_since {
            metrics.signs_since(time);
        }
        let signer = Arc::new(signer);
        let guard = ClockGuard::new(clock.clone());
        guard.compare(&*store).await;
        let (keys, known_keys) = watch::channel(ledger.keys().clone());
        let remembering = readiness.component("checkpoint file");
        let notary =
            Arc::new(Notary::new(signer.clone(), known_keys, checkpoint_file, remembering));
        let opened = head_of(&ledger);
        notary.sign(TreeHead { size: opened.size, root: opened.root }).await?;
        let (queue, items) = Queue::new(metrics.clone());
        let (head, watcher) = watch::channel(opened);
        metrics.observe(meter, watcher.clone(), &notary, clock);
        let mut tail = TailGuard::default();
        if let Some(last) = store.head().await.map_err(StartError::from)?
            && last.end() == ledger.size()
        {
            tail.moved_to(&last);
        }
        let (tree, trees) = watch::channel(ledger.frontier().clone());
        let (prover, waits) = Prover::new();
        let (rebuild, asked) = mpsc::channel(1);
        let tiled = Arc::new(AtomicU64::new(0));
        let proofs = Proofs::new(store.clone(), trees, tiled.clone(), rebuild);
        let appender = Appender {
            store: store.clone(),
            ledger,
            recent: Recent::default(),
            signer,
            keys,
            tree,
            prover,
            head,
            tail,
            clock: guard.clone(),
            component,
            abandon: abandon.clone(),
            metrics,
        };
        tasks.spawn(appender.run(items));
        tasks.spawn(waits.run(notary.clone()));
        let (head, again) = (watcher.clone(), 0);
        tasks.spawn(Tiler { store: store.clone(), head, tiled, rebuild: asked, again }.run());
        tasks.spawn(guard.keep_comparing(store.clone(), abandon.clone()));
        tasks.spawn(remember(watcher.clone(), notary.clone()));
        let cosigned = outside.start(&watcher, &notary, &proofs, tasks, meter);
        Ok(Self { queue, head: watcher, store, proofs, notary, cosigned })
    }

    /// The ledger's origin.
    pub fn origin(&self) -> &Name {
        self.notary.origin()
    }

    /// The keys that signed and sign checkpoints, as far as this process has the ledger.
    pub fn keys(&self) -> KeyHistory {
        self.notary.keys()
    }

    /// The signed checkpoint of the head, with the cosignatures that it has. Only durable blocks
    /// reach the head, so no signed root of a history that never was can exist.
    pub async fn checkpoint(&self) -> Result<String, CheckpointError> {
        let Head { size, root, .. } = *self.head.borrow();
        let note = self.notary.sign(TreeHead { size, root }).await?;
        Ok(self.cosigned.with_cosignatures(note))
    }

    /// The newest checkpoint that every witness cosigned, else the one that most did.
    pub fn witnessed_checkpoint(&self) -> Option<String> {
        self.cosigned.witnessed()
    }

    /// The signed checkpoint of a tree that was proven to be one of this ledger.
    pub(crate) async fn sign(&self, proven: TreeHead) -> Result<String, CheckpointError> {
        self.notary.sign(proven).await
    }
}

/// What a stored ledger is opened with.
struct Opening<'a> {
    store: &'a dyn LedgerStore,
    signer: &'a CheckpointSigner,
    file: &'a CheckpointFile,
    anchors: &'a [(String, Arc<dyn Anchor>)],
}

impl Opening<'_> {
    /// Waits for a store or an anchor that cannot be reached.
    async fn verified(
        &self,
        seal_keys: Arc<SealKeys>,
        component: &runtime::health::Component,
        shutdown: &CancellationToken,
    ) -> Result<(Ledger, Option<Timestamp>), OpenError> {
        let opened = retry::until_ready("ledger store", component, shutdown, || async {
            match self.once(seal_keys.clone()).await {
                Err(error) if error.may_pass() => Err(error),
                // Anything else is an answer, and waiting does not change it.
                answer => Ok(answer),
            }
        });
        let (ledger, signs_since) =
            opened.await.ok_or(OpenError::Stopped)?.inspect_err(|error| {
                component.not_ready("the stored ledger was refused");
                let error = error as &dyn std::error::Error;
                tracing::error!(error, "the stored ledger was refused");
            })?;
        tracing::info!(origin = %ledger.origin(), size = ledger.size(), "the ledger is open");
        Ok((ledger, signs_since))
    }

    /// The ledger, and since when its key signs as far as that can be found.
    async fn once(
        &self,
        seal_keys: Arc<SealKeys>,
    ) -> Result<(Ledger, Option<Timestamp>), OpenError> {
        let Self { store, signer, file, anchors } = *self;
        let looked_up = look_up(store, signer).await?;
        looked_up.check_known(&file.known_keys()?)?;
        let signed_before = match remembered(file, &looked_up, signer)? {
            None => anchored::newest(anchors, signer.origin(), &looked_up.keys)
                .await
                .map_err(|(anchor, why)| OpenError::Anchored { anchor, why })?,
            remembered => remembered,
        };
        let ledger = start::open(store, &looked_up, seal_keys, signed_before).await?;
        require_newest(ledger.keys(), signer)?;
        let signs_since = match looked_up.rotated {
            Some(time) => Some(time),
            None => first_record(store).await,
        };
        Ok((ledger, signs_since))
    }
}

impl OpenError {
    /// Whether it is about reaching the store or an anchor.
    fn may_pass(&self) -> bool {
        match self {
            Self::Start(StartError::Store(error)) => matches!(error, StoreError::Unavailable(_)),
            Self::Anchored { why, .. } => why.may_pass(),
            _ => false,
        }
    }
}

async fn first_record(store: &dyn LedgerStore) -> Option<Timestamp> {
    let block = store.block_at(0).await.ok()??;
    Some(Record::parse(block.line_at(0)?).ok()?.recorded_at)
}

fn head_of(ledger: &Ledger) -> Head {
    Head { size: ledger.size(), root: ledger.root(), at: ledger.link().at, wakes: 0 }
}

/// Remembers the newest checkpoint until the appender is gone, and once more then.
async fn remember(mut head: watch::Receiver<Head>, notary: Arc<Notary>) {
    let mut outage = Outage::default();
    let mut remembered = true;
    loop {
        // What failed is tried again though nothing new comes: readiness hangs on it.
        let ended =
            if remembered { head.changed().await.is_err() } else { head.has_changed().is_err() };
        let Head { size, root, .. } = *head.borrow_and_update();
        let signed = notary.sign(TreeHead { size, root }).await;
        remembered = signed.is_ok();
        match signed {
            Ok(_) if outage.ends() => tracing::info!("the checkpoint file is written again"),
            Ok(_) => {}
            Err(error) => {
                if outage.begins(&error.to_string()) {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "the checkpoint file could not be written");
                }
            }
        }
        if ended {
            return;
        }
        let mut stopping = head.clone();
        // Ends when the appender does, so that a stop does not wait for the pause.
        let _ = tokio::time::timeout(REMEMBER, stopping.wait_for(|_| false)).await;
    }
}

/// The time of the machine.
#[allow(clippy::disallowed_methods)]
pub fn system_clock() -> Clock {
    Arc::new(|| Timestamp::from(chrono::Utc::now()))
}
