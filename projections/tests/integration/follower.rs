//! The follower brings what is missing, and stops rather than skip.

mod erasures;
mod keys;
mod office;
mod parking;
mod stale;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use domain::{event::Event, ids::TestId, record::RecordType};
use projections::{
    documents::{Generation, PatientState},
    store::{Generations, ReadModels, Upkeep, memory::Fault},
    tail::Tail,
};
use uuid::Uuid;

use crate::{
    fixture::{Fixture, follow, of_patient, ring},
    ledger::FakeLedger,
    spy::Spy,
};

#[tokio::test]
async fn it_brings_what_nobody_applied_and_the_activity_of_every_record() {
    let fixture = Fixture::new().await;
    let patients = fixture.history().await;
    let generation = fixture.serving().await;
    let mut following = fixture.follow();
    following.reaches(generation, fixture.ledger.size()).await;
    for patient in patients {
        fixture.is_live(generation, patient).await;
    }
    let filter = of_patient(patients[1]);
    let activity = fixture.store.activity(generation, &filter, None, 10).await.unwrap();
    let types: Vec<_> = activity.documents.iter().map(|document| document.record_type).collect();
    let expected =
        [RecordType::PatientsSearched, RecordType::PatientAmended, RecordType::PatientRegistered];
    assert_eq!(types, expected, "a search discloses the patients that it returned");
    following.end().await;
}

#[tokio::test]
async fn it_waits_for_new_records() {
    let fixture = Fixture::new().await;
    let patient = fixture.patient().await;
    let generation = fixture.serving().await;
    let mut following = fixture.follow();
    following.reaches(generation, 0).await;
    patient.registered("Ada");
    following.reaches(generation, 1).await;
    fixture.is_live(generation, patient.id).await;
    following.end().await;
}

#[tokio::test]
async fn what_is_applied_already_needs_no_key() {
    let fixture = Fixture::new().await;
    let patient = fixture.patient().await;
    patient.registered("Ada");
    let generation = fixture.serving().await;
    fixture.applier().apply(generation, patient.change(1, 1).await).await.unwrap();
    let mut deps = fixture.deps();
    deps.ring = ring();
    let mut following = follow(deps);
    following.reaches(generation, 1).await;
    following.end().await;
}

#[tokio::test]
async fn failures_of_ledger_and_store_are_waited_out() {
    let fixture = Fixture::new().await;
    let patients = fixture.history().await;
    let generation = fixture.serving().await;
    fixture.ledger.fail(1);
    fixture.store.fail_reads(1);
    fixture.store.fail_applies(Fault::Before, 2);
    fixture.store.fail_applies(Fault::After, 1);
    let mut following = fixture.follow();
    following.reaches(generation, fixture.ledger.size()).await;
    for patient in patients {
        fixture.is_live(generation, patient).await;
    }
    following.end().await;
}

#[tokio::test]
async fn one_that_died_between_writes_is_completed_by_the_next() {
    let fixture = Fixture::new().await;
    let patients = fixture.history().await;
    let generation = fixture.serving().await;
    // Tests are written, the patients are not, and the next try ends with the process.
    fixture.store.fail_applies(Fault::TestsOnly, 1);
    let spy = Arc::new(Spy::over(fixture.store.clone(), 1));
    let mut deps = fixture.deps();
    deps.store = spy.clone();
    let following = follow(deps);
    while spy.hook.calls.load(Ordering::SeqCst) < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    following.end().await;
    assert_eq!(fixture.store.tests(generation, patients[0]).await.unwrap().len(), 1);
    assert_eq!(fixture.store.patient(generation, patients[0]).await.unwrap(), None);
    assert_eq!(fixture.store.position(generation).await.unwrap(), None);

    let mut following = fixture.follow();
    following.reaches(generation, fixture.ledger.size()).await;
    for patient in patients {
        fixture.is_live(generation, patient).await;
    }
    following.end().await;
}

async fn check_stops(tamper: impl FnOnce(&mut Vec<String>), seq: u64) {
    let fixture = Fixture::new().await;
    fixture.history().await;
    let generation = fixture.serving().await;
    fixture.ledger.tamper(tamper);
    assert_eq!(fixture.follow().stops().await, seq);
    // What stands before the bad record is whole, and nothing after it was followed.
    let position = fixture.store.position(generation).await.unwrap();
    assert_eq!(position.map_or(0, |position| position.next_seq), seq);
}

#[tokio::test]
async fn a_changed_byte_stops_it_at_the_record_after() {
    // The changed record still reads as a record; the next one's `prev` gives it away.
    check_stops(|lines| lines[4] = lines[4].replace("192.0.2.7", "192.0.2.8"), 5).await;
}

