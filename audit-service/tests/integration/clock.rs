//! Which clock may date records.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use audit_service::{clock::Clock, store::memory::MemoryLedger};
use domain::time::Timestamp;

use crate::{
    chain::Chain,
    fixture::{Machine, Running, event, eventually, nothing_stored, read, receipt},
};

/// Some time.
pub(crate) const NOON: i64 = 1_700_000_000_000;

/// A clock that shows what it is told to.
#[derive(Clone)]
pub(crate) struct Hands(Arc<AtomicI64>);

impl Hands {
    pub(crate) fn at(millis: i64) -> Self {
        Self(Arc::new(AtomicI64::new(millis)))
    }

    pub(crate) fn set(&self, millis: i64) {
        self.0.store(millis, Ordering::SeqCst);
    }

    pub(crate) fn clock(&self) -> Clock {
        let hands = self.0.clone();
        Arc::new(move || Timestamp::from_millis(hands.load(Ordering::SeqCst)))
    }
}

/// A process whose clock and the store's show noon.
async fn at_noon() -> (MemoryLedger, Hands, Running) {
    let store = MemoryLedger::new();
    store.set_clock(Some(Timestamp::from_millis(NOON)));
    let hands = Hands::at(NOON);
    let running = Machine::new().open_with_clock(&store, hands.clock()).await;
    assert_eq!(receipt(running.append(event(1, 1)).await).recorded_at.millis(), NOON);
    (store, hands, running)
}

async fn check_refuses(store: &MemoryLedger, running: &Running) {
    let before = store.blocks().len();
    assert_eq!(running.append(read(1)).await, nothing_stored());
    eventually(|| !running.readiness.is_ready()).await;
    assert_eq!(store.blocks().len(), before);
}

#[tokio::test]
async fn a_clock_ahead_of_the_stores_dates_nothing() {
    let (store, hands, running) = at_noon().await;
    hands.set(NOON + 2_000);
    assert_eq!(receipt(running.append(read(1)).await).recorded_at.millis(), NOON + 2_000);
    // An hour, between two looks at the store's clock: one record would stop everybody for it.
    hands.set(NOON + 3_600_000);
    check_refuses(&store, &running).await;
    // The store's clock gets there.
    store.set_clock(Some(Timestamp::from_millis(NOON + 3_600_000)));
    receipt(running.append(read(1)).await);
    eventually(|| running.readiness.is_ready()).await;
}

#[tokio::test]
async fn a_process_whose_clock_is_ahead_at_start_is_not_ready() {
    let store = MemoryLedger::new();
    store.set_clock(Some(Timestamp::from_millis(NOON)));
    // Well over, because the store's clock goes on while the process starts.
    let hands = Hands::at(NOON + 5_000);
    let running = Machine::new().open_with_clock(&store, hands.clock()).await;
    check_refuses(&store, &running).await;
    hands.set(NOON);
    receipt(running.append(read(1)).await);
}

#[tokio::test]
async fn a_clock_behind_the_head_dates_nothing() {
    let (store, hands, running) = at_noon().await;
    hands.set(NOON - 2_001);
    check_refuses(&store, &running).await;
    hands.set(NOON - 2_000);
    receipt(running.append(read(1)).await);
    eventually(|| running.readiness.is_ready()).await;
}

#[tokio::test]
async fn a_head_of_another_process_counts_too() {
    let (store, _, _ahead) = at_noon().await;
    let hands = Hands::at(NOON - 2_001);
    let behind = Machine::new().open_with_clock(&store, hands.clock()).await;
    check_refuses(&store, &behind).await;
}

#[tokio::test]
async fn recorded_times_never_decrease() {
    let (store, hands, running) = at_noon().await;
    for (shown, recorded) in [(500, 500), (-500, 500), (-1_500, 500), (400, 500), (600, 600)] {
        hands.set(NOON + shown);
        let receipt = receipt(running.append(read(1)).await);
        assert_eq!(receipt.recorded_at.millis(), NOON + recorded);
    }
    Chain::check(&store.blocks());
}
