//! The tail returns records that follow from all before them.

use std::time::Duration;

use projections::{error::TailError, tail::Tail};

use crate::{fixture::Fixture, ledger::FakeLedger};

#[tokio::test]
async fn it_resumes_where_another_ended() {
    let fixture = Fixture::new().await;
    fixture.history().await;
    let mut first = Tail::resume(fixture.ledger.client(), FakeLedger::origin(), None);
    assert_eq!(first.position(), None);
    let records = first.next(4, Duration::ZERO).await.unwrap();
    assert_eq!(records.len(), 4);

    let mut second = Tail::resume(fixture.ledger.client(), FakeLedger::origin(), first.position());
    second.confirm().await.unwrap();
    let records = second.next(100, Duration::ZERO).await.unwrap();
    assert_eq!(records.first().map(|verified| verified.record.seq), Some(4));
    assert_eq!(second.next_seq(), fixture.ledger.size());
    assert!(second.next(100, Duration::ZERO).await.unwrap().is_empty());
}

#[tokio::test]
async fn records_before_a_broken_link_are_returned_first() {
    let fixture = Fixture::new().await;
    fixture.history().await;
    fixture.ledger.tamper(|lines| drop(lines.remove(3)));
    let mut tail = Tail::resume(fixture.ledger.client(), FakeLedger::origin(), None);
    assert_eq!(tail.next(100, Duration::ZERO).await.unwrap().len(), 3);
    for _ in 0..2 {
        let error = tail.next(100, Duration::ZERO).await.unwrap_err();
        assert_eq!(error.seq(), Some(3));
    }
    assert_eq!(tail.next_seq(), 3);
}

#[tokio::test]
async fn records_of_another_ledger_are_refused() {
    let fixture = Fixture::new().await;
    fixture.history().await;
    let other = "other".parse().unwrap();
    let mut tail = Tail::resume(fixture.ledger.client(), other, None);
    let error = tail.next(100, Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, TailError::Chain(_)), "{error}");
}
