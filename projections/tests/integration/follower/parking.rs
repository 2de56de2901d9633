//! An event that cannot be applied parks its stream, visibly, and nothing is lost by it.

use std::time::Duration;

use domain::{event::Event, ids::TestId, time::Timestamp};
use projections::{
    documents::{Generation, Parked, PatientState},
    error::{FollowError, NotApplicable, NotApplicableReason, RebuildError},
    follower::Deps,
    park::{self, MAX_PARKED, RetryOutcome},
    store::{ReadModels, Upkeep},
};
use uuid::Uuid;

use crate::{
    fixture::{Fixture, Somebody, building, follow, of_patient, person, ring_over},
    process::{Side, Step},
};

/// How long a test waits for the follower to take a request up.
const WAIT: Duration = Duration::from_secs(20);

async fn parked(fixture: &Fixture, generation: Generation) -> Vec<Parked> {
    fixture.store.parked(generation, None, 100).await.unwrap()
}

#[tokio::test]
async fn an_event_that_cannot_be_decrypted_parks_its_stream_alone() {
    let fixture = Fixture::new().await;
    let generation = fixture.serving().await;
    let (one, two) = (fixture.patient().await, fixture.patient().await);
    one.registered("Ada");
    two.registered("Canary");
    let lost = two.amended("Canary the second");
    one.amended("Lovelace");
    fixture.applier().apply(generation, two.change(1, 1).await).await.unwrap();
    fixture.lose_key(&two).await;
    let mut following = fixture.follow();
    following.reaches(generation, 4).await;
    following.parks(1).await;
    two.recorded(TestId::new(Uuid::new_v4()));
    one.amended("King");
    following.reaches(generation, 6).await;

    fixture.is_live(generation, one.id).await;
    let stored = fixture.store.patient(generation, two.id).await.unwrap().unwrap();
    assert_eq!(stored.version, 1, "its documents stay as they were");
    let rows = parked(&fixture, generation).await;
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((row.patient, row.seq, row.retry), (two.id, lost.seq, false));
    assert!(row.reason.contains("key") && !row.reason.contains("Canary"), "{}", row.reason);
    // Who touched her is told all the same.
    let filter = of_patient(two.id);
    let activity = fixture.store.activity(generation, &filter, None, 10).await.unwrap();
    assert_eq!(activity.documents.len(), 3);
    following.end().await;

    // The next one begins behind it and passes over it too.
    two.amended("Canary the third");
    one.amended("Byron");
    let mut following = fixture.follow();
    following.reaches(generation, fixture.ledger.size()).await;
    following.parks(1).await;
    assert_eq!(parked(&fixture, generation).await, rows);
    fixture.is_live(generation, one.id).await;
    following.end().await;
}

#[tokio::test]
async fn a_stream_under_two_keys_is_parked_and_stops_a_rebuild() {
    let fixture = Fixture::new().await;
    let generation = fixture.serving().await;
    let (one, other) = (fixture.patient().await, fixture.patient().await);
    one.registered("Ada");
    one.recorded(TestId::new(Uuid::new_v4()));
    let amended = Event::PatientAmended(person("Canary"));
    let changed = fixture.ledger.event(one.id, &other.key, &amended);
    let mut following = fixture.follow();
    following.parks(1).await;
    following.reaches(generation, 3).await;
    assert_eq!(fixture.store.patient(generation, one.id).await.unwrap(), None);
    let rows = parked(&fixture, generation).await;
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((row.patient, row.seq), (one.id, changed.seq));
    assert!(row.reason.contains("another key") && !row.reason.contains("Canary"), "{}", row.reason);
    following.end().await;

    let error = fixture.rebuild(&building()).await.unwrap_err();
    let RebuildError::Follow(FollowError::NotApplicable(refused)) = error else {
        panic!("{error:?}")
    };
    let NotApplicable { seq, reason, .. } = refused;
    assert_eq!(seq, changed.seq);
    assert!(matches!(reason, NotApplicableReason::KeyChanged), "{reason:?}");
}

/// A stream that is parked with some events, and its key to be had again.
async fn parked_stream(
    fixture: &Fixture,
) -> (Somebody<'_>, Vec<projections::key_ring::kek::WrappedKey>) {
    let generation = fixture.serving().await;
    let somebody = fixture.patient().await;
    somebody.registered("Ada");
    somebody.recorded(TestId::new(Uuid::new_v4()));
    let backup = fixture.lose_key(&somebody).await;
    let mut following = fixture.follow();
    following.parks(1).await;
    somebody.amended("Lovelace");
    following.reaches(generation, fixture.ledger.size()).await;
    following.end().await;
    (somebody, backup)
}

