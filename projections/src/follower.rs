//! Following the ledger: what the read models miss, they get from here.
//!
//! Patient-service applies its own events at once and mostly the follower finds them applied.
//! It brings the rest: events whose process died or whose write failed, and the whole of
//! `activity`, which nothing else writes.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use audit_client::AuditClient;
use audit_verify::checkpoint::LedgerKey;
use domain::{ids::Name, record::Record, time::Timestamp};
use runtime::health::Component;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    activity,
    backoff::Backoff,
    decode::{self, Decoded, events_by_stream},
    documents::{Generation, Office},
    erasure,
    error::FollowError,
    key_ring::KeyRing,
    repair::Repairer,
    status::age_seconds,
    store::{Applied, ProjectionStore, StoreError},
    tail::Tail,
};

/// How long one read of the ledger waits for a record. The end of a wait is when a quiet
/// follower looks whether another generation serves and whether the ledger was cut off, so it is
/// seconds and not minutes; a new record ends it at once.
const POLL_WAIT: Duration = Duration::from_secs(2);

/// Records followed at once at most; fewer writes are larger writes.
const BATCH: usize = 1_000;

/// Pause between reading records and looking whether they are applied. Patient-service applies
/// its own within milliseconds; without the pause every event would be written twice, and each
/// record would cost a round of its own. Left out where the follower is behind.
const GRACE: Duration = Duration::from_millis(30);

/// How often to look whether another generation serves. What is written to the old one until
/// then harms nothing.
const GENERATION_CHECK: Duration = Duration::from_secs(1);

/// Reads the clock; composition roots give the real one.
pub type Clock = fn() -> Timestamp;

/// What the follower and a rebuild work with.
#[derive(Clone)]
pub struct Deps {
    /// The read models.
    pub store: Arc<dyn ProjectionStore>,
    /// The ledger.
    pub audit: AuditClient,
    /// The keys of the events' content.
    pub ring: KeyRing,
    /// Whose ledger it must be; `None` asks the audit service at start.
    pub ledger_key: Option<LedgerKey>,
    /// The clock, for the lag.
    pub clock: Clock,
}

/// How far the follower is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The generation followed into; 0 before the first round.
    pub generation: u32,
    /// `seq` of the next record.
    pub next_seq: u64,
    /// Age of the last record when it was followed; 0 at the ledger's end.
    pub lag_seconds: u64,
    /// Set when following has stopped for good: the record that stopped it.
    pub stopped_at: Option<u64>,
}

/// Follows the ledger into the generation that serves, until `shutdown`.
///
/// What may go away is tried again, with `component` not ready meanwhile. A broken chain and an
/// event that cannot be applied end this function: nothing after them is followed, `component`
/// stays not ready and names the `seq`, as the log and `progress` do.
pub async fn follow(
    deps: Deps,
    progress: watch::Sender<Progress>,
    shutdown: CancellationToken,
    component: Component,
) {
    let mut backoff = Backoff::default();
    let mut logged = String::new();
    loop {
        let error = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            Err(error) = follow_until_error(&deps, &progress, &component, &mut backoff) => error,
        };
        if let Some(seq) = error.stops_at() {
            stop(seq, &error, &progress, &component);
            return;
        }
        component.not_ready("the ledger or a store is unavailable, trying again");
        let reason = reasons(&error);
        if reason != logged {
            tracing::warn!(error = reason, "following failed, trying again");
            logged = reason;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = backoff.wait() => {}
        }
    }
}

fn stop(seq: u64, error: &FollowError, progress: &watch::Sender<Progress>, component: &Component) {
    tracing::error!(seq, error = reasons(error), "following has stopped");
    progress.send_modify(|progress| progress.stopped_at = Some(seq));
    // Readiness takes texts that live for ever; this one is made once in a process's life.
    component.not_ready(Box::leak(format!("stopped at record {seq}: {error}").into_boxed_str()));
}

