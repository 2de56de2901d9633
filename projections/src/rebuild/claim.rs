//! Which generation to build, and being the only one who builds it.

use super::{
    Options, Pace,
    note::{Note, Standing, standing},
};
use crate::{
    backoff::{Tries, persist},
    documents::{Generation, Office},
    error::RebuildError,
    follower::Deps,
    office::{self, Candidate},
    store::{ProjectionStore, StoreError},
};

/// A generation to build, and the office in it.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) generation: Generation,
    pub(crate) office: Office,
    /// What an earlier builder left.
    pub(crate) note: Option<Note>,
    /// Unfinished generations that were dropped before, newest first.
    pub(crate) dropped: Vec<u32>,
}

/// Finds the unfinished generation to go on with, or makes a new one.
pub(super) async fn claim(deps: &Deps, options: &Options) -> Result<Claimed, RebuildError> {
    let (store, pace) = (deps.store.as_ref(), &options.pace);
    let mut dropped = Vec::new();
    for generation in store.list().await?.into_iter().rev() {
        let Some(note) = left_off(store, generation, options).await? else { continue };
        let office = match take_office(store, generation, pace).await {
            Err(RebuildError::Busy { .. }) if !goes_on(note.as_ref(), options) => continue,
            office => office?,
        };
        // The one in office before may have come to the end meanwhile.
        let Some(note) = left_off(store, generation, options).await? else {
            office::leave(store, generation, &office).await;
            continue;
        };
        if !options.fresh {
            return Ok(Claimed { generation, office, note, dropped });
        }
        tracing::info!(generation = generation.0, "dropping an unfinished generation");
        discard(store, generation, &office, pace).await?;
        dropped.push(generation.0);
    }
    let generation = persist("making a generation", || store.create()).await?;
    let office = take_office(store, generation, pace).await?;
    Ok(Claimed { generation, office, note: None, dropped })
}

/// `None` where a build is at its end, or makes something else; else what its builder left, if
/// anything.
async fn left_off(
    store: &dyn ProjectionStore,
    generation: Generation,
    options: &Options,
) -> Result<Option<Option<Note>>, RebuildError> {
    Ok(match standing(store, generation, store.serving().await?).await? {
        Standing::Unfinished(note) if options.fresh || goes_on(note.as_ref(), options) => {
            Some(note)
        }
        Standing::Unfinished(_) | Standing::Complete(_) => None,
        Standing::Unreadable if options.fresh => Some(None),
        Standing::Unreadable => return Err(RebuildError::Note { generation: generation.0 }),
    })
}

/// Whether a build with this note makes what is asked for.
fn goes_on(note: Option<&Note>, options: &Options) -> bool {
    note.is_none_or(|note| note.until == options.until)
}

/// Takes the office of a generation; waits where its holder seems to be dead, until that is sure.
pub(crate) async fn take_office(
    store: &dyn ProjectionStore,
    generation: Generation,
    pace: &Pace,
) -> Result<Office, RebuildError> {
    let mut candidate = Candidate::default();
    let mut tries = Tries::of("taking office");
    let mut seen: Option<Office> = None;
    loop {
        let taken = candidate.try_take(store, generation, pace.terms.patience).await;
        match taken {
            Ok(Some(office)) => return Ok(office),
            Ok(None) => {}
            Err(error) => {
                tries.again(error).await?;
                continue;
            }
        }
        let now = store.office(generation).await?.filter(|office| office.holder.is_some());
        if seen.is_some() && now.is_some() && now != seen {
            return Err(RebuildError::Busy { generation: generation.0 });
        }
        seen = now;
        tokio::time::sleep(pace.terms.look).await;
    }
}

/// Drops a generation that does not serve, first out of the reach of commands, while nobody else
/// takes its office.
pub(crate) async fn discard(
    store: &dyn ProjectionStore,
    generation: Generation,
    office: &Office,
    pace: &Pace,
) -> Result<(), StoreError> {
    if store.pointer().await?.also == Some(generation) {
        store.settle(generation).await?;
        tokio::select! {
            () = tokio::time::sleep(pace.joined) => {}
            ended = office::keep(store, generation, office, pace.terms.beat) => return Err(ended),
        }
    }
    store.drop_generation(generation).await
}
