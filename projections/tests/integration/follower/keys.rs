//! Keys of search criteria are destroyed when their time has come.

use std::time::Duration;

use domain::time::Timestamp;
use projections::{
    follower::{Deps, Options},
    key_ring::store::KeyStore,
};

use crate::fixture::{Fixture, follow_with, options};

type Clock = fn() -> Timestamp;

const MONTHS: [&str; 6] = ["2024-08", "2024-09", "2025-10", "2026-08", "2026-09", "2026-10"];

/// In the month of the ledger's records.
fn now() -> Timestamp {
    middle_of("2026-09")
}

fn middle_of(month: &str) -> Timestamp {
    format!("{month}-15T12:00:00.000Z").parse().unwrap()
}

async fn epochs(fixture: &Fixture) -> Vec<String> {
    let listed = fixture.keys.epochs().await.unwrap();
    let mut names: Vec<String> = listed.into_iter().map(|(epoch, _)| epoch).collect();
    names.sort_unstable();
    names
}

async fn check_kept(clock: Clock, months: u32, kept: &[&str]) {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.ledger.refusal().recorded_at.to_string()[..7], *"2026-09");
    for month in MONTHS {
        fixture.ring.epoch_key(middle_of(month)).await.unwrap();
    }
    let patient = fixture.patient().await;
    assert_eq!(epochs(&fixture).await, MONTHS);
    let deps = Deps { clock, ..fixture.deps() };
    let mut following = follow_with(deps, Options { keep_search_criteria: months, ..options() });
    let wanted: Vec<_> = kept.iter().map(|&month| month.to_owned()).collect();
    let destroyed = async {
        while epochs(&fixture).await != wanted {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let generation = fixture.serving().await;
    following.reaches(generation, 1).await;
    tokio::time::timeout(Duration::from_secs(10), destroyed).await.expect("the old ones go");
    assert!(fixture.keys.contains(patient.key.kid()));
    following.end().await;
}

#[tokio::test]
async fn those_of_months_long_past_go_and_no_other() {
    check_kept(now, 24, &MONTHS[1..]).await;
    check_kept(now, 25, &MONTHS).await;
    check_kept(now, 1, &MONTHS[3..]).await;
    check_kept(now, 0, &MONTHS).await;
    check_kept(now, u32::MAX, &MONTHS).await;
}

#[tokio::test]
async fn a_clock_that_is_years_ahead_destroys_no_key_that_the_ledgers_time_keeps() {
    check_kept(|| middle_of("2060-01"), 24, &MONTHS[1..]).await;
    check_kept(|| middle_of("2025-10"), 1, &MONTHS[2..]).await;
}

#[tokio::test]
async fn while_the_ledger_is_empty_no_key_is_destroyed() {
    let fixture = Fixture::new().await;
    fixture.ring.epoch_key(middle_of("2024-08")).await.unwrap();
    let deps = Deps { clock: now, ..fixture.deps() };
    let mut following = follow_with(deps, Options { keep_search_criteria: 1, ..options() });
    following.reaches(fixture.serving().await, 0).await;
    following.end().await;
    assert_eq!(epochs(&fixture).await, ["2024-08"]);
}

#[tokio::test]
async fn the_month_that_is_used_now_gets_the_same_key_as_before() {
    let fixture = Fixture::new().await;
    let before = fixture.ring.epoch_key(now()).await.unwrap();
    assert_eq!(fixture.ring.destroy_old_epochs(now(), 1).await.unwrap(), 0);
    assert_eq!(fixture.ring.epoch_key(now()).await.unwrap().kid(), before.kid());
    let later = middle_of("2026-11");
    assert_eq!(fixture.ring.destroy_old_epochs(later, 1).await.unwrap(), 1);
    assert_eq!(fixture.ring.get(before.kid()).await.unwrap().map(|key| key.kid()), None);
}
