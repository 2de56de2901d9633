//! The faults that the in-memory ledger can be told to have.

use std::time::Duration;

use audit_service::store::{
    AppendError, LedgerStore, StoreError,
    memory::{AppendFault, MemoryLedger},
};
use domain::time::Timestamp;

use super::fixture::{BlockBuilder, event, patient, plain};

fn block(first: u64, line: &str) -> audit_service::block::Block {
    BlockBuilder::new(first).with(plain(line)).with(event(1, first + 1, first)).build()
}

/// Appends with a fault, which must be reported as an unknown outcome.
async fn fail(ledger: &MemoryLedger, fault: AppendFault, line: &str) {
    ledger.fail_append(fault);
    let error = ledger.append(&block(0, line)).await.unwrap_err();
    assert!(matches!(error, AppendError::Ambiguous(_)), "{error:?}");
}

#[tokio::test]
async fn failing_and_persisting_stores_the_block() {
    let ledger = MemoryLedger::new();
    fail(&ledger, AppendFault::FailAndPersist, "a").await;
    assert_eq!(ledger.head().await.unwrap(), Some(block(0, "a")));
    let again = ledger.append(&block(0, "a")).await.unwrap_err();
    assert!(matches!(again, AppendError::Occupied { first: 0 }));
}

#[tokio::test]
async fn failing_without_persisting_stores_nothing() {
    let ledger = MemoryLedger::new();
    fail(&ledger, AppendFault::FailAndDoNotPersist, "a").await;
    ledger.fail_append(AppendFault::Refuse);
    let refused = ledger.append(&block(0, "a")).await.unwrap_err();
    assert!(matches!(refused, AppendError::Refused(_)));
    assert_eq!(ledger.head().await.unwrap(), None);
    ledger.append(&block(0, "a")).await.unwrap();
    assert_eq!(ledger.appends(), 3);
}

#[tokio::test]
async fn a_hanging_append_stores_once_released_and_nothing_if_given_up() {
    let ledger = MemoryLedger::new();
    ledger.fail_append(AppendFault::Hang);
    let given_up = block(0, "given up");
    let waiting = tokio::time::timeout(Duration::from_millis(20), ledger.append(&given_up));
    assert!(waiting.await.is_err());
    ledger.fail_append(AppendFault::Hang);
    let hanging = {
        let ledger = ledger.clone();
        tokio::spawn(async move { ledger.append(&block(0, "a")).await })
    };
    while ledger.appends() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(ledger.head().await.unwrap(), None);
    ledger.release();
    hanging.await.unwrap().unwrap();
    assert_eq!(ledger.blocks(), [block(0, "a")]);
}

#[tokio::test]
async fn a_late_block_lands_where_the_place_is_free() {
    let ledger = MemoryLedger::new();
    fail(&ledger, AppendFault::LandLate, "a").await;
    assert_eq!(ledger.head().await.unwrap(), None);
    ledger.land();
    assert_eq!(ledger.blocks(), [block(0, "a")]);

    let ledger = MemoryLedger::new();
    fail(&ledger, AppendFault::LandLate, "a").await;
    ledger.append(&block(0, "b")).await.unwrap();
    ledger.land();
    assert_eq!(ledger.blocks(), [block(0, "b")]);
}

#[tokio::test]
async fn a_hidden_block_is_in_the_way_but_not_visible() {
    for revealed in [true, false] {
        let ledger = MemoryLedger::new();
        fail(&ledger, AppendFault::Hide, "a").await;
        assert_eq!(ledger.head().await.unwrap(), None);
        assert_eq!(ledger.block_at(0).await.unwrap(), None);
        assert!(ledger.stream_versions(&[patient(1)]).await.unwrap().is_empty());
        let occupied = ledger.append(&block(0, "b")).await.unwrap_err();
        assert!(matches!(occupied, AppendError::Occupied { first: 0 }));
        if revealed {
            ledger.reveal();
            assert_eq!(ledger.blocks(), [block(0, "a")]);
        } else {
            ledger.roll_back();
            ledger.append(&block(0, "b")).await.unwrap();
        }
    }
}

#[tokio::test]
async fn reads_fail_as_often_as_asked() {
    let ledger = MemoryLedger::new();
    ledger.fail_reads(2);
    assert!(matches!(ledger.head().await, Err(StoreError::Unavailable(_))));
    assert!(matches!(ledger.clock().await, Err(StoreError::Unavailable(_))));
    assert_eq!(ledger.head().await.unwrap(), None);
}

#[tokio::test]
async fn clock_and_blocks_can_be_set() {
    let ledger = MemoryLedger::new();
    let time = Timestamp::from_millis(1_234);
    ledger.set_clock(Some(time));
    assert_eq!(ledger.clock().await.unwrap(), time);
    for first in [0, 2, 4] {
        ledger.append(&block(first, "a")).await.unwrap();
    }
    ledger.replace_block(block(2, "forged"));
    ledger.truncate(4);
    assert_eq!(ledger.blocks(), [block(0, "a"), block(2, "forged")]);
}
