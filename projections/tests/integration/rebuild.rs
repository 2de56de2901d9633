//! A rebuild serves only when all of the ledger is verified and applied.

use audit_verify::{checkpoint::LedgerSecret, key_history::NotVouchedFor};
use domain::hash::Hash;
use projections::{
    documents::Generation,
    error::RebuildError,
    follower::Deps,
    rebuild::{Summary, rebuild},
    status,
    store::{Generations, ReadModels, memory::Fault},
};
use tokio_util::sync::CancellationToken;

use crate::{
    fixture::{Fixture, building, of_patient},
    ledger::FakeLedger,
};

async fn run(fixture: &Fixture) -> Result<Summary, RebuildError> {
    fixture.rebuild(&building()).await
}

#[tokio::test]
async fn it_equals_the_live_read_models() {
    let fixture = Fixture::new().await;
    let patients = fixture.history().await;
    let first = fixture.live().await;
    let summary = run(&fixture).await.unwrap();
    let second = fixture.serving().await;
    assert_eq!(summary.generation, second.0);
    assert_ne!(first, second);
    assert_eq!((summary.records, summary.events, summary.patients), (13, 10, 3));
    assert_eq!(summary.digest, fixture.digest(first).await.hash);
    for patient in patients {
        fixture.is_live(second, patient).await;
        let filter = of_patient(patient);
        let activity = |generation| fixture.store.activity(generation, &filter, None, 100);
        assert_eq!(activity(first).await.unwrap(), activity(second).await.unwrap());
    }
    // The old generation is kept, and the follower goes on in the new one.
    assert_eq!(fixture.store.list().await.unwrap(), [first, second]);
    fixture.ledger.refusal();
    let mut following = fixture.follow();
    following.reaches(second, fixture.ledger.size()).await;
    following.end().await;
}

#[tokio::test]
async fn an_empty_ledger_makes_an_empty_generation() {
    let fixture = Fixture::new().await;
    fixture.serving().await;
    let summary = run(&fixture).await.unwrap();
    assert_eq!((summary.generation, summary.records), (2, 0));
}

#[tokio::test]
async fn long_ledgers_are_read_in_batches() {
    let fixture = Fixture::new().await;
    let patient = fixture.patient().await;
    patient.registered("Ada");
    for n in 0..2_500 {
        if n % 100 == 0 {
            patient.amended("Lovelace");
        } else {
            fixture.ledger.read(patient.id);
        }
    }
    let summary = run(&fixture).await.unwrap();
    assert_eq!((summary.records, summary.events), (2_501, 26));
    fixture.is_live(fixture.serving().await, patient.id).await;
}

#[tokio::test]
async fn failures_that_go_away_do_not_end_it() {
    let fixture = Fixture::new().await;
    let patients = fixture.history().await;
    fixture.serving().await;
    fixture.ledger.fail(2);
    fixture.store.fail_applies(Fault::Before, 1);
    fixture.store.fail_applies(Fault::TestsOnly, 1);
    let summary = run(&fixture).await.unwrap();
    for patient in patients {
        fixture.is_live(Generation(summary.generation), patient).await;
    }
}

/// Checks that a rebuild fails, leaves nothing behind, and serves what served before.
async fn check_refused(fixture: &Fixture) -> RebuildError {
    let before = fixture.serving().await;
    let error = run(fixture).await.unwrap_err();
    assert_eq!(fixture.serving().await, before);
    assert_eq!(fixture.store.list().await.unwrap(), [before]);
    error
}

#[tokio::test]
async fn records_without_the_signed_root_never_serve() {
    let fixture = Fixture::new().await;
    fixture.history().await;
    fixture.ledger.sign_root(Hash::ZERO);
    let error = check_refused(&fixture).await;
    assert!(matches!(error, RebuildError::Root { size: 13 }), "{error}");
}

#[tokio::test]
async fn a_rewritten_chain_never_serves() {
    // Every link holds, since the whole chain was made anew; only the signed root does not fit.
    let (fixture, other) = (Fixture::new().await, Fixture::new().await);
    fixture.history().await;
    other.history().await;
    let root = other.ledger.root();
    fixture.ledger.sign_root(root);
    let error = check_refused(&fixture).await;
    assert!(matches!(error, RebuildError::Root { .. }), "{error}");
}

#[tokio::test]
async fn a_checkpoint_of_another_key_is_not_believed() {
    let fixture = Fixture::new().await;
    fixture.history().await;
    fixture.serving().await;
    let mut deps = fixture.deps();
    deps.ledger_key = Some(FakeLedger::other_key());
    let error = rebuild(&deps, &building(), &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, RebuildError::Checkpoint(_)), "{error}");
    assert_eq!(fixture.store.list().await.unwrap(), [Generation(1)]);
}

/// A history that goes on after two rotations of the ledger's key.
async fn rotated(fixture: &Fixture) {
    fixture.history().await;
    fixture.ledger.rotate(1, None);
    fixture.ledger.refusal();
    fixture.ledger.rotate(2, None);
    fixture.ledger.refusal();
}

