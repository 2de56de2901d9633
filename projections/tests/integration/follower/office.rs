//! Of several followers one follows, whatever becomes of it.

use std::time::{Duration, Instant};

use projections::{
    documents::{Generation, Office},
    office,
    store::{Generations, StoreError, Upkeep, memory::MemoryStore},
};
use uuid::Uuid;

use crate::{
    fixture::{Fixture, follow, options},
    process::{Side, Step},
};

async fn holder(store: &MemoryStore, generation: Generation) -> Option<Office> {
    store.office(generation).await.unwrap()
}

#[tokio::test]
async fn one_of_two_follows_and_the_other_only_looks() {
    let fixture = Fixture::new().await;
    let generation = fixture.serving().await;
    let patients = fixture.history().await;
    let mut first = fixture.follow();
    first.reaches(generation, fixture.ledger.size()).await;
    let spare = fixture.process();
    let mut second = fixture.follow_as(&spare);
    second.stands_by().await;
    // It shows how far the other is.
    fixture.ledger.refusal();
    let size = fixture.ledger.size();
    first.reaches(generation, size).await;
    second.shows(|progress| !progress.in_office && progress.next_seq == size).await;
    let writes = ["apply", "set_position", "write_activity", "take_office", "park", "unpark"];
    assert!(spare.hook.calls().iter().all(|call| !writes.contains(call)));

    // One that leaves in good order is followed by the other without a wait for its beat.
    first.end().await;
    let left = Instant::now();
    second.reaches(generation, size).await;
    assert!(left.elapsed() < options().terms.patience);
    for patient in patients {
        fixture.is_live(generation, patient).await;
    }
    second.end().await;
    assert_eq!(holder(&fixture.store, generation).await.unwrap().holder, None);
}

#[tokio::test]
async fn one_that_is_killed_is_replaced_after_patience() {
    let fixture = Fixture::new().await;
    let generation = fixture.serving().await;
    let mut first = fixture.follow();
    first.reaches(generation, 0).await;
    let mut second = fixture.follow();
    second.stands_by().await;
    first.kill();
    let killed = Instant::now();
    let patients = fixture.history().await;
    second.reaches(generation, fixture.ledger.size()).await;
    let waited = killed.elapsed();
    assert!(waited > options().terms.patience / 2, "{waited:?}");
    for patient in patients {
        fixture.is_live(generation, patient).await;
    }
    second.end().await;
}

#[tokio::test]
async fn a_quiet_follower_keeps_its_office() {
    let fixture = Fixture::new().await;
    let generation = fixture.serving().await;
    let mut first = fixture.follow();
    first.reaches(generation, 0).await;
    let before = holder(&fixture.store, generation).await.unwrap();
    let mut second = fixture.follow();
    second.stands_by().await;
    tokio::time::sleep(options().terms.patience * 2).await;
    let after = holder(&fixture.store, generation).await.unwrap();
    assert_eq!((before.holder, before.term), (after.holder, after.term));
    assert!(after.beat > before.beat + 5);
    assert!(first.progress().in_office && !second.progress().in_office);
    first.end().await;
    second.end().await;
}

/// A follower that freezes at a step and wakes when another has long taken over finds itself
/// replaced, and what it was about to write harms nothing.
async fn check_wakes_up_replaced(step: Step) {
    let fixture = Fixture::new().await;
    let generation = fixture.serving().await;
    let patients = fixture.history().await;
    let lost = fixture.patient().await;
    lost.registered("Ada");
    let backup = fixture.lose_key(&lost).await;

    let sleeper = fixture.process();
    sleeper.hook.freeze_at(step);
    let mut first = fixture.follow_as(&sleeper);
    sleeper.hook.freezes().await;
    let mut second = fixture.follow();
    second.reaches(generation, fixture.ledger.size()).await;
    second.parks(1).await;
    // The key comes back, and all is well with the one who follows.
    fixture.restore_key(&backup).await;
    fixture.store.retry_parked(generation, None).await.unwrap();
    second.parks(0).await;
    lost.amended("Lovelace");
    second.reaches(generation, fixture.ledger.size()).await;
    let position = fixture.store.position(generation).await.unwrap();

    sleeper.hook.thaw();
    first.stands_by().await;
    assert_eq!(fixture.store.position(generation).await.unwrap(), position, "{step:?}");
    lost.amended("King");
    second.reaches(generation, fixture.ledger.size()).await;
    second.parks(0).await;
    for patient in patients.into_iter().chain([lost.id]) {
        fixture.is_live(generation, patient).await;
    }
    let unparked = async {
        while !fixture.store.parked(generation, None, 1).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), unparked).await.expect("late rows are put right");
    assert!(second.progress().in_office, "{step:?}");
    first.end().await;
    second.end().await;
}

#[tokio::test]
async fn one_that_was_only_slow_wakes_up_replaced() {
    let steps = ["cursors", "apply", "park", "write_activity", "set_position"];
    let checks = steps.map(|call| check_wakes_up_replaced((Side::Before, call)));
    futures::future::join_all(checks).await;
}

#[tokio::test]
async fn a_generation_that_its_builder_holds_is_waited_for() {
    let fixture = Fixture::new().await;
    fixture.history().await;
    fixture.serving().await;
    let built = fixture.store.create().await.unwrap();
    let builder = fixture.store.take_office(built, None, Uuid::new_v4()).await.unwrap().unwrap();
    fixture.lets_serve(built).await;
    let mut following = fixture.follow();
    let working = async {
        following.stands_by().await;
        tokio::time::sleep(options().terms.patience * 2).await;
    };
    tokio::select! {
        () = working => {}
        error = office::keep(&fixture.store, built, &builder, options().terms.beat) => {
            panic!("the builder is replaced: {error}")
        }
    }
    assert!(!following.progress().in_office);
    fixture.store.leave_office(built, &builder).await.unwrap();
    following.reaches(built, fixture.ledger.size()).await;
    let late = fixture.store.beat(built, &builder).await;
    assert!(matches!(late, Err(StoreError::Fenced)), "{late:?}");
    following.end().await;
}

#[tokio::test]
async fn an_answer_lost_while_taking_office_costs_no_patience() {
    let fixture = Fixture::new().await;
    let generation = fixture.serving().await;
    let process = fixture.process();
    let mut options = options();
    options.terms.patience = Duration::from_hours(1);
    // The write is made and its answer is lost.
    process.hook.fail_after("take_office");
    let deps = projections::follower::Deps { store: process.clone(), ..fixture.deps() };
    let mut following = crate::fixture::follow_with(deps, options);
    following.reaches(generation, 0).await;
    following.end().await;
    let mut another = follow(fixture.deps());
    another.reaches(generation, 0).await;
    another.end().await;
}