#[tokio::test]
async fn a_record_that_is_none_stops_it() {
    check_stops(|lines| lines[4] = lines[4].replace("\"v\":1", "\"v\":2"), 4).await;
    check_stops(|lines| lines[4] = lines[4].replace("\"v\":1", "\"v\": 1"), 4).await;
    check_stops(|lines| lines[4].truncate(100), 4).await;
    check_stops(|lines| lines[0].clear(), 0).await;
}

#[tokio::test]
async fn a_removed_record_stops_it() {
    check_stops(|lines| drop(lines.remove(4)), 4).await;
}

#[tokio::test]
async fn an_inserted_record_stops_it() {
    check_stops(|lines| lines.insert(4, lines[3].clone()), 4).await;
}

#[tokio::test]
async fn swapped_records_stop_it() {
    check_stops(|lines| lines.swap(6, 7), 6).await;
}

#[tokio::test]
async fn a_ledger_that_was_cut_off_stops_it() {
    let fixture = Fixture::new().await;
    fixture.history().await;
    let generation = fixture.serving().await;
    let mut following = fixture.follow();
    let size = fixture.ledger.size();
    following.reaches(generation, size).await;
    fixture.ledger.tamper(|lines| lines.truncate(5));
    assert_eq!(following.stops().await, size - 1);
}

#[tokio::test]
async fn a_ledger_whose_end_was_rewritten_stops_it() {
    let fixture = Fixture::new().await;
    fixture.history().await;
    let generation = fixture.serving().await;
    let mut following = fixture.follow();
    let size = fixture.ledger.size();
    following.reaches(generation, size).await;
    fixture.ledger.tamper(|lines| {
        let last = lines.last_mut().unwrap();
        *last = last.replace("192.0.2.7", "192.0.2.8");
    });
    assert_eq!(following.stops().await, size - 1);
}

#[tokio::test]
async fn a_key_that_an_erasure_destroyed_is_excused_by_it() {
    let fixture = Fixture::new().await;
    let patient = fixture.patient().await;
    patient.registered("Ada");
    patient.recorded(TestId::new(Uuid::new_v4()));
    patient.happens(&Event::PatientErased);
    fixture.ring.destroy(patient.key.kid()).await.unwrap();
    let generation = fixture.serving().await;
    let mut following = fixture.follow();
    following.reaches(generation, 3).await;
    let stored = fixture.store.patient(generation, patient.id).await.unwrap().unwrap();
    assert_eq!((stored.version, stored.state), (3, PatientState::Erased));
    following.end().await;
}

#[tokio::test]
async fn a_gap_below_its_position_is_repaired_from_the_ledger() {
    let fixture = Fixture::new().await;
    let patient = fixture.patient().await;
    patient.registered("Ada");
    let mut tail = Tail::resume(fixture.ledger.client(), FakeLedger::origin(), None);
    tail.next(1, Duration::ZERO).await.unwrap();
    // A position without the documents that it stands for.
    let generation = fixture.serving().await;
    let office =
        fixture.store.take_office(generation, None, Uuid::new_v4()).await.unwrap().unwrap();
    fixture.store.set_position(generation, &tail.position().unwrap(), &office).await.unwrap();
    patient.amended("Lovelace");
    let mut following = fixture.follow();
    following.reaches(generation, 2).await;
    fixture.is_live(generation, patient.id).await;
    following.end().await;
}

#[tokio::test]
async fn a_replica_that_is_behind_makes_no_repair_fall_short() {
    for (size, times) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        let fixture = Fixture::new().await;
        let generation = fixture.serving().await;
        let patient = fixture.patient().await;
        patient.registered("Ada");
        patient.amended("Byron");
        let mut following = fixture.follow();
        following.reaches(generation, 2).await;
        following.end().await;
        // Its documents are lost, and what is served of the stream is older than the record that
        // shows it.
        let missing = fixture.store.create().await.unwrap();
        let position = fixture.store.position(generation).await.unwrap().unwrap();
        let office = fixture.store.take_office(missing, None, Uuid::new_v4()).await.unwrap();
        fixture.store.set_position(missing, &position, &office.unwrap()).await.unwrap();
        fixture.lets_serve(missing).await;
        patient.amended("Lovelace");
        fixture.ledger.streams_are_behind(size, times);
        let mut following = fixture.follow();
        following.reaches(missing, 3).await;
        following.parks(0).await;
        fixture.is_live(missing, patient.id).await;
        following.end().await;
    }
}

#[tokio::test]
async fn it_follows_into_the_generation_that_serves() {
    let fixture = Fixture::new().await;
    let patients = fixture.history().await;
    let first = fixture.serving().await;
    let mut following = fixture.follow();
    following.reaches(first, fixture.ledger.size()).await;
    let second = fixture.store.create().await.unwrap();
    fixture.lets_serve(second).await;
    following.reaches(second, fixture.ledger.size()).await;
    assert_eq!(second, Generation(2));
    for patient in patients {
        fixture.is_live(second, patient).await;
    }
    following.end().await;
}