#[tokio::test]
async fn it_goes_on_across_rotations_from_whichever_key_it_was_given() {
    let fixture = Fixture::new().await;
    rotated(&fixture).await;
    let middle = LedgerSecret::new(FakeLedger::origin(), &[1; 32]).public();
    let pinned = [FakeLedger::first_key(), middle, fixture.ledger.newest_key()];
    for key in pinned.into_iter().map(Some).chain([None]) {
        let deps = Deps { ledger_key: key.clone(), ..fixture.deps() };
        let summary = rebuild(&deps, &building(), &CancellationToken::new()).await.unwrap();
        assert_eq!(summary.records, 17, "{key:?}");
        let size = status::ledger_size(&deps.audit, key.clone()).await.unwrap();
        assert_eq!(size, 17, "{key:?}");
    }
}

#[tokio::test]
async fn a_key_that_nobody_handed_the_ledger_to_is_not_believed_after_rotations_either() {
    let fixture = Fixture::new().await;
    rotated(&fixture).await;
    fixture.serving().await;
    let deps = Deps { ledger_key: Some(FakeLedger::other_key()), ..fixture.deps() };
    let error = rebuild(&deps, &building(), &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, RebuildError::Checkpoint(_)), "{error}");
    assert_eq!(fixture.store.list().await.unwrap(), [Generation(1)]);
}

#[tokio::test]
async fn a_rotation_that_the_key_before_did_not_vouch_for_never_serves() {
    let fixture = Fixture::new().await;
    fixture.history().await;
    fixture.ledger.rotate(1, None);
    let stranger = LedgerSecret::new(FakeLedger::origin(), &[9; 32]);
    let forged = fixture.ledger.rotate(2, Some(stranger));
    let error = check_refused(&fixture).await;
    let RebuildError::Rotation(NotVouchedFor { seq }) = error else { panic!("{error}") };
    assert_eq!(seq, forged.seq);
}

#[tokio::test]
async fn the_old_key_signs_nothing_that_covers_the_rotation() {
    let fixture = Fixture::new().await;
    fixture.history().await;
    fixture.ledger.rotate(1, None);
    fixture.serving().await;
    fixture.ledger.sign_with(FakeLedger::first_secret());
    for key in [None, Some(FakeLedger::first_key()), Some(fixture.ledger.newest_key())] {
        let deps = Deps { ledger_key: key.clone(), ..fixture.deps() };
        let error = rebuild(&deps, &building(), &CancellationToken::new()).await.unwrap_err();
        assert!(matches!(error, RebuildError::Checkpoint(_)), "{key:?}: {error}");
    }
    assert_eq!(fixture.store.list().await.unwrap(), [Generation(1)]);
    fixture.ledger.sign_with(LedgerSecret::new(FakeLedger::origin(), &[1; 32]));
    run(&fixture).await.unwrap();
}

#[tokio::test]
async fn a_broken_link_is_named() {
    let fixture = Fixture::new().await;
    fixture.history().await;
    fixture.ledger.tamper(|lines| lines.swap(8, 9));
    let RebuildError::Follow(error) = check_refused(&fixture).await else { panic!("not a link") };
    assert_eq!(error.stops_at(), Some(8));
}

#[tokio::test]
async fn an_event_that_cannot_be_decrypted_is_named() {
    let fixture = Fixture::new().await;
    fixture.history().await;
    let patient = fixture.patient().await;
    let lost = patient.registered("Ada");
    fixture.ring.destroy(patient.key.kid()).await.unwrap();
    let RebuildError::Follow(error) = check_refused(&fixture).await else { panic!("not an event") };
    assert_eq!(error.stops_at(), Some(lost.seq));
}

#[tokio::test]
async fn a_shutdown_leaves_nothing_behind() {
    let fixture = Fixture::new().await;
    fixture.history().await;
    let before = fixture.serving().await;
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    let error = rebuild(&fixture.deps(), &building(), &shutdown).await.unwrap_err();
    assert!(matches!(error, RebuildError::Interrupted), "{error}");
    assert_eq!(fixture.store.list().await.unwrap(), [before]);
}

#[tokio::test]
async fn status_compares_with_the_signed_size() {
    let fixture = Fixture::new().await;
    fixture.history().await;
    fixture.live().await;
    fixture.ledger.refusal();
    let deps = fixture.deps();
    let now = domain::time::Timestamp::from_millis(1_790_000_060_000);
    let size = status::ledger_size(&deps.audit, None).await.unwrap();
    let status = status::status(&fixture.store, Some(size), now).await.unwrap();
    assert_eq!((status.next_seq, status.ledger_size, status.lag_records), (13, Some(14), Some(1)));
    assert_eq!(status.lag_seconds, Some(59));
    // The rest where the ledger gave no answer.
    let status = status::status(&fixture.store, None, now).await.unwrap();
    let shown = serde_json::to_value(&status).unwrap();
    assert_eq!((status.generation, status.next_seq), (1, 13));
    for absent in ["ledgerSize", "lagRecords", "lagSeconds"] {
        assert_eq!((shown.get(absent), shown["generations"][0].get(absent)), (None, None));
    }
}