#[tokio::test]
async fn a_parked_stream_is_tried_again_on_demand() {
    let fixture = Fixture::new().await;
    let generation = fixture.serving().await;
    let (somebody, backup) = parked_stream(&fixture).await;
    let mut following = fixture.follow();
    following.parks(1).await;

    let retried = park::retry(&fixture.store, &[somebody.id], WAIT).await.unwrap();
    assert_eq!(retried[0].outcome, RetryOutcome::StillParked);
    assert_eq!(retried[0].parked.as_ref().unwrap().seq, 0);
    following.parks(1).await;

    fixture.restore_key(&backup).await;
    let retried = park::retry(&fixture.store, &[], WAIT).await.unwrap();
    let [retried] = &retried[..] else { panic!("{retried:?}") };
    assert_eq!((retried.patient, retried.outcome), (somebody.id, RetryOutcome::Followed));
    following.parks(0).await;
    fixture.is_live(generation, somebody.id).await;

    // It is followed like any other now.
    somebody.amended("King");
    following.reaches(generation, fixture.ledger.size()).await;
    fixture.is_live(generation, somebody.id).await;
    let retried = park::retry(&fixture.store, &[somebody.id], WAIT).await.unwrap();
    assert_eq!(retried[0].outcome, RetryOutcome::NotParked);
    following.end().await;
}

#[tokio::test]
async fn without_a_follower_a_request_is_kept_for_the_next() {
    let fixture = Fixture::new().await;
    let generation = fixture.serving().await;
    let (somebody, backup) = parked_stream(&fixture).await;
    fixture.restore_key(&backup).await;
    let retried = park::retry(&fixture.store, &[], Duration::from_millis(300)).await.unwrap();
    assert_eq!(retried[0].outcome, RetryOutcome::NotTakenUp);
    assert!(park::list(&fixture.store).await.unwrap()[0].retry);
    let mut following = fixture.follow();
    following.parks(0).await;
    fixture.is_live(generation, somebody.id).await;
    following.end().await;
}

#[tokio::test]
async fn an_erasure_needs_nothing_of_what_was_missed() {
    let fixture = Fixture::new().await;
    let generation = fixture.serving().await;
    let (somebody, backup) = parked_stream(&fixture).await;
    // A backup of the key ring comes back with the erasure: it must not help.
    fixture.restore_key(&backup).await;
    let mut following = fixture.follow();
    following.parks(1).await;
    somebody.happens(&Event::PatientErased);
    following.reaches(generation, fixture.ledger.size()).await;
    following.parks(0).await;
    let stored = fixture.store.patient(generation, somebody.id).await.unwrap().unwrap();
    assert_eq!((stored.version, stored.state), (4, PatientState::Erased));
    assert!(!fixture.keys.contains(somebody.key.kid()));
    assert!(parked(&fixture, generation).await.is_empty());
    following.end().await;
}

/// Whatever the step at which a follower dies, the stream is parked or whole in the end.
async fn check_death_while_parking(step: Step) {
    let fixture = Fixture::new().await;
    let generation = fixture.serving().await;
    let (lost, other) = (fixture.patient().await, fixture.patient().await);
    lost.registered("Ada");
    other.registered("Grace");
    let backup = fixture.lose_key(&lost).await;
    let process = fixture.process();
    process.hook.freeze_at(step);
    let dying = fixture.follow_as(&process);
    process.hook.freezes().await;
    dying.kill();

    let mut following = fixture.follow();
    lost.amended("Lovelace");
    following.reaches(generation, fixture.ledger.size()).await;
    following.parks(1).await;
    assert_eq!(parked(&fixture, generation).await[0].seq, 0, "{step:?}");
    fixture.is_live(generation, other.id).await;
    fixture.restore_key(&backup).await;
    park::retry(&fixture.store, &[], WAIT).await.unwrap();
    following.parks(0).await;
    fixture.is_live(generation, lost.id).await;
    following.end().await;
}

#[tokio::test]
async fn a_death_while_parking_loses_nothing() {
    let calls = ["park", "write_activity", "set_position"];
    let steps = calls.iter().flat_map(|call| [(Side::Before, *call), (Side::After, *call)]);
    futures::future::join_all(steps.map(check_death_while_parking)).await;
}

