//! How the connections to a store are used: what its driver tells, as metrics.

use std::sync::LazyLock;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, UpDownCounter};

use crate::metrics;

static CONNECTIONS: LazyLock<UpDownCounter<i64>> = LazyLock::new(|| {
    metrics::meter()
        .i64_up_down_counter("db.client.connection.count")
        .with_description("Connections to a store")
        .build()
});

static WAITS: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    metrics::seconds("db.client.connection.wait_time", "How long calls waited for a connection")
});

/// The connections to one database. Whoever has the driver's events calls the method of each.
#[derive(Debug, Clone, Copy)]
pub struct StorePool {
    namespace: &'static str,
}

impl StorePool {
    /// Of one of our databases: `ledger`, `patients`, `keys`. Shown from now on, with none.
    pub fn new(namespace: &'static str) -> Self {
        let pool = Self { namespace };
        pool.add("idle", 0);
        pool.add("used", 0);
        pool
    }

    /// A connection can be used.
    pub fn opened(&self) {
        self.add("idle", 1);
    }

    /// A connection that nobody uses was closed.
    pub fn closed(&self) {
        self.add("idle", -1);
    }

    /// A call got a connection after this wait.
    pub fn taken(&self, waited: Duration) {
        self.add("idle", -1);
        self.add("used", 1);
        WAITS.record(waited.as_secs_f64(), &[self.name()]);
    }

    /// A call is done with its connection.
    pub fn returned(&self) {
        self.add("used", -1);
        self.add("idle", 1);
    }

    fn add(self, state: &'static str, connections: i64) {
        CONNECTIONS.add(connections, &[self.name(), KeyValue::new("state", state)]);
    }

    fn name(self) -> KeyValue {
        KeyValue::new("db.namespace", self.namespace)
    }
}
