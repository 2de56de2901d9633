//! Making the read models anew from the ledger, beside those that serve.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use audit_verify::{
    checkpoint::{CheckpointError, LedgerKey, TreeHead, read_unverified},
    key_history::KeyHistory,
};
use domain::{
    hash::Hash,
    ids::{PatientId, Stream},
    merkle::Frontier,
    record::Record,
};
use futures::try_join;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    activity,
    backoff::{Backoff, Tries, persist},
    change::StreamChange,
    decode::{self, Decoded, events_by_stream},
    digest::{Digest, digest},
    documents::{Generation, Office, Position},
    erasure,
    error::{FollowError, NotApplicable, NotApplicableReason, RebuildError, RepairError},
    follower::Deps,
    store::{Applied, StoreError},
    tail::{Tail, Verified},
};

/// How long a process that serves goes by what it read of the generations in use; it asks again
/// before, and serves nothing where it gets no answer. A rebuild waits longer than this between
/// letting commands write to its generation and letting that serve.
pub const POINTER_LIFETIME: Duration = Duration::from_secs(4);

/// Records read and applied at once: larger writes gain little and hold more in memory.
const BATCH: usize = 1_000;

/// Batches read and verified ahead of the one that is applied.
const READ_AHEAD: usize = 2;

/// Records that a generation may lack when it begins to serve. Its follower brings them in one
/// batch, within its next read of the ledger.
const CAUGHT_UP: u64 = 200;

/// Checkpoints read up to at most, each taken after the one before was reached. Where so many
/// do not end within [`CAUGHT_UP`] of the ledger's end, records come faster than they are applied.
const MAX_ROUNDS: u32 = 100;

/// How long one read waits for a record that the checkpoint says is there.
const READ_WAIT: Duration = Duration::from_secs(2);

/// Such reads in a row that may be empty: a replica of the audit service may be a little behind
/// the one that gave the checkpoint.
const MAX_EMPTY_READS: u32 = 5;

/// Between two lines of progress in the log.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// What a rebuild made.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The new generation, which serves now.
    pub generation: u32,
    /// Records read and verified.
    pub records: u64,
    /// Events of patients among them.
    pub events: u64,
    /// Patients in the new generation, tombstones included.
    pub patients: u64,
    /// Tests in the new generation, tombstones included.
    pub tests: u64,
    /// Digest of the new generation when it began to serve.
    pub digest: Hash,
    /// How long it took.
    pub seconds: f64,
}

/// Makes a new generation from the ledger's first record on, and lets it serve.
///
/// Every link of the chain is checked, and the Merkle root of what was read is compared with
/// that of a signed checkpoint at the very size where reading ends; the ledger's key, or one to
/// which it was rotated in the records read, must have signed that. On any failure, and on
/// `shutdown`, the new generation is dropped and the old one goes on serving. The old one is
/// kept in any case.
pub async fn rebuild(deps: &Deps, shutdown: &CancellationToken) -> Result<Summary, RebuildError> {
    let key = persist("asking for the ledger's key", || deps.ledger_key()).await?;
    let generation = persist("making a generation", || async {
        deps.store.create().await.map_err(FollowError::from)
    })
    .await?;
    tracing::info!(generation = generation.0, "rebuilding");
    let office = persist("taking office", || async {
        let taken = deps.store.take_office(generation, None, Uuid::new_v4()).await;
        taken.and_then(|office| office.ok_or(StoreError::Fenced)).map_err(FollowError::from)
    })
    .await?;
    let mut build = Build::new(deps, key, generation, office);
    let result = tokio::select! {
        biased;
        () = shutdown.cancelled() => Err(RebuildError::Interrupted),
        result = build.run() => result,
    };
    match result {
        Ok(summary) => Ok(summary),
        Err(error) => {
            // One that stays is never served and is dropped by hand.
            if let Err(error) = deps.store.drop_generation(generation).await {
                tracing::warn!(generation = generation.0, %error, "unfinished generation is left");
            }
            Err(error)
        }
    }
}

