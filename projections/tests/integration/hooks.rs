//! Stores that end a process between two calls, or write down what is called.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use projections::store::{
    StoreError,
    hooked::{Call, Hook, Hooked},
    memory::MemoryStore,
};
use tokio_util::sync::CancellationToken;

/// Lets nothing through after a number of steps, each of which is one side of a write.
pub(crate) struct Kill {
    left: AtomicI64,
    pub(crate) ended: CancellationToken,
}

impl Kill {
    pub(crate) fn after(inner: MemoryStore, steps: i64) -> Arc<Hooked<Self>> {
        let kill = Self { left: AtomicI64::new(steps), ended: CancellationToken::new() };
        Arc::new(Hooked::new(Arc::new(inner), kill))
    }

    async fn step(&self, call: Call<'_>) {
        if matches!(call, Call::Read(_) | Call::Write("beat")) {
            return;
        }
        if self.left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            self.ended.cancel();
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Hook for Kill {
    async fn before(&self, call: Call<'_>) -> Result<(), StoreError> {
        self.step(call).await;
        Ok(())
    }

    async fn after(&self, call: Call<'_>) -> Result<(), StoreError> {
        self.step(call).await;
        Ok(())
    }
}

/// Writes down which writes were made and when, and does something before some of them.
pub(crate) struct Watch {
    pub(crate) writes: Mutex<Vec<(&'static str, Instant)>>,
    before: Box<dyn Fn(&'static str) + Send + Sync>,
}

impl Watch {
    pub(crate) fn over(
        inner: MemoryStore,
        before: impl Fn(&'static str) + Send + Sync + 'static,
    ) -> Arc<Hooked<Self>> {
        let watch = Self { writes: Mutex::default(), before: Box::new(before) };
        Arc::new(Hooked::new(Arc::new(inner), watch))
    }

    /// When these writes were made, and in which order.
    pub(crate) fn of(&self, names: &[&str]) -> Vec<(&'static str, Instant)> {
        let writes = self.writes.lock().unwrap();
        writes.iter().filter(|(name, _)| names.contains(name)).copied().collect()
    }
}

#[async_trait]
impl Hook for Watch {
    async fn before(&self, call: Call<'_>) -> Result<(), StoreError> {
        if let Call::Write(name) = call {
            (self.before)(name);
            self.writes.lock().unwrap().push((name, Instant::now()));
        }
        Ok(())
    }
}
