//! Making the read models anew from the ledger, beside those that serve.
//!
//! Three tasks work on a generation at once: one reads and verifies records, one looks at the
//! streams' cursors and decrypts, one writes; batches go through them in the ledger's order.
//! Whatever ends a build, the next one goes on from its note ([`note::Note`]). The note is
//! trusted as much as the documents beside it: whoever can change one can change the other. What
//! it says of the ledger need not be believed, because the root at the next signed checkpoint
//! comes out right only from the right frontier.

mod build;
mod claim;
mod decoder;
mod flip;
pub mod note;
mod progress;
mod reader;

use std::time::{Duration, Instant};

use domain::{hash::Hash, record::Record, time::Timestamp};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub(crate) use self::{
    build::Build,
    claim::{discard, take_office},
};
use self::{claim::Claimed, note::Stage};
use crate::{
    backoff::persist,
    compare::Differing,
    digest::{Digest, MAX_DIFFERENCES},
    documents::{Generation, Office},
    erasure,
    error::{FollowError, RebuildError},
    follower::Deps,
    office::{self, Terms},
    store::{ProjectionStore, StoreError},
};

/// How long a process that serves goes by what it read of the generations in use; it asks again
/// before, and serves nothing where it gets no answer. A rebuild waits longer than this between
/// letting commands write to its generation and letting that serve.
pub const POINTER_LIFETIME: Duration = Duration::from_secs(4);

/// The longest that a request may take which reads the generation that served when it came.
pub const LONGEST_REQUEST: Duration = Duration::from_secs(10);

/// Between two processes' waits: what neither of the times above counts.
const MARGIN: Duration = Duration::from_secs(1);

/// Records read and applied at once. Ids are random, so that a page of an index is written once
/// for each batch that touches it: with 1,000 a rebuild took half as long again. More hold a
/// command that writes to the same file for longer than a tenth of a second.
const BATCH: usize = 5_000;

/// The ledger's state that a generation is to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Until {
    /// As of this record, the last whose event is applied.
    Seq(u64),
    /// As of this time: events recorded then or before are applied.
    Time(Timestamp),
}

impl Until {
    /// Whether an event of this record belongs to the state.
    pub(crate) fn covers(self, record: &Record) -> bool {
        match self {
            Self::Seq(last) => record.seq <= last,
            Self::Time(last) => record.recorded_at <= last,
        }
    }
}

/// What to build, and what to do with it.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// An earlier state, which is kept and does not serve; `None` for all of the ledger.
    pub until: Option<Until>,
    /// Drop what unfinished builds left and begin anew. What is complete stays.
    pub fresh: bool,
    /// What to do with a generation that shows all of the ledger.
    pub then: Then,
    /// Show a bar on standard error where that is a terminal.
    pub bar: bool,
    /// Pauses and sizes.
    pub pace: Pace,
}

/// What to do with a new generation once it is verified and compared with the one that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Then {
    /// Let it serve, whatever differs: it is verified, the other one is not.
    #[default]
    Serve,
    /// Let it serve only if no document differs; else keep it.
    ServeIfEqual,
    /// Drop it.
    Drop,
}

/// How long to wait for others, and how much to do at once. Other values than the default ones
/// are for tests.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Records in a batch.
    pub batch: usize,
    /// After commands were told of one more generation, until all of them know. More than
    /// [`POINTER_LIFETIME`].
    pub joined: Duration,
    /// After a generation began to serve, until no request reads the one before. More than
    /// [`POINTER_LIFETIME`] and [`LONGEST_REQUEST`].
    pub settled: Duration,
    /// How the office is taken and kept.
    pub terms: Terms,
    /// Between two looks at something that others change.
    pub look: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            batch: BATCH,
            joined: POINTER_LIFETIME + MARGIN,
            settled: POINTER_LIFETIME + LONGEST_REQUEST + MARGIN,
            terms: Terms::default(),
            look: Duration::from_millis(100),
        }
    }
}

/// What a rebuild made.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The new generation.
    pub generation: u32,
    /// Whether it serves now. Where not: it is kept, or was dropped after a dry run.
    pub serves: bool,
    /// The state that it shows; `None` for all of the ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
    /// Records that an earlier, unfinished build had read already.
    pub resumed_at: u64,
    /// Records read and verified, those of an earlier build included.
    pub records: u64,
    /// Events of patients applied, those of an earlier build included.
    pub events: u64,
    /// Patients in the new generation, tombstones included.
    pub patients: u64,
    /// Tests in the new generation, tombstones included.
    pub tests: u64,
    /// Digest of the new generation.
    pub digest: Hash,
    /// Documents that differed from those of the generation that served, at most
    /// [`crate::digest::MAX_DIFFERENCES`].
    pub differences: Vec<Differing>,
    /// Comparing stopped at so many differences; there may be more.
    pub differences_cut: bool,
    /// Unfinished generations that were dropped first, as was asked for.
    pub dropped: Vec<u32>,
    /// How long it took until the ledger's end was near for the first time: without the waits and
    /// the comparison after that.
    pub build_seconds: f64,
    /// How long it took in all.
    pub seconds: f64,
}

