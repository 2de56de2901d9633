//! A rebuild that ended early is gone on with where it was, by one process alone.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use audit_verify::checkpoint::LedgerSecret;
use domain::{event::Event, hash::Hash, ids::TestId};
use projections::{
    documents::{Generation, Pointer},
    erasure,
    error::RebuildError,
    follower::Deps,
    rebuild::{
        Options, Until,
        note::{Note, Stage},
        rebuild,
    },
    store::{Generations, ProjectionStore, Upkeep, memory::Fault},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    fixture::{Fixture, building},
    hooks::Kill,
    ledger::FakeLedger,
    spy::Spy,
};

const SECOND: Generation = Generation(2);

/// Batches so small that there are many, and nobody who is alive to wait for.
fn small() -> Options {
    let mut options = building();
    options.pace.batch = 2;
    options.pace.terms.patience = Duration::from_millis(20);
    options
}

fn over(fixture: &Fixture, store: Arc<dyn ProjectionStore>) -> Deps {
    Deps { store, ..fixture.deps() }
}

/// Runs a rebuild that is killed after so many steps; whether it was.
async fn killed(fixture: &Fixture, steps: i64) -> bool {
    let store = Kill::after(fixture.store.clone(), steps);
    let ended = store.hook.ended.clone();
    let deps = over(fixture, store);
    let (options, shutdown) = (small(), CancellationToken::new());
    tokio::select! {
        summary = rebuild(&deps, &options, &shutdown) => {
            summary.unwrap();
            false
        }
        () = ended.cancelled() => true,
    }
}

/// What happens to enough patients for some notes.
async fn long_history(fixture: &Fixture) {
    fixture.history().await;
    let patient = fixture.patient().await;
    patient.registered("Ada");
    patient.recorded(TestId::new(Uuid::new_v4()));
    for _ in 0..15 {
        patient.amended("Lovelace");
        fixture.ledger.read(patient.id);
    }
    fixture.history().await;
}

/// Kills one in the middle, so that it leaves a note with a place in it.
async fn leave_unfinished(fixture: &Fixture) -> Note {
    assert!(killed(fixture, 60).await);
    let note = fixture.store.note(SECOND).await.unwrap().unwrap();
    let note: Note = serde_json::from_str(&note).unwrap();
    assert!(note.size() > 0 && note.size() < fixture.ledger.size(), "{note:?}");
    note
}

#[tokio::test]
async fn killed_at_any_write_it_neither_skips_nor_doubles() {
    let mut resumed = 0;
    // An odd number, so that it is before and after a write in turn.
    for steps in (0..).step_by(5) {
        let fixture = Fixture::new().await;
        long_history(&fixture).await;
        let first = fixture.live().await;
        let live = fixture.digest(first).await;
        if !killed(&fixture, steps).await {
            assert!(steps > 100, "{steps}");
            break;
        }
        // What is complete is not gone on with, also where it does not serve yet.
        let complete = is_complete(&fixture).await;
        let summary = fixture.rebuild(&small()).await.unwrap();
        assert_eq!(summary.digest, live.hash, "killed after {steps}");
        assert_eq!((summary.records, summary.events), (58, 37), "killed after {steps}");
        assert_eq!(summary.differences, [], "killed after {steps}");
        let expected = if complete { Generation(3) } else { SECOND };
        let pointer = fixture.store.pointer().await.unwrap();
        assert_eq!(pointer, Pointer { serving: expected, also: None }, "killed after {steps}");
        let office = fixture.store.office(expected).await.unwrap().unwrap();
        assert_eq!(office.holder, None, "killed after {steps}");
        resumed += u32::from(summary.resumed_at > 0);
    }
    assert!(resumed > 10, "{resumed}");
}

async fn is_complete(fixture: &Fixture) -> bool {
    let Ok(Some(note)) = fixture.store.note(SECOND).await else { return false };
    serde_json::from_str::<Note>(&note).unwrap().stage != Stage::Building
}

