//! Going back to an older generation, and dropping one.

use std::sync::{Arc, atomic::Ordering};
use std::time::Duration;

use domain::{hash::Hash, ids::PatientId, time::Timestamp};
use projections::{
    documents::{Generation, Pointer},
    error::RebuildError,
    follower::Deps,
    generations::{Activated, GenerationError, activate, drop},
    rebuild::rebuild,
    status::{GenerationState, Holder, status},
    store::{Generations, Upkeep},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    fixture::{Fixture, options},
    hooks::Watch,
    spy::Spy,
};

const FIRST: Generation = Generation(1);
const SECOND: Generation = Generation(2);

async fn activated(
    fixture: &Fixture,
    generation: Generation,
    now: bool,
) -> Result<Activated, GenerationError> {
    let shutdown = CancellationToken::new();
    activate(&fixture.deps(), generation, now, &options().pace, &shutdown).await
}

async fn dropped(fixture: &Fixture, generation: Generation) -> Result<(), GenerationError> {
    drop(&fixture.store, generation, &options().pace).await
}

/// Two generations, the second of which serves and is further on by what comes after it was made.
async fn two(fixture: &Fixture) -> [PatientId; 3] {
    fixture.history().await;
    fixture.live().await;
    fixture.rebuild(&options()).await.unwrap();
    let patients = fixture.history().await;
    assert_eq!(fixture.live().await, SECOND);
    patients
}

#[tokio::test]
async fn an_older_one_is_brought_up_to_the_ledger_before_it_serves() {
    let fixture = Fixture::new().await;
    let patients = two(&fixture).await;
    let watch = Watch::over(fixture.store.clone(), |_| ());
    let deps = Deps { store: watch.clone(), ..fixture.deps() };
    let shutdown = CancellationToken::new();
    let activated = activate(&deps, FIRST, false, &options().pace, &shutdown).await.unwrap();
    assert_eq!(activated, Activated { serves: 1, before: 2, caught_up: 13 });
    let steps = watch.hook.of(&["join", "activate", "settle", "leave_office"]);
    let names: Vec<_> = steps.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["join", "activate", "settle", "leave_office"]);
    let pointer = fixture.store.pointer().await.unwrap();
    assert_eq!(pointer, Pointer { serving: FIRST, also: None });
    assert_eq!(fixture.digest(FIRST).await, fixture.digest(SECOND).await);
    for patient in patients {
        fixture.is_live(FIRST, patient).await;
    }
    // A later rebuild does not go on with one that has served.
    assert_eq!(fixture.rebuild(&options()).await.unwrap().generation, 3);
}

#[tokio::test]
async fn at_once_means_that_its_follower_brings_the_rest() {
    let fixture = Fixture::new().await;
    two(&fixture).await;
    let activated = activated(&fixture, FIRST, true).await.unwrap();
    assert_eq!(activated, Activated { serves: 1, before: 2, caught_up: 0 });
    let pointer = fixture.store.pointer().await.unwrap();
    assert_eq!(pointer, Pointer { serving: FIRST, also: None });
    assert_eq!(fixture.live().await, FIRST);
    assert_eq!(fixture.digest(FIRST).await, fixture.digest(SECOND).await);
}

#[tokio::test]
async fn a_stream_that_stayed_behind_is_repaired_from_the_ledger() {
    let fixture = Fixture::new().await;
    let patient = fixture.patient().await;
    patient.registered("Ada");
    patient.amended("Lovelace");
    fixture.live().await;
    fixture.rebuild(&options()).await.unwrap();
    // A third one whose position says more than its documents do.
    let third = fixture.store.create().await.unwrap();
    let office = fixture.store.take_office(third, None, Uuid::new_v4()).await.unwrap().unwrap();
    let position = fixture.store.position(SECOND).await.unwrap().unwrap();
    fixture.store.set_position(third, &position, &office).await.unwrap();
    fixture.store.leave_office(third, &office).await.unwrap();
    patient.amended("Byron");
    activated(&fixture, third, false).await.unwrap();
    fixture.is_live(third, patient.id).await;
}