struct Build<'a> {
    deps: &'a Deps,
    key: LedgerKey,
    generation: Generation,
    office: Office,
    started: Instant,
    reported: Instant,
    records: u64,
    events: u64,
    /// The last version of each stream: an event that repeats one would change nothing, and must
    /// not pass in silence.
    versions: HashMap<PatientId, u64>,
}

fn check_version(
    versions: &mut HashMap<PatientId, u64>,
    record: &Record,
) -> Result<(), NotApplicable> {
    let Some((Stream::Patient(patient), version)) = record.stream_version() else { return Ok(()) };
    let last = versions.entry(patient).or_insert(0);
    if version != *last + 1 {
        let (seq, reason) = (record.seq, NotApplicableReason::Version);
        return Err(NotApplicable { patient, seq, reason });
    }
    *last = version;
    Ok(())
}

impl<'a> Build<'a> {
    fn new(deps: &'a Deps, key: LedgerKey, generation: Generation, office: Office) -> Self {
        let started = Instant::now();
        Self {
            deps,
            key,
            generation,
            office,
            started,
            reported: started,
            records: 0,
            events: 0,
            versions: HashMap::new(),
        }
    }

    async fn run(&mut self) -> Result<Summary, RebuildError> {
        let tail = Tail::resume(self.deps.audit.clone(), self.key.origin().clone(), None);
        let keys = KeyHistory::with(self.key.clone());
        let mut reader = Reader { tail, frontier: Frontier::default(), keys };
        let mut backoff = Backoff::default();
        for _ in 0..MAX_ROUNDS {
            let note = self.checkpoint().await?;
            let size = self.size_of(&note)?;
            let Some(behind) = size.checked_sub(reader.frontier.size()) else {
                // Of a replica that is behind the one before.
                backoff.wait().await;
                continue;
            };
            reader = self.round(reader, &note, size).await?;
            if behind <= CAUGHT_UP {
                return self.finish().await;
            }
        }
        Err(RebuildError::NotCaughtUp)
    }

    async fn checkpoint(&self) -> Result<String, RebuildError> {
        persist("asking for a checkpoint", || async {
            self.deps.audit.checkpoint().await.map_err(FollowError::from)
        })
        .await
        .map_err(RebuildError::from)
    }

    /// How far a checkpoint goes. Which key has to have signed it is known when that is read.
    fn size_of(&self, note: &str) -> Result<u64, RebuildError> {
        let (origin, head) = read_unverified(note)?;
        if origin == *self.key.origin() {
            Ok(head.size)
        } else {
            Err(CheckpointError::Origin.into())
        }
    }

    /// Reads and applies up to a checkpoint, verifies it and compares with it.
    async fn round(
        &mut self,
        reader: Reader,
        note: &str,
        size: u64,
    ) -> Result<Reader, RebuildError> {
        let (batches, mut ready) = mpsc::channel(READ_AHEAD);
        let reading = tokio::spawn(reader.read_to(size, batches));
        while let Some(batch) = ready.recv().await {
            self.apply(batch).await?;
            self.report(size);
        }
        let reader = reading.await.map_err(|_| RebuildError::Interrupted)??;
        let TreeHead { root, .. } = reader.keys.open(note)?;
        if reader.frontier.root() != root {
            return Err(RebuildError::Root { size });
        }
        Ok(reader)
    }

