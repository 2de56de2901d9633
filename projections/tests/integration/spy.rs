//! A store that counts and holds back what is applied to another.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use domain::ids::PatientId;
use projections::store::{
    StoreError,
    hooked::{Call, Hook, Hooked},
    memory::MemoryStore,
};
use tokio::sync::Semaphore;

pub(crate) struct Spy {
    /// One permit lets one call of `apply` through.
    pub(crate) gate: Semaphore,
    pub(crate) calls: AtomicUsize,
    pub(crate) most_at_once: AtomicUsize,
    at_once: AtomicUsize,
    in_flight: Mutex<HashSet<PatientId>>,
}

impl Spy {
    /// Lets `permits` calls of `apply` through to a store.
    pub(crate) fn over(inner: MemoryStore, permits: usize) -> Hooked<Self> {
        let spy = Self {
            gate: Semaphore::new(permits),
            calls: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
            at_once: AtomicUsize::new(0),
            in_flight: Mutex::default(),
        };
        Hooked::new(Arc::new(inner), spy)
    }
}

#[async_trait]
impl Hook for Spy {
    async fn before(&self, call: Call<'_>) -> Result<(), StoreError> {
        let Call::Apply(changes) = call else { return Ok(()) };
        let at_once = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(at_once, Ordering::SeqCst);
        self.calls.fetch_add(1, Ordering::SeqCst);
        for change in changes {
            let alone = self.in_flight.lock().unwrap().insert(change.patient);
            assert!(alone, "a patient is in two batches, or twice in one");
        }
        self.gate.acquire().await.unwrap().forget();
        Ok(())
    }

    async fn after(&self, call: Call<'_>) -> Result<(), StoreError> {
        let Call::Apply(changes) = call else { return Ok(()) };
        for change in changes {
            self.in_flight.lock().unwrap().remove(&change.patient);
        }
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }
}
