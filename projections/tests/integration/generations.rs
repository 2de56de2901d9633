//! Going back to an older generation, and dropping one.

use std::sync::{Arc, atomic::Ordering};
use std::time::Duration;

use domain::{hash::Hash, ids::PatientId, time::Timestamp};
use projections::{
    documents::{Generation, Pointer},
    error::RebuildError,
    follower::Deps,
    generations::{Activated, GenerationError, activate, drop},
    rebuild::{LONGEST_REQUEST, POINTER_LIFETIME, Pace, rebuild},
    status::{GenerationState, Holder, list},
    store::{Generations, Upkeep},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    fixture::{Fixture, PATIENCE, building},
    hooks::{Kill, Watch},
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
    activate(&fixture.deps(), generation, now, &building().pace, &shutdown).await
}

async fn dropped(fixture: &Fixture, generation: Generation) -> Result<(), GenerationError> {
    drop(&fixture.store, generation, &building().pace, &CancellationToken::new()).await
}

/// Two generations, the second of which serves and is further on by what comes after it was made.
async fn two(fixture: &Fixture) -> [PatientId; 3] {
    fixture.history().await;
    fixture.live().await;
    fixture.rebuild(&building()).await.unwrap();
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
    let activated = activate(&deps, FIRST, false, &building().pace, &shutdown).await.unwrap();
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
    assert_eq!(fixture.rebuild(&building()).await.unwrap().generation, 3);
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
async fn at_once_is_not_over_a_pointer_that_moved_meanwhile() {
    let fixture = Fixture::new().await;
    two(&fixture).await;
    let third = fixture.rebuild(&building()).await.unwrap().generation;
    let store = fixture.store.clone();
    let watch = Watch::over(fixture.store.clone(), move |write| {
        if write == "activate" {
            futures::FutureExt::now_or_never(store.join(SECOND)).unwrap().unwrap();
        }
    });
    let deps = Deps { store: watch, ..fixture.deps() };
    let shutdown = CancellationToken::new();
    let error = activate(&deps, FIRST, true, &building().pace, &shutdown).await.unwrap_err();
    assert!(matches!(error, GenerationError::Rebuild(RebuildError::Pointer)), "{error}");
    let pointer = fixture.store.pointer().await.unwrap();
    assert_eq!(pointer, Pointer { serving: Generation(third), also: Some(SECOND) });
}

#[tokio::test]
async fn a_stream_that_stayed_behind_is_repaired_from_the_ledger() {
    let fixture = Fixture::new().await;
    let patient = fixture.patient().await;
    patient.registered("Ada");
    patient.amended("Lovelace");
    fixture.live().await;
    fixture.rebuild(&building()).await.unwrap();
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
async fn a_stream_that_is_parked_stays_parked_and_holds_up_nothing() {
    let fixture = Fixture::new().await;
    let (other, lost) = (fixture.patient().await, fixture.patient().await);
    other.registered("Ada");
    lost.registered("Grace");
    fixture.live().await;
    let backup = fixture.lose_key(&lost).await;
    lost.amended("Hopper");
    fixture.live().await;
    assert_eq!(fixture.store.parked(FIRST, None, 10).await.unwrap().len(), 1);
    // The second generation is made while her key is there.
    fixture.restore_key(&backup).await;
    fixture.rebuild(&building()).await.unwrap();
    fixture.lose_key(&lost).await;
    lost.amended("Murray");
    other.amended("Lovelace");
    activated(&fixture, FIRST, false).await.unwrap();
    fixture.is_live(FIRST, other.id).await;
    let parked = fixture.store.parked(FIRST, None, 10).await.unwrap();
    let parked: Vec<_> = parked.iter().map(|parked| (parked.patient, parked.retry)).collect();
    assert_eq!(parked, [(lost.id, true)], "its follower tries it again");
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
    fixture.lets_serve(FIRST).await;
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
        async move { rebuild(&deps, &building(), &shutdown).await }
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

#[tokio::test]
async fn one_of_which_nothing_is_built_never_serves() {
    let fixture = Fixture::new().await;
    fixture.history().await;
    fixture.live().await;
    fixture.store.create().await.unwrap();
    for now in [false, true] {
        let error = activated(&fixture, SECOND, now).await.unwrap_err();
        assert!(matches!(error, GenerationError::Incomplete(2)), "{error}");
    }
    // Nor one whose note cannot be read.
    let office = fixture.store.take_office(SECOND, None, Uuid::new_v4()).await.unwrap().unwrap();
    fixture.store.set_note(SECOND, "{}", &office).await.unwrap();
    for now in [false, true] {
        let error = activated(&fixture, SECOND, now).await.unwrap_err();
        assert!(matches!(error, GenerationError::Incomplete(2)), "{error}");
    }
    let pointer = fixture.store.pointer().await.unwrap();
    assert_eq!(pointer, Pointer { serving: FIRST, also: None });
}

#[tokio::test]
async fn one_that_commands_wrote_to_is_dropped_in_office() {
    let fixture = Fixture::new().await;
    fixture.history().await;
    fixture.live().await;
    fixture.store.create().await.unwrap();
    fixture.store.join(SECOND).await.unwrap();
    let watch = Watch::over(fixture.store.clone(), |_| ());
    let mut pace = building().pace;
    pace.joined = Duration::from_millis(200);
    drop(watch.as_ref(), SECOND, &pace, &CancellationToken::new()).await.unwrap();
    let steps = watch.hook.of(&["settle", "beat", "drop_generation"]);
    let names: Vec<_> = steps.iter().map(|(name, _)| *name).collect();
    assert!(names.len() > 4, "it shows that it lives: {names:?}");
    assert_eq!((names[0], names.last()), ("settle", Some(&"drop_generation")));
    assert_eq!(fixture.store.list().await.unwrap(), [FIRST]);
}

/// Nobody waits for so long.
fn slow() -> Pace {
    let hour = Duration::from_hours(1);
    Pace { joined: hour, settled: hour, ..building().pace }
}

#[tokio::test]
async fn waits_end_at_a_shutdown() {
    let fixture = Fixture::new().await;
    two(&fixture).await;
    let third = fixture.store.create().await.unwrap();
    let (deps, pace) = (fixture.deps(), slow());
    let waits = async |work: &str| {
        let shutdown = CancellationToken::new();
        let work = async {
            match work {
                "drop" => drop(&fixture.store, third, &pace, &shutdown).await.unwrap_err(),
                now => activate(&deps, FIRST, now == "now", &pace, &shutdown).await.unwrap_err(),
            }
        };
        let ends = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            shutdown.cancel();
        };
        let (error, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(work, ends) })
            .await
            .expect("it ends");
        assert!(matches!(error, GenerationError::Rebuild(RebuildError::Interrupted)), "{error}");
    };
    fixture.store.join(third).await.unwrap();
    waits("drop").await;
    assert_eq!(fixture.store.office(third).await.unwrap().unwrap().holder, None);
    dropped(&fixture, third).await.unwrap();
    waits("caught up").await;
    waits("now").await;
    // The flip that was cut short.
    waits("settle").await;
    let pointer = fixture.store.pointer().await.unwrap();
    assert_eq!(pointer, Pointer { serving: FIRST, also: Some(SECOND) });
}

#[test]
fn a_flip_outlasts_the_view_and_the_request_of_every_process() {
    let pace = Pace::default();
    assert!(pace.joined > POINTER_LIFETIME);
    assert!(pace.settled > POINTER_LIFETIME + LONGEST_REQUEST);
}

async fn shown(fixture: &Fixture) -> Vec<(GenerationState, Holder)> {
    let generations = list(&fixture.store, None, Timestamp::from_millis(0)).await.unwrap();
    generations.iter().map(|row| (row.state, row.holder)).collect()
}

#[tokio::test]
async fn states_and_holders_are_shown() {
    let fixture = Fixture::new().await;
    two(&fixture).await;
    let kill = Kill::after(fixture.store.clone(), 10);
    let deps = Deps { store: kill.clone(), ..fixture.deps() };
    let (options, shutdown) = (building(), CancellationToken::new());
    tokio::select! {
        _ = rebuild(&deps, &options, &shutdown) => panic!("it is killed"),
        () = kill.hook.ended.cancelled() => {}
    }
    let mut following = fixture.follow();
    following.reaches(SECOND, fixture.ledger.size()).await;
    let expected = [
        (GenerationState::Kept, Holder::Nobody),
        (GenerationState::Serving, Holder::Alive),
        (GenerationState::Building, Holder::Silent),
    ];
    assert_eq!(shown(&fixture).await, expected);
    following.end().await;
}
