//! Which generation to build, and being the only one who builds it.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{
    Options, Pace,
    note::{Note, note_of},
};
use crate::{
    backoff::persist,
    documents::{Generation, Office},
    error::RebuildError,
    follower::Deps,
    store::{ProjectionStore, StoreError, Upkeep},
};

/// A generation to build, and the office in it.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) generation: Generation,
    pub(crate) office: Office,
    /// What an earlier builder left.
    pub(crate) note: Option<Note>,
}

/// Finds the unfinished generation to go on with, or makes a new one.
pub(super) async fn claim(deps: &Deps, options: &Options) -> Result<Claimed, RebuildError> {
    let store = deps.store.as_ref();
    let serving = store.serving().await?;
    let generations = store.list().await?;
    for generation in generations.into_iter().rev().filter(|it| *it != serving) {
        let note = match note_of(store, generation).await {
            Err(RebuildError::Note { .. }) if options.fresh => None,
            note => note?,
        };
        let office = store.office(generation).await?;
        let unfinished = match &note {
            Some(note) => note.is_unfinished(office),
            // Made by a builder who ended before it could say so. Older ones without a note have
            // served.
            None => generation > serving && store.position(generation).await?.is_none(),
        };
        let same = note.as_ref().is_none_or(|note| note.until == options.until);
        if !unfinished || !(same || options.fresh) {
            continue;
        }
        let office = match take_office(store, generation, &options.pace, note.is_none()).await {
            Err(RebuildError::Busy { .. }) if !same => continue,
            office => office?,
        };
        if !options.fresh {
            return Ok(Claimed { generation, office, note });
        }
        tracing::info!(generation = generation.0, "dropping an unfinished generation");
        discard(store, generation, &options.pace).await?;
    }
    let generation = persist("making a generation", || store.create()).await?;
    let office = take_office(store, generation, &options.pace, false).await?;
    Ok(Claimed { generation, office, note: None })
}

/// Takes the office of a generation whose holder is gone; waits where one seems to be there, or
/// where one is `expected` to come at once.
pub(crate) async fn take_office(
    store: &dyn Upkeep,
    generation: Generation,
    pace: &Pace,
    expected: bool,
) -> Result<Office, RebuildError> {
    let busy = RebuildError::Busy { generation: generation.0 };
    let seen = store.office(generation).await?;
    let watched = Instant::now();
    let is_held = |office: Option<Office>| office.is_some_and(|office| office.holder.is_some());
    let mut waiting = expected || is_held(seen);
    let mut now = seen;
    while waiting {
        tokio::time::sleep(pace.look).await;
        now = store.office(generation).await?;
        if now != seen && is_held(now) {
            return Err(busy);
        }
        waiting = now == seen && watched.elapsed() < pace.patience;
    }
    let holder = Uuid::new_v4();
    let taken =
        persist("taking office", || async { store.take_office(generation, now, holder).await });
    if let Some(office) = taken.await? {
        return Ok(office);
    }
    // Perhaps by an earlier try whose answer was lost.
    let now = store.office(generation).await?;
    now.filter(|office| office.holder == Some(holder)).ok_or(busy)
}

/// Shows again and again that the holder is alive. Ends never: that another has taken office is
/// found by the next write that the office guards, where it matters.
pub(crate) async fn keep_beating(
    store: &dyn Upkeep,
    generation: Generation,
    office: Office,
    every: Duration,
) {
    loop {
        tokio::time::sleep(every).await;
        match store.beat(generation, &office).await {
            Ok(()) => {}
            Err(StoreError::Fenced) => return std::future::pending().await,
            Err(error) => {
                tracing::debug!(generation = generation.0, %error, "a beat was not written");
            }
        }
    }
}

/// Drops a generation that does not serve, first out of the reach of commands.
pub(crate) async fn discard(
    store: &dyn ProjectionStore,
    generation: Generation,
    pace: &Pace,
) -> Result<(), StoreError> {
    if store.pointer().await?.also == Some(generation) {
        store.settle(generation).await?;
        tokio::time::sleep(pace.joined).await;
    }
    store.drop_generation(generation).await
}
