//! Keys made ahead: durable before they are handed out, each once, and what a failing store does.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use domain::ids::KeyId;
use futures::future::join_all;
use projections::key_ring::{
    KeyRing, KeyRingError,
    kek::WrappedKey,
    memory::{Fault, MemoryKeys},
    store::{KeyStore, KeyStoreError},
};

use crate::key_ring::kek;

/// A store that takes its time, so that a key handed out too early is not there yet.
struct SlowKeys(Arc<MemoryKeys>);

#[async_trait]
impl KeyStore for SlowKeys {
    async fn insert_batch(&self, keys: &[WrappedKey]) -> Result<(), KeyStoreError> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.0.insert_batch(keys).await
    }

    async fn get(&self, kids: &[KeyId]) -> Result<Vec<WrappedKey>, KeyStoreError> {
        self.0.get(kids).await
    }

    async fn destroy(&self, kid: KeyId) -> Result<(), KeyStoreError> {
        self.0.destroy(kid).await
    }

    async fn claim_epoch(&self, epoch: &str, key: WrappedKey) -> Result<WrappedKey, KeyStoreError> {
        self.0.claim_epoch(epoch, key).await
    }

    async fn epochs(&self) -> Result<Vec<(String, KeyId)>, KeyStoreError> {
        self.0.epochs().await
    }

    async fn any(&self) -> Result<Option<WrappedKey>, KeyStoreError> {
        self.0.any().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_callers_get_distinct_keys_that_are_durable_already() {
    let memory = Arc::new(MemoryKeys::default());
    let ring = KeyRing::new(Arc::new(SlowKeys(memory.clone())), kek());
    let calls = (0..10_000).map(|_| {
        let (ring, memory) = (ring.clone(), memory.clone());
        tokio::spawn(async move {
            let key = ring.fresh().await.unwrap();
            assert!(memory.contains(key.kid()));
            key.kid()
        })
    });
    let kids: HashSet<_> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(kids.len(), 10_000);
    let batches = memory.batches();
    assert_eq!(batches[0], 64);
    assert!(batches[1..].iter().all(|size| *size == 1_024));
    assert!(batches.len() <= 12, "{batches:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failing_store_is_an_error_and_recovers() {
    for fault in [Fault::Fails, Fault::FailsButPersists, Fault::Hangs] {
        let memory = Arc::new(MemoryKeys::default());
        let ring = KeyRing::new(memory.clone(), kek());
        memory.set_fault(fault);
        let results = join_all((0..100).map(|_| ring.fresh())).await;
        assert!(
            results.iter().all(|r| matches!(r, Err(KeyRingError::Unavailable(_)))),
            "{fault:?}"
        );
        memory.set_fault(Fault::None);
        let deadline = Duration::from_secs(30);
        let recovered = async { while ring.fresh().await.is_err() {} };
        tokio::time::timeout(deadline, recovered).await.unwrap();
        let key = ring.fresh().await.unwrap();
        assert!(memory.contains(key.kid()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_store_is_not_hammered() {
    let memory = Arc::new(MemoryKeys::default());
    let ring = KeyRing::new(memory.clone(), kek());
    memory.set_fault(Fault::FailsButPersists);
    let begun = tokio::time::Instant::now();
    for _ in 0..100 {
        ring.fresh().await.unwrap_err();
    }
    assert!(begun.elapsed() >= Duration::from_secs(9));
    // Without callers there are no tries either.
    let tries = memory.batches().len();
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(memory.batches().len() <= tries + 1);
    // The next caller begins again.
    memory.set_fault(Fault::None);
    ring.fresh().await.unwrap();
}
