//! How old the keys in use are, as a metric: since they were made where that is known, else since
//! this process saw them first.

use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

/// What keys are for, and which of those it is.
type Key = (&'static str, String);

/// When each key in use was seen first, and how old it was then. As many as the settings name.
static SEEN: LazyLock<Mutex<HashMap<Key, (Instant, Duration)>>> = LazyLock::new(Mutex::default);

/// A key is in use from now on, in place of the one before it. `key` says what it is for, a word
/// of this program that becomes a label, and `which` which of those it is. `age` is zero where
/// nobody knows it.
pub fn seen(key: &'static str, which: &str, age: Duration) {
    lock().insert((key, which.to_owned()), (Instant::now(), age));
}

/// Shows them; of several keys for one thing the oldest.
pub(crate) fn observe(meter: &Meter) {
    meter
        .u64_observable_gauge("vitalog.key.age")
        .with_unit("s")
        .with_description("Age of the key in use, or since when this process knows it")
        .with_callback(|shown| {
            for (key, age) in oldest() {
                shown.observe(age, &[KeyValue::new("key", key)]);
            }
        })
        .build();
}

fn oldest() -> BTreeMap<&'static str, u64> {
    let mut ages = BTreeMap::new();
    for ((key, _), (at, age)) in lock().iter() {
        let seconds = at.elapsed().saturating_add(*age).as_secs();
        let oldest = ages.entry(*key).or_insert(seconds);
        *oldest = seconds.max(*oldest);
    }
    ages
}

/// A panic elsewhere leaves the map whole: every change is one step.
fn lock() -> MutexGuard<'static, HashMap<Key, (Instant, Duration)>> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::metrics::Meters;

    #[track_caller]
    fn check(meters: &Meters, ages: &[u64]) {
        let text = meters.text().unwrap();
        let fits = |age: &u64| {
            let line = format!("vitalog_key_age_seconds{{key=\"tested\"}} {age}");
            text.lines().any(|it| it == line)
        };
        assert!(ages.iter().any(fits), "none of {ages:?} in\n{text}");
    }

    #[test]
    fn the_oldest_key_for_a_thing_is_shown_until_it_is_replaced() {
        let meters = Meters::default();
        observe(&meters.meter());
        seen("tested", "one", Duration::from_secs(500));
        seen("tested", "other", Duration::from_hours(25));
        // A second may pass meanwhile.
        check(&meters, &[90_000, 90_001]);
        seen("tested", "other", Duration::ZERO);
        check(&meters, &[500, 501]);
    }
}
