//! Measurements of a client's connections.

use mongodb::event::{EventHandler, cmap::CmapEvent};
use opentelemetry::{
    KeyValue,
    metrics::{Histogram, Meter, UpDownCounter},
};

/// The pools of one client, all servers together.
struct Pool {
    connections: UpDownCounter<i64>,
    waits: Histogram<f64>,
    idle: [KeyValue; 2],
    used: [KeyValue; 2],
    namespace: [KeyValue; 1],
}

/// Measures a client of this database of ours: connections by state, and how long calls waited
/// for one. One that is being made counts as idle.
pub(super) fn measured(meter: &Meter, namespace: &'static str) -> EventHandler<CmapEvent> {
    let label = KeyValue::new("db.namespace", namespace);
    let state = |state| [label.clone(), KeyValue::new("state", state)];
    let pool = Pool {
        connections: meter
            .i64_up_down_counter("db.client.connection.count")
            .with_description("Connections to a store")
            .build(),
        waits: meter
            .f64_histogram("db.client.connection.wait_time")
            .with_unit("s")
            .with_description("How long calls waited for a connection to a store")
            .with_boundaries(runtime::metrics::SECONDS.to_vec())
            .build(),
        idle: state("idle"),
        used: state("used"),
        namespace: [label],
    };
    pool.count(0, 0);
    EventHandler::callback(move |event| pool.note(&event))
}

impl Pool {
    fn note(&self, event: &CmapEvent) {
        match event {
            CmapEvent::ConnectionCreated(_) => self.count(1, 0),
            CmapEvent::ConnectionClosed(_) => self.count(-1, 0),
            CmapEvent::ConnectionCheckedOut(event) => {
                self.count(-1, 1);
                self.waits.record(event.duration.as_secs_f64(), &self.namespace);
            }
            CmapEvent::ConnectionCheckedIn(_) => self.count(1, -1),
            CmapEvent::ConnectionCheckoutFailed(event) => {
                self.waits.record(event.duration.as_secs_f64(), &self.namespace);
            }
            _ => {}
        }
    }

    fn count(&self, idle: i64, used: i64) {
        self.connections.add(idle, &self.idle);
        self.connections.add(used, &self.used);
    }
}
