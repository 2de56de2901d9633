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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use runtime::metrics::Meters;
    use serde::de::DeserializeOwned;

    use super::*;

    /// An event of connection 1.
    fn event<T: DeserializeOwned + Into<CmapEvent>>(reason: &str) -> CmapEvent {
        let event = serde_json::json!({"connectionId": 1, "reason": reason});
        serde_json::from_value::<T>(event).unwrap().into()
    }

    #[test]
    fn connections_are_counted_by_state() {
        use mongodb::event::cmap::{
            ConnectionCheckedInEvent as In, ConnectionCheckedOutEvent as Out,
            ConnectionClosedEvent as Closed, ConnectionCreatedEvent as Created,
        };
        let meters = Meters::default();
        let EventHandler::Callback(note) = measured(&meters.meter(), "ledger") else {
            panic!("no callback");
        };
        let check = |idle: i64, used: i64, waits: u64| {
            let text = meters.text().unwrap();
            let mut lines = vec![
                format!(
                    r#"db_client_connection_count{{db_namespace="ledger",state="idle"}} {idle}"#
                ),
                format!(
                    r#"db_client_connection_count{{db_namespace="ledger",state="used"}} {used}"#
                ),
            ];
            let wait = "db_client_connection_wait_time_seconds_count";
            lines
                .extend((waits > 0).then(|| format!(r#"{wait}{{db_namespace="ledger"}} {waits}"#)));
            for line in lines {
                assert!(text.lines().any(|found| found == line), "{line} in {text}");
            }
        };
        check(0, 0, 0);
        note(event::<Created>(""));
        note(event::<Created>(""));
        check(2, 0, 0);
        note(event::<Out>(""));
        check(1, 1, 1);
        note(event::<In>(""));
        note(event::<Closed>("idle"));
        check(1, 0, 1);
    }
}
