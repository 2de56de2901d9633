//! Changes that wait are applied together, each patient's one after the other.

use std::sync::{Arc, atomic::Ordering};

use domain::{
    event::{Event, Recorded},
    ids::{KeyId, PatientId},
    time::Timestamp,
};
use futures::future::join_all;
use projections::{
    applier::{Applier, MAX_BATCH, MAX_WAITING},
    change::StreamChange,
    documents::Generation,
    error::ApplyError,
    store::{Generations, ReadModels, hooked::Hooked, memory::Fault},
};
use uuid::Uuid;

use crate::{
    fixture::{Fixture, person, ring},
    spy::Spy,
};

fn change(patient: PatientId, version: u64) -> StreamChange {
    let content = person("Ada");
    let event = match version {
        1 => Event::PatientRegistered(content),
        _ => Event::PatientAmended(content),
    };
    let recorded = Recorded { version, at: Timestamp::from_millis(0), event };
    StreamChange::fold(patient, Some(KeyId::new(Uuid::nil())), &[recorded]).unwrap()
}

fn someone() -> PatientId {
    PatientId::new(Uuid::new_v4())
}

async fn with_spy(permits: usize) -> (Arc<Hooked<Spy>>, Applier, Generation) {
    let fixture = Fixture::new().await;
    let spy = Arc::new(Spy::over(fixture.store.clone(), permits));
    let generation = spy.serving().await.unwrap();
    (spy.clone(), Applier::start(spy, fixture.ledger.client(), ring()), generation)
}

#[tokio::test]
async fn what_waits_travels_together() {
    const CHANGES: usize = 2 * MAX_BATCH + 10;
    let (spy, applier, generation) = with_spy(0).await;
    let all = join_all((0..CHANGES).map(|_| applier.apply(generation, change(someone(), 1))));
    let (results, ()) = tokio::join!(all, async {
        while spy.hook.calls.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        spy.hook.gate.add_permits(100);
    });
    assert!(results.iter().all(Result::is_ok));
    assert!(spy.hook.calls.load(Ordering::SeqCst) <= 6, "{:?}", spy.hook.calls);
    assert!(spy.hook.most_at_once.load(Ordering::SeqCst) <= 2);
}

#[tokio::test]
async fn changes_of_one_patient_follow_each_other() {
    const VERSIONS: u64 = 20;
    let (spy, applier, generation) = with_spy(1_000).await;
    let patients: Vec<_> = (0..20).map(|_| someone()).collect();
    // The spy panics, and so no answer comes, where one patient is in flight twice.
    let all = (1..=VERSIONS)
        .flat_map(|version| patients.iter().map(move |patient| change(*patient, version)))
        .map(|change| applier.apply(generation, change));
    for result in join_all(all).await {
        result.unwrap();
    }
    for patient in patients {
        let stored = spy.patient(generation, patient).await.unwrap().unwrap();
        assert_eq!(stored.version, VERSIONS);
    }
}

#[tokio::test]
async fn more_than_can_wait_is_refused_at_once() {
    let (spy, applier, generation) = with_spy(0).await;
    let waiting: Vec<_> = (0..MAX_WAITING * 2)
        .map(|_| {
            let applier = applier.clone();
            tokio::spawn(async move { applier.apply(generation, change(someone(), 1)).await })
        })
        .collect();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let refused = applier.apply(generation, change(someone(), 1)).await;
    assert!(matches!(refused, Err(ApplyError::Busy)), "{refused:?}");
    spy.hook.gate.add_permits(1_000);
    let results = join_all(waiting).await;
    let done = results.iter().filter(|result| matches!(result, Ok(Ok(())))).count();
    assert!(done >= MAX_WAITING, "{done}");
    applier.apply(generation, change(someone(), 1)).await.unwrap();
}

#[tokio::test]
async fn a_caller_does_not_wait_for_ever() {
    let fixture = Fixture::new().await;
    let generation = fixture.serving().await;
    fixture.store.fail_applies(Fault::Hang, 1);
    let applier = fixture.applier();
    tokio::time::pause();
    let result = applier.apply(generation, change(someone(), 1)).await;
    assert!(matches!(result, Err(ApplyError::TimedOut)), "{result:?}");
    // Another batch is not held up by the one that hangs.
    applier.apply(generation, change(someone(), 1)).await.unwrap();
}

#[tokio::test]
async fn a_failure_is_told_to_everyone_and_harms_nothing() {
    let fixture = Fixture::new().await;
    let generation = fixture.serving().await;
    let applier = fixture.applier();
    let patient = someone();
    fixture.store.fail_applies(Fault::TestsOnly, 1);
    let result = applier.apply(generation, change(patient, 1)).await;
    assert!(matches!(result, Err(ApplyError::Store(_))), "{result:?}");
    applier.apply(generation, change(patient, 1)).await.unwrap();
    applier.apply(generation, change(patient, 1)).await.unwrap();
}

#[tokio::test]
async fn a_gap_is_filled_from_the_ledger() {
    let fixture = Fixture::new().await;
    let generation = fixture.serving().await;
    let applier = fixture.applier();
    let patient = fixture.patient().await;
    patient.registered("Ada");
    patient.amended("Byron");
    patient.amended("Lovelace");
    applier.apply(generation, patient.change(3, 3).await).await.unwrap();
    fixture.is_live(generation, patient.id).await;
    // The one before arrives late and changes nothing.
    applier.apply(generation, patient.change(2, 2).await).await.unwrap();
    fixture.is_live(generation, patient.id).await;
}

#[tokio::test]
async fn a_gap_that_the_ledger_cannot_fill_is_an_error() {
    let fixture = Fixture::new().await;
    let generation = fixture.serving().await;
    let result = fixture.applier().apply(generation, change(someone(), 3)).await;
    assert!(matches!(result, Err(ApplyError::Repair(_))), "{result:?}");
}

/// The sum of a metric's values over all labels that are not named; `None` where it is not shown.
fn counted(name: &str, label: &str) -> Option<f64> {
    let metrics = runtime::metrics::process().text().unwrap();
    let of_name =
        |line: &&str| line.strip_prefix(name).is_some_and(|it| it.starts_with([' ', '{']));
    let values = metrics.lines().filter(of_name).filter(|line| line.contains(label));
    values.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).reduce(f64::max)
}

#[tokio::test]
async fn what_is_applied_is_counted_by_who_did_it() {
    const APPLIED: &str = "vitalog_projection_applied_total";
    let fixture = Fixture::new().await;
    let generation = fixture.serving().await;
    let applier = fixture.applier();
    for by in ["command", "follower"] {
        assert!(counted(APPLIED, &format!("by=\"{by}\"")).is_some(), "{by} begins at 0");
    }
    let all = [
        (APPLIED, "by=\"command\""),
        (APPLIED, "by=\"follower\""),
        ("vitalog_projection_repairs_total", ""),
        ("vitalog_projection_apply_duration_seconds_count", ""),
        ("vitalog_projection_batch_changes_count", ""),
    ];
    let before = all.map(|(name, label)| counted(name, label).unwrap_or_default());
    let (one, two) = (fixture.patient().await, fixture.patient().await);
    one.registered("Ada");
    one.amended("Byron");
    // A gap, so the stream is repaired.
    applier.apply(generation, one.change(2, 2).await).await.unwrap();
    two.registered("Grace");
    let mut following = fixture.follow();
    following.reaches(generation, fixture.ledger.size()).await;
    for ((name, label), before) in all.into_iter().zip(before) {
        assert!(counted(name, label).unwrap() > before, "{name} {label}");
    }
}
