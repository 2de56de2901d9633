//! Waiting for the follower.

use std::time::{Duration, Instant};

use domain::{
    actor::{Actor, ActorKind, Outcome, Purpose},
    hash::Hash,
    record::RecordType,
    time::Timestamp,
};
use futures::future::join_all;
use http::StatusCode;
use projections::{
    documents::{ActivityDoc, Generation, Pointer, Position},
    store::{Generations, Upkeep, WriteModels, memory::Fault},
};
use tokio::time::timeout;
use uuid::Uuid;

use super::following::{Following, entries, seqs};
use crate::harness::System;

/// What a request waits for the follower, and some more for a busy machine.
const WAIT: std::ops::Range<Duration> = Duration::from_secs(3)..Duration::from_secs(8);

#[tokio::test]
async fn while_the_follower_stands_still_an_accounting_is_refused_with_how_far_it_is() {
    let system = System::start().await;
    let path = system.any_patient().await;
    let asked = Instant::now();
    let answer = system.get(&format!("{path}/activity")).await;
    assert!(WAIT.contains(&asked.elapsed()), "{:?}", asked.elapsed());
    let answer = answer.expect(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header("retry-after"), "1");
    assert!(answer.receipt().starts_with("seq=1, "), "{}", answer.receipt());
    let expected = "the request is record 1, and activity is known only before record 0; try again";
    assert_eq!(answer.body["detail"], expected);

    let _following = Following::start(&system);
    assert_eq!(seqs(&entries(system.get(&format!("{path}/activity")).await)), [2, 1, 0]);
}

#[tokio::test]
async fn an_accounting_that_comes_before_the_follower_waits_for_it() {
    let system = System::start().await;
    let path = system.any_patient().await;
    let accounting = async { system.get(&format!("{path}/activity")).await };
    let follower = async {
        while system.records_of(RecordType::ActivityRead).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Following::start(&system)
    };
    let (answer, _following) = tokio::join!(accounting, follower);
    assert_eq!(seqs(&entries(answer)), [1, 0]);
}

#[tokio::test]
async fn accountings_that_wait_do_not_take_the_places_of_others() {
    let system = System::start().await;
    let path = system.any_patient().await;
    let accounting = format!("{path}/activity");
    let all = async { join_all((0..40).map(|_| system.get(&accounting))).await };
    let read = async {
        while system.records_of(RecordType::ActivityRead).len() < 32 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        system.get(&path).await.expect(StatusCode::OK)
    };
    let (answers, _) = tokio::join!(all, read);
    let refused = answers.iter().filter(|answer| answer.text.contains("too many accountings"));
    assert_eq!(refused.count(), 8);
    assert!(answers.iter().all(|answer| answer.status == StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(system.records_of(RecordType::ActivityRead).len(), 32);
}

#[tokio::test]
async fn whom_the_ledger_knows_is_found_though_the_read_model_lags() {
    let system = System::start().await;
    system.store.fail_applies(Fault::Before, usize::from(u8::MAX));
    let path = system.any_patient().await;
    let accounting = format!("{path}/activity");
    system.get(&accounting).await.expect(StatusCode::SERVICE_UNAVAILABLE);
    let reads = system.records_of(RecordType::ActivityRead);
    let outcomes: Vec<_> = reads.iter().map(|read| read.outcome).collect();
    assert_eq!(outcomes, [Outcome::NotFound, Outcome::Success]);
}

#[tokio::test]
async fn without_the_ledger_there_is_no_accounting() {
    let mut system = System::start().await;
    let path = system.any_patient().await;
    system.stop_audit().await;
    for path in [format!("{path}/activity"), "/audit/fhir/AuditEvent".to_owned()] {
        let answer = system.get(&path).await.expect(StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.receipt().is_empty() && !answer.text.contains("PatientRegistered"));
    }
}

/// One document of an actor, in a generation of its own.
async fn write(system: &System, generation: Generation, actor: &str) {
    let document = ActivityDoc {
        seq: 0,
        at: Timestamp::EPOCH,
        record_type: RecordType::PatientRead,
        outcome: Outcome::Success,
        purpose: Purpose::Treatment,
        actor: Actor {
            id: actor.parse().unwrap(),
            kind: ActorKind::Subscription,
            roles: Vec::new(),
        },
        source: "patient-service".parse().unwrap(),
        client: None,
        trace: None,
        test: None,
        patients: Vec::new(),
    };
    system.store.write_activity(generation, &[document]).await.unwrap();
}

async fn is_followed(system: &System, generation: Generation) {
    let office = system.store.take_office(generation, None, Uuid::new_v4()).await.unwrap().unwrap();
    let position = Position { next_seq: 1_000, hash: Hash::ZERO, at: Timestamp::EPOCH };
    system.store.set_position(generation, &position, &office).await.unwrap();
}

#[tokio::test]
async fn an_accounting_that_waits_goes_over_to_the_generation_that_serves() {
    let system = System::start().await;
    let old = system.store.serving().await.unwrap();
    let new = system.store.create().await.unwrap();
    write(&system, old, "old").await;
    write(&system, new, "new").await;
    is_followed(&system, new).await;
    let get = async || entries(system.get("/audit/activity").await);
    let flip = async {
        while system.records_of(RecordType::ActivityRead).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        system.store.join(new).await.unwrap();
        let joined = Pointer { serving: old, also: Some(new) };
        assert!(system.store.activate(new, joined).await.unwrap());
        // What reads the new one is answered at once. The old one is never followed any more.
        let look = || timeout(Duration::from_millis(100), system.get("/audit/activity"));
        while look().await.is_err() {}
        get().await
    };
    let (begun_before, begun_after) = tokio::join!(get(), flip);
    assert_eq!(begun_before[0]["actor"]["id"], "new");
    assert_eq!(begun_after[0]["actor"]["id"], "new");
}
