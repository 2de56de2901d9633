//! A builder that died leaves commands no second generation to write to for ever.

use std::time::Duration;

use projections::{
    follower::Options,
    office,
    store::{Generations, StoreError, Upkeep},
};
use uuid::Uuid;

use crate::fixture::{Fixture, follow_with, options};

const SETTLE_AFTER: Duration = Duration::from_secs(2);

fn settling() -> Options {
    Options { settle_after: SETTLE_AFTER, ..options() }
}

async fn settles(fixture: &Fixture) {
    let settled = async {
        while fixture.store.pointer().await.unwrap().also.is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::fixture::PATIENCE, settled).await.expect("it is settled");
}

#[tokio::test]
async fn a_generation_whose_builder_died_is_settled_and_its_builder_replaced() {
    let fixture = Fixture::new().await;
    let serving = fixture.serving().await;
    let built = fixture.store.create().await.unwrap();
    let builder = fixture.store.take_office(built, None, Uuid::new_v4()).await.unwrap().unwrap();
    fixture.store.join(built).await.unwrap();
    let mut following = follow_with(fixture.deps(), settling());
    following.reaches(serving, 0).await;
    settles(&fixture).await;
    assert_eq!(fixture.store.serving().await.unwrap(), serving);
    // It was only slow, and notices.
    let late = fixture.store.beat(built, &builder).await;
    assert!(matches!(late, Err(StoreError::Fenced)), "{late:?}");
    // Another can go on with it at once.
    let left = fixture.store.office(built).await.unwrap();
    assert_eq!(left.unwrap().holder, None);
    following.end().await;
}

#[tokio::test]
async fn one_that_served_before_is_settled_where_nobody_does() {
    let fixture = Fixture::new().await;
    fixture.serving().await;
    let built = fixture.store.create().await.unwrap();
    fixture.store.join(built).await.unwrap();
    fixture.lets_serve(built).await;
    let mut following = follow_with(fixture.deps(), settling());
    following.reaches(built, 0).await;
    settles(&fixture).await;
    assert_eq!(fixture.store.serving().await.unwrap(), built);
    following.end().await;
}

#[tokio::test]
async fn a_generation_whose_builder_lives_is_left_alone() {
    let fixture = Fixture::new().await;
    let serving = fixture.serving().await;
    let built = fixture.store.create().await.unwrap();
    let builder = fixture.store.take_office(built, None, Uuid::new_v4()).await.unwrap().unwrap();
    fixture.store.join(built).await.unwrap();
    let mut following = follow_with(fixture.deps(), settling());
    following.reaches(serving, 0).await;
    tokio::select! {
        () = tokio::time::sleep(SETTLE_AFTER * 3) => {}
        error = office::keep(&fixture.store, built, &builder, options().terms.beat) => {
            panic!("the builder is replaced: {error}")
        }
    }
    assert_eq!(fixture.store.pointer().await.unwrap().also, Some(built));
    following.end().await;
}
