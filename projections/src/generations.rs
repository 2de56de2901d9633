//! Choosing among complete builds of the read models: going back to an older one, dropping one.

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::persist,
    documents::{Generation, Pointer},
    error::RebuildError,
    follower::Deps,
    office,
    rebuild::{Build, Pace, discard, leave, note::standing, take_office},
    store::{ProjectionStore, StoreError},
};

/// Why a generation was not activated or dropped. Nothing was changed, unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum GenerationError {
    /// There is none of this number.
    #[error("there is no generation {0}")]
    Unknown(u32),
    /// Its build is not at its end.
    #[error("generation {0} is not complete; `rebuild` goes on with it")]
    Incomplete(u32),
    /// It serves.
    #[error("generation {0} serves; activate another one first")]
    Serves(u32),
    /// Commands write to it, because the pointer was moved a moment ago, or whoever moved it
    /// ended too early.
    #[error(
        "commands still write to generation {also}; wait until it is settled, or activate \
         {serving}, which settles it"
    )]
    InUse {
        /// It.
        also: u32,
        /// The one that serves.
        serving: u32,
    },
    /// Its builder is alive, the ledger does not verify, or a store failed.
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
}

impl From<StoreError> for GenerationError {
    fn from(error: StoreError) -> Self {
        Self::Rebuild(error.into())
    }
}

/// The pointer after it was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Activated {
    /// The generation that serves.
    pub serves: u32,
    /// The one that served before, and is kept.
    pub before: u32,
    /// Records that were brought in before.
    pub caught_up: u64,
}

/// Lets a complete generation serve, mostly an older one: a rollback.
///
/// What it lacks is brought in first, as a rebuild brings it: each link is checked, and the last
/// record compared with a signed checkpoint. One that showed an earlier state becomes an ordinary
/// one by this. With `now` the pointer is moved at once, and the follower brings what is missing;
/// until then reads are answered from the ledger where the generation is behind, and searches may
/// not find what is new.
///
/// Of the one that serves it only completes a flip that was cut short.
pub async fn activate(
    deps: &Deps,
    generation: Generation,
    now: bool,
    pace: &Pace,
    shutdown: &CancellationToken,
) -> Result<Activated, GenerationError> {
    let store = deps.store.as_ref();
    check_known(store, generation).await?;
    let pointer = store.pointer().await?;
    let Pointer { serving, also } = pointer;
    if serving == generation {
        if let Some(also) = also {
            until(shutdown, settle(store, also, pace)).await?;
        }
        let before = also.unwrap_or(serving).0;
        return Ok(Activated { serves: generation.0, before, caught_up: 0 });
    }
    if !standing(store, generation, serving).await?.is_complete() {
        return Err(GenerationError::Incomplete(generation.0));
    }
    if now {
        let moving = || store.activate(generation, pointer);
        if !persist("letting the generation serve", moving).await? {
            return Err(RebuildError::Pointer.into());
        }
        until(shutdown, settle(store, serving, pace)).await?;
        return Ok(Activated { serves: generation.0, before: serving.0, caught_up: 0 });
    }
    let office = until(shutdown, take_office(store, generation, pace)).await?;
    let work = async {
        let mut build = Build::kept(deps, *pace, generation, office).await?;
        let begun = build.size();
        build.catch_up().await?;
        build.join().await?;
        build.activate(serving).await?;
        build.settle(serving).await?;
        // What was parked when it served last is perhaps whole now.
        persist("asking for parked streams", || store.retry_parked(generation, None)).await?;
        let caught_up = build.size() - begun;
        Ok(Activated { serves: generation.0, before: serving.0, caught_up })
    };
    let kept = async {
        tokio::select! {
            result = work => result,
            fenced = office::keep(store, generation, &office, pace.terms.beat) => Err(fenced.into()),
        }
    };
    let result = until(shutdown, Box::pin(kept)).await;
    Ok(leave(store, generation, office, result, false, pace).await?)
}

/// Waits until no request reads a generation, and lets commands leave it.
async fn settle(
    store: &dyn ProjectionStore,
    also: Generation,
    pace: &Pace,
) -> Result<(), RebuildError> {
    tokio::time::sleep(pace.settled).await;
    Ok(persist("settling", || store.settle(also)).await?)
}

/// Does something that ends at a shutdown.
async fn until<T>(
    shutdown: &CancellationToken,
    work: impl Future<Output = Result<T, RebuildError>>,
) -> Result<T, RebuildError> {
    shutdown.run_until_cancelled(work).await.unwrap_or(Err(RebuildError::Interrupted))
}

/// Drops a generation that is not in use, and that nobody builds.
pub async fn drop(
    store: &dyn ProjectionStore,
    generation: Generation,
    pace: &Pace,
    shutdown: &CancellationToken,
) -> Result<(), GenerationError> {
    check_known(store, generation).await?;
    let Pointer { serving, also } = store.pointer().await?;
    if serving == generation {
        return Err(GenerationError::Serves(generation.0));
    }
    let complete = standing(store, generation, serving).await?.is_complete();
    if also == Some(generation) && complete {
        return Err(GenerationError::InUse { also: generation.0, serving: serving.0 });
    }
    // Whoever builds it is alive, or is kept from going on by this.
    let office = until(shutdown, take_office(store, generation, pace)).await?;
    let discarded = until(shutdown, async { Ok(discard(store, generation, &office, pace).await?) });
    let discarded = discarded.await;
    if discarded.is_err() {
        office::leave(store, generation, &office).await;
    }
    Ok(discarded?)
}

async fn check_known(
    store: &dyn ProjectionStore,
    generation: Generation,
) -> Result<(), GenerationError> {
    if store.list().await?.contains(&generation) {
        Ok(())
    } else {
        Err(GenerationError::Unknown(generation.0))
    }
}