    async fn apply(&mut self, batch: Batch) -> Result<(), RebuildError> {
        let Deps { store, audit, ring, .. } = self.deps;
        let generation = self.generation;
        for Verified { record, .. } in &batch.records {
            check_version(&mut self.versions, record).map_err(FollowError::from)?;
        }
        let activity: Vec<_> =
            batch.records.iter().map(|verified| activity::of_record(&verified.record)).collect();
        let events = events_by_stream(batch.records);
        let streams = persist("decrypting events", || async {
            decode::changes(audit, ring, &events).await.map_err(FollowError::Decode)
        })
        .await?;
        let streams =
            streams.into_iter().collect::<Result<Vec<_>, _>>().map_err(FollowError::from)?;
        let (seqs, changes): (Vec<u64>, Vec<StreamChange>) =
            streams.into_iter().map(|Decoded { seq, change }| (seq, change)).unzip();
        let (applied, ()) = try_join!(
            persist("applying events", || async {
                if changes.is_empty() {
                    return Ok(Vec::new());
                }
                store.apply(generation, &changes).await.map_err(FollowError::from)
            }),
            persist("writing activity", || async {
                store.write_activity(generation, &activity).await.map_err(FollowError::from)
            }),
        )?;
        for erasure in changes.iter().filter(|change| change.erased.is_some()) {
            persist("completing an erasure", || async {
                let completed = erasure::complete(store.as_ref(), ring, erasure).await;
                completed.map_err(FollowError::from)
            })
            .await?;
        }
        for (seq, applied) in seqs.into_iter().zip(applied) {
            if let Applied::Gap { at } = applied {
                // Everything before was applied in order, so nothing is there to repair from.
                let source = RepairError::StillBehind { at };
                return Err(FollowError::Repair { seq, source }.into());
            }
        }
        persist("writing the position", || async {
            let moved = store.set_position(generation, &batch.position, &self.office).await;
            moved.map_err(FollowError::from)
        })
        .await?;
        self.records = batch.position.next_seq;
        self.events += events.len() as u64;
        Ok(())
    }

    async fn finish(&self) -> Result<Summary, RebuildError> {
        let Deps { store, .. } = self.deps;
        // At once: while the digest is read, a busy ledger would get far ahead again.
        persist("letting the generation serve", || async {
            store.activate(self.generation).await.map_err(FollowError::from)
        })
        .await?;
        let Digest { hash, patients, tests, .. } = persist("reading for the digest", || async {
            digest(store.as_ref(), self.generation).await.map_err(FollowError::from)
        })
        .await?;
        let Self { records, events, .. } = *self;
        let seconds = self.started.elapsed().as_secs_f64();
        let generation = self.generation.0;
        tracing::info!(generation, records, events, patients, seconds, "rebuilt, and serving");
        Ok(Summary { generation, records, events, patients, tests, digest: hash, seconds })
    }

    fn report(&mut self, of: u64) {
        if self.reported.elapsed() < PROGRESS_EVERY {
            return;
        }
        self.reported = Instant::now();
        let seconds = self.started.elapsed().as_secs().max(1);
        let records = self.records;
        tracing::info!(records, of, records_per_second = records / seconds, "rebuilding");
    }
}

/// Records that follow from all before them, and the place after them.
struct Batch {
    records: Vec<Verified>,
    position: Position,
}

/// Reads ahead of what is applied.
struct Reader {
    tail: Tail,
    frontier: Frontier,
    keys: KeyHistory,
}

impl Reader {
    async fn read_to(
        mut self,
        size: u64,
        batches: mpsc::Sender<Batch>,
    ) -> Result<Self, RebuildError> {
        let mut empty_reads = 0;
        while self.frontier.size() < size {
            let left = usize::try_from(size - self.frontier.size()).unwrap_or(BATCH);
            let mut tries = Tries::of("reading the ledger");
            let records = loop {
                match self.tail.next(left.min(BATCH), READ_WAIT).await {
                    Ok(records) => break records,
                    Err(error) => tries.again(FollowError::from(error)).await?,
                }
            };
            let Some(position) = self.tail.position().filter(|_| !records.is_empty()) else {
                empty_reads += 1;
                if empty_reads > MAX_EMPTY_READS {
                    return Err(RebuildError::Size { read: self.frontier.size(), size });
                }
                continue;
            };
            empty_reads = 0;
            for verified in &records {
                self.frontier.push(verified.hash);
                self.keys.follow(&verified.record)?;
            }
            if batches.send(Batch { records, position }).await.is_err() {
                return Err(RebuildError::Interrupted);
            }
        }
        Ok(self)
    }
}