/// Makes a new generation from the ledger's first record on, and lets it serve.
///
/// Every link of the chain is checked, and the Merkle root of what was read is compared with
/// that of a signed checkpoint at the very size where reading ends; the ledger's key, or one to
/// which it was rotated in the records read, must have signed that. The generation that served
/// before is kept in any case, and serves on where this fails.
///
/// On `shutdown` and on failures that may go away the unfinished generation is kept, and the next
/// call with the same `until` goes on there; [`RebuildError::Busy`] where the process that builds
/// it is alive. Where the ledger does not verify, or an event cannot be applied, it is dropped.
pub async fn rebuild(
    deps: &Deps,
    options: &Options,
    shutdown: &CancellationToken,
) -> Result<Summary, RebuildError> {
    let started = Instant::now();
    let prepared = async {
        let key = persist("asking for the ledger's key", || deps.ledger_key()).await?;
        let (store, ring) = (deps.store.as_ref(), &deps.ring);
        persist("re-applying erasures", || {
            erasure::reapply(store, ring, &deps.audit, key.origin())
        })
        .await
        .map_err(FollowError::from)?;
        let claimed = claim::claim(deps, options).await?;
        Ok::<_, RebuildError>((key, claimed))
    };
    let (key, mut claimed) = tokio::select! {
        biased;
        () = shutdown.cancelled() => return Err(RebuildError::Interrupted),
        prepared = prepared => prepared?,
    };
    let Claimed { generation, office, .. } = claimed;
    let unfinished = std::mem::take(&mut claimed.dropped);
    let terms = options.pace.terms;
    let work = async {
        let mut build = Build::resume(deps, options, key, claimed).await?;
        build.catch_up().await?;
        let build_seconds = started.elapsed().as_secs_f64();
        Ok(Summary { build_seconds, ..build.put_to_use(options).await? })
    };
    let result = tokio::select! {
        biased;
        () = shutdown.cancelled() => Err(RebuildError::Interrupted),
        result = work => result,
        fenced = office::keep(deps.store.as_ref(), generation, &office, terms.beat) => {
            Err(fenced.into())
        }
    };
    let dropped = match &result {
        Ok(_) => options.until.is_none() && options.then == Then::Drop,
        Err(error) => error.is_final(),
    };
    let store = deps.store.as_ref();
    let mut summary = leave(store, generation, office, result, dropped, &options.pace).await?;
    summary.dropped = unfinished;
    summary.seconds = started.elapsed().as_secs_f64();
    Ok(summary)
}

/// Leaves a generation at the end of the work on it, whatever the end was, and passes that on.
///
/// Where another has taken office, that is the end: what was found wrong is perhaps the other's
/// doing, and the generation is the other's. Where the store fails, the next one waits until it
/// takes this process for dead.
pub(crate) async fn leave<T>(
    store: &dyn ProjectionStore,
    generation: Generation,
    office: Office,
    result: Result<T, RebuildError>,
    dropped: bool,
    pace: &Pace,
) -> Result<T, RebuildError> {
    let left = async {
        let serves = store.serving().await? == generation;
        if !serves || result.is_err() {
            store.beat(generation, &office).await?;
        }
        if !serves && dropped {
            return discard(store, generation, &office, pace).await;
        }
        if !serves {
            // Commands need not write to one that nobody brings on.
            store.settle(generation).await?;
        }
        office::leave(store, generation, &office).await;
        Ok(())
    };
    match left.await {
        Err(StoreError::Fenced) => return Err(StoreError::Fenced.into()),
        Err(error) => tracing::warn!(generation = generation.0, %error, "not left in good order"),
        Ok(()) => {}
    }
    result
}

/// Whether comparing stopped before its end.
fn is_cut(differences: &[Differing]) -> bool {
    differences.len() >= MAX_DIFFERENCES
}

impl Build<'_> {
    /// Lets a generation that is caught up serve, or whatever else is to become of it.
    async fn put_to_use(&mut self, options: &Options) -> Result<Summary, RebuildError> {
        let serving = self.deps.store.serving().await?;
        if self.note.until.is_some() {
            self.note.stage = Stage::Ready;
            self.save().await?;
            let digest = self.digest().await?;
            return Ok(self.summary(digest, false, Vec::new()));
        }
        if options.then == Then::Drop {
            let differences = self.compare(serving).await?;
            let digest = self.digest().await?;
            return Ok(self.summary(digest, false, differences));
        }
        self.join().await?;
        let differences = self.compare(serving).await?;
        if options.then == Then::ServeIfEqual && !differences.is_empty() {
            self.note.stage = Stage::Ready;
            self.save().await?;
            let digest = self.digest().await?;
            return Ok(self.summary(digest, false, differences));
        }
        self.activate(serving).await?;
        let digest = self.settle(serving).await?;
        Ok(self.summary(digest, true, differences))
    }

    fn summary(&self, digest: Digest, serves: bool, differences: Vec<Differing>) -> Summary {
        let Generation(generation) = self.generation;
        let Digest { hash, patients, tests, .. } = digest;
        let (records, events) = (self.note.size(), self.note.events);
        tracing::info!(generation, serves, records, events, patients, "rebuilt");
        Summary {
            generation,
            serves,
            until: self.note.until,
            resumed_at: self.resumed_at,
            records,
            events,
            patients,
            tests,
            digest: hash,
            differences_cut: is_cut(&differences),
            differences,
            dropped: Vec::new(),
            build_seconds: 0.0,
            seconds: 0.0,
        }
    }
}