#[tokio::test]
async fn one_that_does_not_fit_the_ledger_does_not_serve() {
    let fixture = Fixture::new().await;
    two(&fixture).await;
    fixture.ledger.sign_root(Hash::ZERO);
    let error = activated(&fixture, FIRST, false).await.unwrap_err();
    assert!(matches!(error, GenerationError::Rebuild(RebuildError::Root { .. })), "{error}");
    let pointer = fixture.store.pointer().await.unwrap();
    assert_eq!(pointer, Pointer { serving: SECOND, also: None });
    assert_eq!(fixture.store.office(FIRST).await.unwrap().unwrap().holder, None);
    assert!(fixture.store.list().await.unwrap().contains(&FIRST), "it is kept");
}

#[tokio::test]
async fn what_cannot_be_activated_or_dropped_is_refused() {
    let fixture = Fixture::new().await;
    two(&fixture).await;
    let unknown = Generation(9);
    let error = activated(&fixture, unknown, true).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no generation 9");
    assert!(matches!(dropped(&fixture, unknown).await, Err(GenerationError::Unknown(9))));
    assert!(matches!(dropped(&fixture, SECOND).await, Err(GenerationError::Serves(2))));

    // A flip that ended too early: the old one is still written to, until it is settled.
    fixture.store.activate(FIRST).await.unwrap();
    let error = dropped(&fixture, SECOND).await.unwrap_err();
    assert!(matches!(error, GenerationError::InUse { also: 2, serving: 1 }), "{error}");
    activated(&fixture, FIRST, false).await.unwrap();
    dropped(&fixture, SECOND).await.unwrap();
    assert_eq!(fixture.store.list().await.unwrap(), [FIRST]);
}

#[tokio::test]
async fn one_that_is_built_is_shown_and_neither_activated_nor_dropped() {
    let fixture = Fixture::new().await;
    fixture.history().await;
    fixture.live().await;
    let spy = Arc::new(Spy::over(fixture.store.clone(), 0));
    let deps = Deps { store: spy.clone(), ..fixture.deps() };
    let shutdown = CancellationToken::new();
    let building = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { rebuild(&deps, &options(), &shutdown).await }
    });
    while spy.hook.calls.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for now in [false, true] {
        let error = activated(&fixture, SECOND, now).await.unwrap_err();
        assert!(matches!(error, GenerationError::Incomplete(2)), "{error}");
    }
    let error = dropped(&fixture, SECOND).await.unwrap_err();
    assert!(matches!(error, GenerationError::Rebuild(RebuildError::Busy { .. })), "{error}");
    let states = shown(&fixture).await;
    assert_eq!(
        states,
        [(GenerationState::Serving, Holder::Nobody), (GenerationState::Building, Holder::Alive)]
    );

    // Left behind by a shutdown, it is nobody's and may be dropped.
    shutdown.cancel();
    building.await.unwrap().unwrap_err();
    assert_eq!(shown(&fixture).await[1], (GenerationState::Building, Holder::Nobody));
    dropped(&fixture, SECOND).await.unwrap();
    assert_eq!(fixture.store.list().await.unwrap(), [FIRST]);
}

async fn shown(fixture: &Fixture) -> Vec<(GenerationState, Holder)> {
    let audit = fixture.ledger.client();
    let status = status(&fixture.store, &audit, None, Timestamp::from_millis(0)).await.unwrap();
    // The follower of these tests leaves its office to whoever comes.
    let holder = |row: &projections::status::GenerationStatus| match row.state {
        GenerationState::Serving => Holder::Nobody,
        _ => row.holder,
    };
    status.generations.iter().map(|row| (row.state, holder(row))).collect()
}

#[tokio::test]
async fn states_and_holders_are_shown() {
    let fixture = Fixture::new().await;
    two(&fixture).await;
    assert_eq!(
        shown(&fixture).await,
        [(GenerationState::Kept, Holder::Silent), (GenerationState::Serving, Holder::Nobody)]
    );
}