#[tokio::test]
async fn a_fresh_one_drops_what_is_unfinished_and_says_so() {
    let fixture = Fixture::new().await;
    long_history(&fixture).await;
    let first = fixture.live().await;
    let fresh = Options { fresh: true, ..small() };
    let state = Options { until: Some(Until::Seq(5)), ..small() };
    // The state comes to its end, one of all of the ledger is left, and one has no note yet.
    let kept = Generation(fixture.rebuild(&state).await.unwrap().generation);
    assert!(killed(&fixture, 60).await);
    fixture.store.create().await.unwrap();
    let summary = fixture.rebuild(&fresh).await.unwrap();
    assert_eq!((summary.generation, summary.dropped), (5, vec![4, 3]));
    assert_eq!(fixture.store.list().await.unwrap(), [first, kept, Generation(5)]);
    assert!(fixture.rebuild(&fresh).await.unwrap().dropped.is_empty());
}

#[tokio::test]
async fn a_note_that_somebody_changed_never_serves() {
    type Change = fn(&mut Note);
    let changes: [(Change, bool); 4] = [
        (|note| note.frontier[0] = Hash::ZERO, true),
        (|note| note.place.as_mut().unwrap().hash = Hash::ZERO, true),
        (|note| note.place.as_mut().unwrap().next_seq += 1, false),
        (|note| note.keys = "1 of nobody".to_owned(), false),
    ];
    for (change, dropped) in changes {
        let fixture = Fixture::new().await;
        long_history(&fixture).await;
        let first = fixture.live().await;
        let mut note = leave_unfinished(&fixture).await;
        change(&mut note);
        let office = fixture.store.office(SECOND).await.unwrap().unwrap();
        let text = serde_json::to_string(&note).unwrap();
        fixture.store.set_note(SECOND, &text, &office).await.unwrap();
        let error = fixture.rebuild(&small()).await.unwrap_err();
        assert_eq!(fixture.serving().await, first, "{error}");
        let left = fixture.store.list().await.unwrap().contains(&SECOND);
        assert_eq!(left, !dropped, "{error}");
        // And then, or with `fresh`, it is begun anew.
        let summary = fixture.rebuild(&Options { fresh: true, ..small() }).await.unwrap();
        assert_eq!((summary.resumed_at, summary.generation), (0, 3));
        assert_eq!(summary.dropped, if dropped { vec![] } else { vec![2] }, "{error}");
        assert_eq!(summary.digest, fixture.digest(first).await.hash);
    }
}

#[tokio::test]
async fn it_goes_on_across_rotations_of_the_ledgers_key() {
    let fixture = Fixture::new().await;
    fixture.ledger.rotate(1, None);
    long_history(&fixture).await;
    leave_unfinished(&fixture).await;
    fixture.ledger.rotate(2, None);
    // The old key does not sign what covers the rotation that the build has read.
    fixture.ledger.sign_with(FakeLedger::first_secret());
    let error = fixture.rebuild(&small()).await.unwrap_err();
    assert!(matches!(error, RebuildError::Checkpoint(_)), "{error}");

    fixture.ledger.sign_with(LedgerSecret::new(FakeLedger::origin(), &[2; 32]));
    fixture.rebuild(&small()).await.unwrap();
}

#[tokio::test]
async fn a_rotation_that_was_read_is_not_forgotten() {
    let fixture = Fixture::new().await;
    fixture.ledger.rotate(1, None);
    long_history(&fixture).await;
    leave_unfinished(&fixture).await;
    fixture.ledger.hide_rotations();
    let error = fixture.rebuild(&small()).await.unwrap_err();
    assert!(matches!(error, RebuildError::Note { generation: 2 }), "{error}");
}

#[tokio::test]
async fn two_at_once_are_one_and_an_error() {
    let fixture = Fixture::new().await;
    fixture.history().await;
    let spy = Arc::new(Spy::over(fixture.store.clone(), 0));
    let deps = over(&fixture, spy.clone());
    let first =
        tokio::spawn(async move { rebuild(&deps, &building(), &CancellationToken::new()).await });
    while spy.hook.calls.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for fresh in [false, true] {
        let error = fixture.rebuild(&Options { fresh, ..building() }).await.unwrap_err();
        assert!(matches!(error, RebuildError::Busy { generation: 2 }), "{error}");
    }
    spy.hook.gate.add_permits(1_000);
    assert_eq!(first.await.unwrap().unwrap().generation, 2);
}

