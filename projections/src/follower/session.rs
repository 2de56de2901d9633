//! Following into one generation while in office.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use runtime::spans::{self, TARGET};
use runtime::trace_context::TraceContext;
use tracing::{Instrument, Span, field::Empty};

use crate::{
    activity,
    decode::events_by_stream,
    documents::{Generation, Office, Position},
    erasure,
    error::FollowError,
    office::Stillness,
    repair::Repairer,
    status::age_seconds,
    tail::{Tail, Verified},
};

use super::{Deps, Options, Progress, parking::ParkedStreams};

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

/// How often to look at the pointer. What is written to the old generation until then harms
/// nothing.
const POINTER_CHECK: Duration = Duration::from_secs(1);

/// How often keys of old search criteria are looked for.
const KEYS_CHECK: Duration = Duration::from_hours(24);

/// How soon to try that again where it failed.
const KEYS_RETRY: Duration = Duration::from_mins(1);

/// The span of a round, the beginning of a trace; none where that is not sampled.
fn follow_span(records: usize) -> Span {
    if !spans::is_wanted(TraceContext::generate()) {
        return Span::none();
    }
    tracing::info_span!(
        target: TARGET,
        parent: None,
        "follow",
        // Numbers without a sign would be sent as texts.
        records = i64::try_from(records).unwrap_or(i64::MAX),
        otel.status_code = Empty,
        error.type = Empty,
    )
}

/// Following into one generation.
pub(super) struct Session<'a> {
    pub(super) deps: &'a Deps,
    pub(super) options: Options,
    pub(super) repairer: Repairer,
    pub(super) generation: Generation,
    pub(super) office: Office,
    pub(super) tail: Tail,
    pub(super) parked: ParkedStreams,
    /// The other generation that commands write to, and who is in office there.
    pub(super) also: Stillness<(Generation, Option<Office>)>,
    pointer_checked: Instant,
    keys_due: Instant,
    /// How long the next read waits. The first one does not, so that a start at a quiet ledger
    /// is ready at once.
    pub(super) wait: Duration,
}

impl<'a> Session<'a> {
    /// Goes on where the one before ended. Keys of erased patients that a backup brought back
    /// are destroyed before anything is followed.
    pub(super) async fn open(
        deps: &'a Deps,
        options: Options,
        generation: Generation,
        office: Office,
    ) -> Result<Self, FollowError> {
        let store = &deps.store;
        let origin = deps.origin().await?;
        erasure::reapply(store.as_ref(), &deps.ring, &deps.audit, &origin).await?;
        let position = store.position(generation).await?;
        let tail = Tail::resume(deps.audit.clone(), origin, position);
        tail.confirm().await?;
        let parked = ParkedStreams::load(store.as_ref(), generation).await?;
        tracing::info!(
            generation = generation.0,
            next_seq = tail.next_seq(),
            parked = parked.count(),
            "following"
        );
        let repairer = Repairer::new(Arc::clone(store), deps.audit.clone(), deps.ring.clone());
        let now = Instant::now();
        Ok(Self {
            deps,
            options,
            repairer,
            generation,
            office,
            tail,
            parked,
            also: Stillness::default(),
            pointer_checked: now,
            keys_due: now,
            wait: Duration::ZERO,
        })
    }

    /// Follows the next records, if there are any; `None` where another generation serves. The
    /// position moves strictly after the writes: whatever ends this early, the next session does
    /// the rest again.
    pub(super) async fn round(&mut self) -> Result<Option<Progress>, FollowError> {
        let wait = std::mem::replace(&mut self.wait, POLL_WAIT);
        let records = self.tail.next(BATCH, wait).await?;
        if self.is_flipped().await? {
            return Ok(None);
        }
        self.tend_parked().await?;
        self.tend_keys().await;
        let Some(position) = self.tail.position().filter(|_| !records.is_empty()) else {
            self.tail.confirm().await?;
            return Ok(Some(self.progress(self.tail.position(), 0)));
        };
        if records.len() < BATCH {
            tokio::time::sleep(GRACE).await;
        }
        // Nobody called: a record names its trace and no span in it, so there is nothing to link.
        let span = follow_span(records.len());
        let followed = self.write(records, position).instrument(span.clone()).await;
        if followed.is_err() {
            spans::fail(&span, "follow");
        }
        followed?;
        let lag_seconds = age_seconds((self.deps.clock)(), position.at);
        Ok(Some(self.progress(Some(position), lag_seconds)))
    }

    /// Writes what records say, and how far that is.
    async fn write(
        &mut self,
        records: Vec<Verified>,
        position: Position,
    ) -> Result<(), FollowError> {
        let activity: Vec<_> =
            records.iter().map(|verified| activity::of_record(&verified.record)).collect();
        self.apply_missing(events_by_stream(records)).await?;
        self.deps.store.write_activity(self.generation, &activity).await?;
        self.deps.store.set_position(self.generation, &position, &self.office).await?;
        Ok(())
    }

    fn progress(&self, position: Option<Position>, lag_seconds: u64) -> Progress {
        Progress {
            generation: self.generation.0,
            in_office: true,
            next_seq: position.map_or(0, |position| position.next_seq),
            at: position.map(|position| position.at),
            lag_seconds,
            parked: self.parked.count(),
            stopped_at: None,
        }
    }

    async fn is_flipped(&mut self) -> Result<bool, FollowError> {
        if self.pointer_checked.elapsed() < POINTER_CHECK {
            return Ok(false);
        }
        self.pointer_checked = Instant::now();
        let pointer = self.deps.store.pointer().await?;
        if pointer.serving != self.generation {
            return Ok(true);
        }
        self.settle_stale(pointer.also).await?;
        Ok(false)
    }

    /// Destroys the keys of old search criteria. Nothing that is followed waits for it: where it
    /// fails, it is tried again later.
    ///
    /// What is old goes by this host's clock or by the last record, whichever is earlier: a
    /// clock that is ahead destroys nothing.
    async fn tend_keys(&mut self) {
        let Some(followed) = self.tail.position().filter(|_| self.keys_due <= Instant::now())
        else {
            return;
        };
        let months = self.options.keep_search_criteria;
        let now = (self.deps.clock)().min(followed.at);
        let destroyed = self.deps.ring.destroy_old_epochs(now, months).await;
        let pause = match destroyed {
            Ok(destroyed) => {
                if destroyed > 0 {
                    tracing::info!(destroyed, months, "keys of old search criteria are destroyed");
                }
                KEYS_CHECK
            }
            Err(error) => {
                tracing::warn!(%error, "old keys could not be destroyed, trying again later");
                KEYS_RETRY
            }
        };
        self.keys_due = Instant::now() + pause;
    }
}
