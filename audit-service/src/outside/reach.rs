//! How far a place outside has come.

use std::time::Instant;

use opentelemetry::{KeyValue, metrics::Meter};
use tokio::sync::watch;

use crate::{appender::Head, metrics};

/// What ages of checkpoints say, in the metrics.
pub(crate) const AGE: &str =
    "Age of the newest checkpoint while the ledger has grown since, else 0";

/// The newest checkpoint that a witness or an anchor is known to have.
#[derive(Debug)]
pub struct Reach(watch::Sender<Reached>);

/// The size of a checkpoint, 0 for none, and since when it is known to be there.
#[derive(Debug, Clone, Copy)]
pub struct Reached {
    /// Records.
    pub size: u64,
    /// Without a checkpoint, when this process began.
    pub at: Instant,
}

impl Reached {
    /// Seconds since then, while the ledger has grown; else 0.
    pub fn age(self, head: Head) -> f64 {
        if head.size > self.size { self.at.elapsed().as_secs_f64() } else { 0.0 }
    }
}

impl Default for Reach {
    fn default() -> Self {
        Self(watch::Sender::new(Reached { size: 0, at: Instant::now() }))
    }
}

impl Reach {
    /// Size of the checkpoint.
    pub fn size(&self) -> u64 {
        self.0.borrow().size
    }

    /// Notes a checkpoint.
    pub fn to(&self, size: u64) {
        self.0.send_replace(Reached { size, at: Instant::now() });
    }

    /// What it is, and becomes.
    pub fn watch(&self) -> watch::Receiver<Reached> {
        self.0.subscribe()
    }
}

/// Shows the age of each place's newest checkpoint while the ledger has grown since, else 0. The
/// places are named by this label. Ends with the tasks that reach them.
pub fn observe(
    meter: &Meter,
    (name, label): (&'static str, &'static str),
    head: watch::Receiver<Head>,
    places: Vec<(String, watch::Receiver<Reached>)>,
) {
    let places =
        places.into_iter().map(|(place, reached)| ([KeyValue::new(label, place)], reached));
    let places: Vec<_> = places.collect();
    meter
        .f64_observable_gauge(name)
        .with_unit("s")
        .with_description(AGE)
        .with_callback(move |age| {
            let Some(head) = metrics::current(&head) else { return };
            for (label, reached) in places.iter().filter(|(_, it)| it.has_changed().is_ok()) {
                age.observe(reached.borrow().age(head), label);
            }
        })
        .build();
}