#[tokio::test]
async fn one_that_was_taken_for_dead_stops_when_it_wakes_up() {
    let fixture = Fixture::new().await;
    fixture.history().await;
    let spy = Arc::new(Spy::over(fixture.store.clone(), 0));
    let deps = over(&fixture, spy.clone());
    // Its beats are so far apart that it looks dead.
    let mut slow = small();
    slow.pace.terms.beat = Duration::from_secs(1_000);
    let first = tokio::spawn(async move { rebuild(&deps, &slow, &CancellationToken::new()).await });
    while spy.hook.calls.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let summary = fixture.rebuild(&small()).await.unwrap();
    spy.hook.gate.add_permits(1_000);
    let error = first.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "another process follows into this generation now");
    let pointer = fixture.store.pointer().await.unwrap();
    assert_eq!(pointer, Pointer { serving: Generation(summary.generation), also: None });
    assert_eq!(fixture.digest(SECOND).await.hash, summary.digest);
}

#[tokio::test]
async fn a_shutdown_leaves_it_to_the_next_at_once() {
    let fixture = Fixture::new().await;
    fixture.history().await;
    let spy = Arc::new(Spy::over(fixture.store.clone(), 1));
    let (deps, shutdown) = (over(&fixture, spy.clone()), CancellationToken::new());
    let running = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { rebuild(&deps, &small(), &shutdown).await }
    });
    while spy.hook.calls.load(Ordering::SeqCst) < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    shutdown.cancel();
    let error = running.await.unwrap().unwrap_err();
    assert!(matches!(error, RebuildError::Interrupted), "{error}");
    assert_eq!(fixture.store.office(SECOND).await.unwrap().unwrap().holder, None);
    assert_eq!(fixture.rebuild(&small()).await.unwrap().generation, 2);
}

#[tokio::test]
async fn a_failure_that_lasts_leaves_it_to_the_next() {
    let fixture = Fixture::new().await;
    long_history(&fixture).await;
    leave_unfinished(&fixture).await;
    tokio::time::pause();
    fixture.store.fail_applies(Fault::Before, 12);
    let error = fixture.rebuild(&small()).await.unwrap_err();
    assert!(!error.is_final(), "{error}");
    let summary = fixture.rebuild(&small()).await.unwrap();
    assert!(summary.generation == 2 && summary.resumed_at > 0, "{summary:?}");
}

#[tokio::test]
async fn an_event_that_repeats_or_skips_a_version_never_serves() {
    for version in [1, 3] {
        let fixture = Fixture::new().await;
        let patient = fixture.patient().await;
        patient.registered("Ada");
        patient.amended("Lovelace");
        for _ in 0..4 {
            fixture.ledger.refusal();
        }
        fixture.ledger.pretend_version(patient.id, version);
        let wrong = patient.amended("Byron");
        fixture.serving().await;
        // Also where the event is in another batch than the one before it, still on its way.
        for batch in [1, 2, 3, 100] {
            let mut options = small();
            options.pace.batch = batch;
            let error = fixture.rebuild(&options).await.unwrap_err();
            let RebuildError::Follow(error) = error else { panic!("{error}") };
            assert_eq!(error.stops_at(), Some(wrong.seq), "{version} in batches of {batch}");
            assert_eq!(fixture.store.list().await.unwrap().len(), 1);
        }
    }
}

#[tokio::test]
async fn an_erasure_that_comes_before_the_events_is_no_gap() {
    let fixture = Fixture::new().await;
    let (other, patient) = (fixture.patient().await, fixture.patient().await);
    other.registered("Ada");
    // So many that hers are not decrypted yet when she is erased.
    for _ in 0..30 {
        other.amended("Lovelace");
    }
    patient.registered("Grace");
    patient.recorded(TestId::new(Uuid::new_v4()));
    patient.amended("Hopper");
    let first = fixture.live().await;
    let spy = Arc::new(Spy::over(fixture.store.clone(), 0));
    let deps = over(&fixture, spy.clone());
    let running =
        tokio::spawn(async move { rebuild(&deps, &small(), &CancellationToken::new()).await });
    while spy.hook.calls.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    patient.happens(&Event::PatientErased);
    let erased = erasure::find(&fixture.ledger.client(), patient.id).await.unwrap().unwrap();
    erasure::complete(&fixture.store, &fixture.ring, &erased).await.unwrap();
    spy.hook.gate.add_permits(1_000);
    let summary = running.await.unwrap().unwrap();
    assert_eq!(summary.digest, fixture.digest(first).await.hash);
    fixture.is_live(SECOND, patient.id).await;
}
