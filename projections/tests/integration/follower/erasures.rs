//! What is erased stays erased, whatever dies or is restored.

use std::sync::Arc;

use domain::{event::Event, ids::TestId};
use projections::{
    documents::PatientState,
    follower::Deps,
    key_ring::memory::Fault,
    store::{Generations, ReadModels},
};
use uuid::Uuid;

use crate::{
    fixture::{Fixture, KEK, Somebody, follow, ring_over},
    process::{Side, Step},
};

/// A patient with a test in a generation that serves and in one that is kept, erased now.
async fn erased(fixture: &Fixture) -> Somebody<'_> {
    let somebody = fixture.patient().await;
    somebody.registered("Ada");
    somebody.recorded(TestId::new(Uuid::new_v4()));
    let kept = fixture.serving().await;
    let applier = fixture.applier();
    applier.apply(kept, somebody.change(1, 2).await).await.unwrap();
    let serving = fixture.store.create().await.unwrap();
    fixture.lets_serve(serving).await;
    applier.apply(serving, somebody.change(1, 2).await).await.unwrap();
    somebody.happens(&Event::PatientErased);
    somebody
}

async fn nothing_is_left(fixture: &Fixture, somebody: &Somebody<'_>) {
    assert!(!fixture.keys.contains(somebody.key.kid()));
    for generation in fixture.store.list().await.unwrap() {
        let stored = fixture.store.patient(generation, somebody.id).await.unwrap().unwrap();
        assert_eq!((stored.version, stored.state), (3, PatientState::Erased), "{generation:?}");
        assert!(fixture.store.tests(generation, somebody.id).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn an_erasure_reaches_every_generation_and_the_key_ring() {
    let fixture = Fixture::new().await;
    let somebody = erased(&fixture).await;
    let mut following = fixture.follow();
    following.reaches(fixture.serving().await, 3).await;
    nothing_is_left(&fixture, &somebody).await;
    following.end().await;
}

#[tokio::test]
async fn one_that_another_process_left_half_done_is_completed() {
    let fixture = Fixture::new().await;
    let somebody = erased(&fixture).await;
    let serving = fixture.serving().await;
    // The documents are gone and the cursor has passed the erasure; the key is still there.
    let audit = fixture.ledger.client();
    let change = projections::erasure::find(&audit, somebody.id).await.unwrap().unwrap();
    projections::store::WriteModels::apply(&fixture.store, serving, &[change]).await.unwrap();
    assert!(fixture.keys.contains(somebody.key.kid()));
    let mut following = fixture.follow();
    following.reaches(serving, 3).await;
    nothing_is_left(&fixture, &somebody).await;
    following.end().await;
}

#[tokio::test]
async fn a_key_ring_restored_from_before_an_erasure_loses_the_key_again() {
    let fixture = Fixture::new().await;
    let somebody = fixture.patient().await;
    somebody.registered("Ada");
    let generation = fixture.serving().await;
    let mut following = fixture.follow();
    following.reaches(generation, 1).await;
    let backup = fixture.lose_key(&somebody).await;
    fixture.restore_key(&backup).await;
    somebody.happens(&Event::PatientErased);
    following.reaches(generation, 2).await;
    assert!(!fixture.keys.contains(somebody.key.kid()));
    following.end().await;

    fixture.restore_key(&backup).await;
    assert!(fixture.keys.contains(somebody.key.kid()));
    let mut following = fixture.follow();
    following.reaches(generation, 2).await;
    assert!(!fixture.keys.contains(somebody.key.kid()));
    following.end().await;
}

async fn check_death(step: Step) {
    let fixture = Fixture::new().await;
    let somebody = erased(&fixture).await;
    let process = fixture.process();
    process.hook.freeze_at(step);
    let dying = fixture.follow_as(&process);
    process.hook.freezes().await;
    dying.kill();
    let mut following = fixture.follow();
    following.reaches(fixture.serving().await, 3).await;
    nothing_is_left(&fixture, &somebody).await;
    following.end().await;
}

#[tokio::test]
async fn a_death_at_any_step_of_an_erasure_is_made_good() {
    let calls = ["cursors", "list", "apply", "write_activity", "set_position"];
    let steps = calls.iter().flat_map(|call| [(Side::Before, *call), (Side::After, *call)]);
    futures::future::join_all(steps.map(check_death)).await;
}

#[tokio::test]
async fn the_position_waits_for_the_key_to_be_destroyed() {
    for fault in [Fault::Fails, Fault::FailsButPersists, Fault::Hangs] {
        let fixture = Fixture::new().await;
        let somebody = erased(&fixture).await;
        let serving = fixture.serving().await;
        let ring = ring_over(Arc::clone(&fixture.keys), KEK);
        let process = fixture.process();
        // The session is open by then: from here on the key store fails.
        process.hook.freeze_at((Side::After, "cursors"));
        let mut following = follow(Deps { store: process.clone(), ring, ..fixture.deps() });
        process.hook.freezes().await;
        fixture.keys.set_fault(fault);
        process.hook.thaw();
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        assert!(!process.hook.calls().contains(&"set_position"), "{fault:?}");
        fixture.keys.set_fault(Fault::None);
        following.reaches(serving, 3).await;
        nothing_is_left(&fixture, &somebody).await;
        following.end().await;
    }
}
