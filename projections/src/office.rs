//! Who may move a generation's position: taking that office, keeping it, and noticing that the
//! one in office is dead.
//!
//! No clock is compared with another's. A holder shows by its beat that it lives; whoever wants
//! the office replaces it only where the beat stood still for long enough by its own clock.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use uuid::Uuid;

use crate::{
    documents::{Generation, Office},
    store::{ProjectionStore, StoreError},
};

/// How long leaving may take: a store that does not answer must not hold up a shutdown, and the
/// next one only waits a little longer.
const LEAVE_TIME: Duration = Duration::from_secs(2);

/// How an office is watched and kept.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Between two looks at an office that is another's.
    pub look: Duration,
    /// How long a beat has to stand still until its holder is taken for dead.
    pub patience: Duration,
    /// Between two beats: well below `patience`, so that a slow write ends no term.
    pub beat: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            look: Duration::from_secs(1),
            patience: Duration::from_secs(10),
            beat: Duration::from_secs(1),
        }
    }
}

/// Tells how long something has stood still, by this process's own clock.
#[derive(Debug)]
pub struct Stillness<T> {
    last: Option<(T, Instant)>,
}

impl<T> Default for Stillness<T> {
    fn default() -> Self {
        Self { last: None }
    }
}

impl<T: PartialEq> Stillness<T> {
    /// Takes another look; how long ago it was first seen to be like this.
    pub fn look(&mut self, now: T) -> Duration {
        match &self.last {
            Some((seen, since)) if *seen == now => since.elapsed(),
            _ => {
                self.last = Some((now, Instant::now()));
                Duration::ZERO
            }
        }
    }

    /// Forgets what was seen: there is nothing to look at.
    pub fn reset(&mut self) {
        self.last = None;
    }
}

/// Somebody who wants an office.
#[derive(Debug)]
pub struct Candidate {
    id: Uuid,
    seen: Stillness<(Generation, Option<Office>)>,
}

impl Default for Candidate {
    fn default() -> Self {
        Self { id: Uuid::new_v4(), seen: Stillness::default() }
    }
}

impl Candidate {
    /// Looks once, and takes the office where it is vacant, this candidate's own (the answer to
    /// taking it was lost), or held by one whose beat has stood still for `patience`. `None`
    /// where it is another's; to be asked again after a pause.
    pub async fn try_take(
        &mut self,
        store: &dyn ProjectionStore,
        generation: Generation,
        patience: Duration,
    ) -> Result<Option<Office>, StoreError> {
        let seen = store.office(generation).await?;
        let still = self.seen.look((generation, seen));
        let holder = seen.and_then(|office| office.holder);
        if holder.is_some_and(|holder| holder != self.id) && still < patience {
            return Ok(None);
        }
        store.take_office(generation, seen, self.id).await
    }
}

/// Shows that the holder lives, until it is in office no more: the error says so. To be raced
/// against what the holder does, so that it is noticed in the midst of it.
pub async fn keep(
    store: &dyn ProjectionStore,
    generation: Generation,
    office: &Office,
    every: Duration,
) -> StoreError {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // What goes away by itself is tried again with the next beat.
        if let Err(error @ (StoreError::Fenced | StoreError::Generation(_))) =
            store.beat(generation, office).await
        {
            return error;
        }
    }
}

/// Leaves an office, so that the next one needs no patience. Takes a bounded time.
pub async fn leave(store: &dyn ProjectionStore, generation: Generation, office: &Office) {
    let left = tokio::time::timeout(LEAVE_TIME, store.leave_office(generation, office)).await;
    if !matches!(left, Ok(Ok(()))) {
        tracing::info!(generation = generation.0, "the office was not left, the next one waits");
    }
}
