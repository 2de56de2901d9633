//! Keys of search criteria are destroyed when their time has come.

use std::time::Duration;

use domain::time::Timestamp;
use projections::{
    follower::{Deps, Options},
    key_ring::store::KeyStore,
};

use crate::fixture::{Fixture, follow_with, options};

const MONTHS: [&str; 6] = ["2024-10", "2024-11", "2025-12", "2026-10", "2026-11", "2026-12"];

/// In November 2026.
fn now() -> Timestamp {
    middle_of("2026-11")
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

async fn check_kept(months: u32, kept: &[&str]) {
    let fixture = Fixture::new().await;
    for month in MONTHS {
        fixture.ring.epoch_key(middle_of(month)).await.unwrap();
    }
    let patient = fixture.patient().await;
    assert_eq!(epochs(&fixture).await, MONTHS);
    let deps = Deps { clock: now, ..fixture.deps() };
    let mut following = follow_with(deps, Options { keep_search_criteria: months, ..options() });
    let wanted: Vec<_> = kept.iter().map(|&month| month.to_owned()).collect();
    let destroyed = async {
        while epochs(&fixture).await != wanted {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let generation = fixture.serving().await;
    following.reaches(generation, 0).await;
    tokio::time::timeout(Duration::from_secs(10), destroyed).await.expect("the old ones go");
    assert!(fixture.keys.contains(patient.key.kid()));
    following.end().await;
}

#[tokio::test]
async fn those_of_months_long_past_go_and_no_other() {
    check_kept(24, &MONTHS[1..]).await;
    check_kept(25, &MONTHS).await;
    check_kept(1, &MONTHS[3..]).await;
    check_kept(0, &MONTHS).await;
    check_kept(u32::MAX, &MONTHS).await;
}

#[tokio::test]
async fn the_month_that_is_used_now_gets_the_same_key_as_before() {
    let fixture = Fixture::new().await;
    let before = fixture.ring.epoch_key(now()).await.unwrap();
    assert_eq!(fixture.ring.destroy_old_epochs(now(), 1).await.unwrap(), 0);
    assert_eq!(fixture.ring.epoch_key(now()).await.unwrap().kid(), before.kid());
    let later = middle_of("2027-01");
    assert_eq!(fixture.ring.destroy_old_epochs(later, 1).await.unwrap(), 1);
    assert_eq!(fixture.ring.get(before.kid()).await.unwrap().map(|key| key.kid()), None);
}
