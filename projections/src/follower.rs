//! Following the ledger: what the read models miss, they get from here.
//!
//! Patient-service applies its own events at once and mostly the follower finds them applied.
//! It brings the rest: events whose process died or whose write failed, and the whole of
//! `activity`, which nothing else writes.
//!
//! Of all followers of a generation one is in office ([`crate::office`]) and the others stand by.

mod apply;
mod parking;
mod session;
mod stale;

use std::{
    convert::Infallible,
    sync::{Arc, LazyLock},
    time::Duration,
};

use audit_client::AuditClient;
use audit_verify::checkpoint::LedgerKey;
use domain::{ids::Name, time::Timestamp};
use runtime::health::Component;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Backoff,
    documents::{Generation, Office},
    error::{FollowError, reasons},
    key_ring::KeyRing,
    office::{self, Candidate, Terms},
    store::{ProjectionStore, StoreError},
    tally::TALLY,
};
use session::Session;

/// Months for which search criteria can be read, where nothing else is said.
pub const KEEP_SEARCH_CRITERIA: u32 = 24;

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

/// How the follower goes about it.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How the office is watched and kept.
    pub terms: Terms,
    /// How long a generation that commands write to besides the serving one may show no life
    /// until they need not any more. Far longer than a rebuild needs between the two.
    pub settle_after: Duration,
    /// Months after which the key of a month's search criteria is destroyed; 0 keeps them all.
    pub keep_search_criteria: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            terms: Terms::default(),
            settle_after: Duration::from_mins(1),
            keep_search_criteria: KEEP_SEARCH_CRITERIA,
        }
    }
}

/// How far the follower is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The generation followed into; 0 before the first round.
    pub generation: u32,
    /// Whether this process follows. If not, another does, and this one stands by.
    pub in_office: bool,
    /// `seq` of the next record.
    pub next_seq: u64,
    /// `recordedAt` of the last record followed.
    pub at: Option<Timestamp>,
    /// Age of the last record when it was followed; 0 at the ledger's end.
    pub lag_seconds: u64,
    /// Streams that are not followed because an event of theirs cannot be applied; 0 while
    /// standing by.
    pub parked: u64,
    /// Set when following has stopped for good: the record that stopped it.
    pub stopped_at: Option<u64>,
}

/// Follows the ledger into the generation that serves, until `shutdown`.
///
/// Where another process is in office this one stands by, which is as ready as following. What
/// may go away is tried again, with `component` not ready meanwhile. An event that cannot be
/// applied parks its stream. A broken chain ends this function: nothing after it is followed,
/// `component` stays not ready and names the `seq`, as the log and `progress` do.
pub async fn follow(
    deps: Deps,
    options: Options,
    progress: watch::Sender<Progress>,
    shutdown: CancellationToken,
    component: Component,
) {
    LazyLock::force(&TALLY);
    let mut follower = Follower {
        deps: &deps,
        options,
        progress: &progress,
        component: &component,
        candidate: Candidate::default(),
        backoff: Backoff::default(),
        held: None,
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        () = follower.run() => {}
    }
    follower.leave().await;
}

struct Follower<'a> {
    deps: &'a Deps,
    options: Options,
    progress: &'a watch::Sender<Progress>,
    component: &'a Component,
    candidate: Candidate,
    backoff: Backoff,
    held: Option<(Generation, Office)>,
}

impl Follower<'_> {
    /// Until something stops it for good.
    async fn run(&mut self) {
        let mut logged = String::new();
        loop {
            let Err(error) = self.follow_until_error().await;
            // Perhaps it is this process alone that cannot follow.
            self.leave().await;
            if let Some(seq) = error.stops_at() {
                return self.stop(seq, &error);
            }
            self.component.not_ready(match error {
                FollowError::TooManyParked { .. } => "too many streams are parked",
                _ => "the ledger, a store or a key is unavailable, trying again",
            });
            let reason = reasons(&error);
            if reason != logged {
                tracing::warn!(error = reason, "following failed, trying again");
                logged = reason;
            }
            self.backoff.wait().await;
        }
    }

    fn stop(&self, seq: u64, error: &FollowError) {
        tracing::error!(seq, error = reasons(error), "following has stopped");
        self.progress.send_modify(|progress| progress.stopped_at = Some(seq));
        // Readiness takes texts that live for ever; this one is made once in a process's life.
        let text = format!("stopped at record {seq}: {error}");
        self.component.not_ready(Box::leak(text.into_boxed_str()));
    }

    async fn follow_until_error(&mut self) -> Result<Infallible, FollowError> {
        loop {
            let (generation, office) = self.take_office().await?;
            self.held = Some((generation, office));
            let (store, beat) = (Arc::clone(&self.deps.store), self.options.terms.beat);
            let ended = tokio::select! {
                ended = self.session(generation, office) => ended,
                error = office::keep(store.as_ref(), generation, &office, beat) => {
                    Err(error.into())
                }
            };
            match ended {
                Ok(()) => self.leave().await,
                Err(FollowError::Store(StoreError::Fenced)) => {
                    self.held = None;
                    tracing::warn!(generation = generation.0, "another follower has taken over");
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Stands by until the office of the generation that serves is this process's.
    async fn take_office(&mut self) -> Result<(Generation, Office), FollowError> {
        let (store, terms) = (self.deps.store.as_ref(), self.options.terms);
        let mut standing_by = false;
        loop {
            let generation = store.serving().await?;
            let taken = self.candidate.try_take(store, generation, terms.patience).await?;
            if let Some(office) = taken {
                return Ok((generation, office));
            }
            if !standing_by {
                tracing::info!(generation = generation.0, "another process follows, standing by");
                standing_by = true;
            }
            let position = store.position(generation).await?;
            self.component.ready();
            self.backoff.reset();
            self.progress.send_replace(Progress {
                generation: generation.0,
                next_seq: position.map_or(0, |position| position.next_seq),
                at: position.map(|position| position.at),
                ..Progress::default()
            });
            tokio::time::sleep(terms.look).await;
        }
    }

    /// Follows until another generation serves.
    async fn session(&mut self, generation: Generation, office: Office) -> Result<(), FollowError> {
        let mut session = Session::open(self.deps, self.options, generation, office).await?;
        while let Some(progress) = session.round().await? {
            self.component.ready();
            self.backoff.reset();
            self.progress.send_replace(progress);
        }
        Ok(())
    }

    async fn leave(&mut self) {
        if let Some((generation, office)) = self.held.take() {
            office::leave(self.deps.store.as_ref(), generation, &office).await;
            self.progress.send_modify(|progress| progress.in_office = false);
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