async fn check_death_while_retrying(step: Step) {
    let fixture = Fixture::new().await;
    let generation = fixture.serving().await;
    let (somebody, backup) = parked_stream(&fixture).await;
    fixture.restore_key(&backup).await;
    fixture.store.retry_parked(generation, None).await.unwrap();
    let process = fixture.process();
    process.hook.freeze_at(step);
    let dying = fixture.follow_as(&process);
    process.hook.freezes().await;
    dying.kill();

    let mut following = fixture.follow();
    following.parks(0).await;
    fixture.is_live(generation, somebody.id).await;
    assert!(parked(&fixture, generation).await.is_empty(), "{step:?}");
    somebody.amended("King");
    following.reaches(generation, fixture.ledger.size()).await;
    fixture.is_live(generation, somebody.id).await;
    following.end().await;
}

#[tokio::test]
async fn a_death_between_repair_and_unparking_loses_nothing() {
    let calls = ["cursors", "apply", "unpark"];
    let steps = calls.iter().flat_map(|call| [(Side::Before, *call), (Side::After, *call)]);
    futures::future::join_all(steps.map(check_death_while_retrying)).await;
}

#[tokio::test]
async fn rows_that_another_wrote_or_took_away_late_are_put_right() {
    let fixture = Fixture::new().await;
    let generation = fixture.serving().await;
    let whole = fixture.patient().await;
    whole.registered("Grace");
    let (broken, backup) = parked_stream(&fixture).await;
    let mut following = fixture.follow();
    following.parks(1).await;
    // Taken away: the stream is still not followed, and says so again.
    fixture.store.unpark(generation, broken.id).await.unwrap();
    // Written: the stream is whole.
    let at = Timestamp::from_millis(0);
    let late = Parked { patient: whole.id, seq: 0, reason: "late".to_owned(), at, retry: false };
    fixture.store.park(generation, &late).await.unwrap();
    let put_right = async {
        loop {
            let rows = parked(&fixture, generation).await;
            if rows.iter().map(|row| row.patient).eq([broken.id]) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WAIT, put_right).await.expect("the rows say what is so");
    whole.amended("Hopper");
    following.reaches(generation, fixture.ledger.size()).await;
    fixture.is_live(generation, whole.id).await;
    fixture.restore_key(&backup).await;
    park::retry(&fixture.store, &[], WAIT).await.unwrap();
    following.parks(0).await;
    fixture.is_live(generation, broken.id).await;
    following.end().await;
}

#[tokio::test]
async fn a_key_encryption_key_that_is_not_at_hand_parks_nothing() {
    let fixture = Fixture::new().await;
    let generation = fixture.serving().await;
    let patients = fixture.history().await;
    let ring = ring_over(fixture.keys.clone(), 8);
    let following = follow(Deps { ring, ..fixture.deps() });
    let taken = async {
        while fixture.store.office(generation).await.unwrap().is_none_or(|office| office.term < 3) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WAIT, taken).await.expect("it tries again and again");
    assert!(parked(&fixture, generation).await.is_empty());
    following.end().await;
    let mut following = fixture.follow();
    following.reaches(generation, fixture.ledger.size()).await;
    for patient in patients {
        fixture.is_live(generation, patient).await;
    }
    following.end().await;
}

#[tokio::test]
async fn too_many_parked_streams_stop_the_position_until_there_is_room() {
    let fixture = Fixture::new().await;
    let generation = fixture.serving().await;
    let (somebody, backup) = parked_stream(&fixture).await;
    for number in 1..MAX_PARKED {
        let patient = domain::ids::PatientId::new(Uuid::from_u128(number as u128));
        let at = Timestamp::from_millis(0);
        let row = Parked { patient, seq: 0, reason: "test".to_owned(), at, retry: false };
        fixture.store.park(generation, &row).await.unwrap();
    }
    let position = fixture.store.position(generation).await.unwrap();
    let another = fixture.patient().await;
    another.registered("Grace");
    fixture.lose_key(&another).await;
    let process = fixture.process();
    let mut following = fixture.follow_as(&process);
    let tried = async {
        while process.hook.calls().iter().filter(|call| **call == "cursors").count() < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WAIT, tried).await.expect("it tries again and again");
    assert_eq!(fixture.store.position(generation).await.unwrap(), position);
    // One that can be mended makes room.
    fixture.restore_key(&backup).await;
    fixture.store.retry_parked(generation, Some(&[somebody.id])).await.unwrap();
    following.reaches(generation, fixture.ledger.size()).await;
    fixture.is_live(generation, somebody.id).await;
    following.end().await;
}