/// An error with its sources, whose texts hold no content.
fn reasons(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

async fn follow_until_error(
    deps: &Deps,
    progress: &watch::Sender<Progress>,
    component: &Component,
    backoff: &mut Backoff,
) -> Result<Infallible, FollowError> {
    let origin = deps.origin().await?;
    loop {
        let generation = deps.store.serving().await?;
        let mut session = Session::open(deps, origin.clone(), generation).await?;
        loop {
            let lag_seconds = match session.round().await? {
                Round::Flipped => break,
                Round::Idle => 0,
                Round::Followed { last } => age_seconds((deps.clock)(), last),
            };
            component.ready();
            backoff.reset();
            progress.send_replace(Progress {
                generation: generation.0,
                next_seq: session.tail.next_seq(),
                lag_seconds,
                stopped_at: None,
            });
        }
    }
}

impl Deps {
    /// The ledger key that was given, or the one that the audit service shows.
    pub async fn ledger_key(&self) -> Result<LedgerKey, FollowError> {
        match &self.ledger_key {
            Some(key) => Ok(key.clone()),
            None => Ok(self.audit.verifier_key().await?.parse()?),
        }
    }

    async fn origin(&self) -> Result<Name, FollowError> {
        Ok(self.ledger_key().await?.origin().clone())
    }
}

/// Following into one generation.
struct Session<'a> {
    deps: &'a Deps,
    repairer: Repairer,
    generation: Generation,
    office: Office,
    checked: Instant,
    tail: Tail,
    /// How long the next read waits. The first one does not, so that a start at a quiet ledger
    /// is ready at once.
    wait: Duration,
}

enum Round {
    /// There was no record.
    Idle,
    /// Records were followed, the last recorded then.
    Followed { last: Timestamp },
    /// Another generation serves; nothing was done.
    Flipped,
}

impl<'a> Session<'a> {
    async fn open(
        deps: &'a Deps,
        origin: Name,
        generation: Generation,
    ) -> Result<Self, FollowError> {
        let position = deps.store.position(generation).await?;
        let tail = Tail::resume(deps.audit.clone(), origin, position);
        tail.confirm().await?;
        tracing::info!(generation = generation.0, next_seq = tail.next_seq(), "following");
        let repairer =
            Repairer::new(Arc::clone(&deps.store), deps.audit.clone(), deps.ring.clone());
        let wait = Duration::ZERO;
        let seen = deps.store.office(generation).await?;
        let office = deps.store.take_office(generation, seen, Uuid::new_v4()).await?;
        let office = office.ok_or(StoreError::Fenced)?;
        Ok(Self { deps, repairer, generation, office, checked: Instant::now(), tail, wait })
    }

    /// Follows the next records, if there are any. The position moves strictly after the writes:
    /// whatever ends this early, the next session does the rest again.
    async fn round(&mut self) -> Result<Round, FollowError> {
        let wait = std::mem::replace(&mut self.wait, POLL_WAIT);
        let records = self.tail.next(BATCH, wait).await?;
        if self.is_flipped().await? {
            return Ok(Round::Flipped);
        }
        let Some(position) = self.tail.position().filter(|_| !records.is_empty()) else {
            self.tail.confirm().await?;
            return Ok(Round::Idle);
        };
        if records.len() < BATCH {
            tokio::time::sleep(GRACE).await;
        }
        let activity: Vec<_> =
            records.iter().map(|verified| activity::of_record(&verified.record)).collect();
        self.apply_missing(events_by_stream(records)).await?;
        self.deps.store.write_activity(self.generation, &activity).await?;
        self.deps.store.set_position(self.generation, &position, &self.office).await?;
        Ok(Round::Followed { last: position.at })
    }

    async fn is_flipped(&mut self) -> Result<bool, FollowError> {
        if self.checked.elapsed() < GENERATION_CHECK {
            return Ok(false);
        }
        self.checked = Instant::now();
        Ok(self.deps.store.serving().await? != self.generation)
    }

    /// Applies the events that their streams' cursors have not passed; only those are decrypted.
    async fn apply_missing(&self, mut events: Vec<Record>) -> Result<(), FollowError> {
        if events.is_empty() {
            return Ok(());
        }
        let patients = decode::patients(&events);
        let cursors = self.deps.store.cursors(self.generation, &patients).await?;
        decode::drop_applied(&mut events, &cursors);
        if events.is_empty() {
            return Ok(());
        }
        let streams = decode::changes(&self.deps.audit, &self.deps.ring, &events)
            .await
            .map_err(FollowError::Decode)?;
        let mut changes = Vec::with_capacity(streams.len());
        let mut seqs = Vec::with_capacity(streams.len());
        for stream in streams {
            // An event that cannot be applied stops all following. Parking its stream alone
            // would go in this place.
            let Decoded { change, seq } = stream?;
            changes.push(change);
            seqs.push(seq);
        }
        let results = self.deps.store.apply(self.generation, &changes).await?;
        for erasure in changes.iter().filter(|change| change.erased.is_some()) {
            erasure::complete(self.deps.store.as_ref(), &self.deps.ring, erasure).await?;
        }
        for ((change, seq), result) in changes.iter().zip(seqs).zip(results) {
            if let Applied::Gap { at } = result {
                let repaired = self.repairer.repair(self.generation, change.patient, at).await;
                repaired.map_err(|source| FollowError::Repair { seq, source })?;
            }
        }
        Ok(())
    }
}
