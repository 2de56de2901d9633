//! How far the follower is, for the metrics.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use audit_client::AuditClient;
use audit_verify::checkpoint::read_unverified;
use domain::time::Timestamp;
use opentelemetry::metrics::Meter;
use tokio::sync::watch;

use crate::{
    follower::{Clock, Progress},
    status::age_seconds,
};

/// Between two looks at the ledger's size.
const LOOK: Duration = Duration::from_secs(5);

/// How long one may take; then the size known last is shown.
const WAIT: Duration = Duration::from_secs(2);

/// No size is known.
const UNKNOWN: u64 = u64::MAX;

/// Records in the ledger by its checkpoint, which is not verified here: the follower verifies what
/// it follows, and this number moves nothing. Clones are the same.
#[derive(Clone)]
struct Size(Arc<AtomicU64>);

impl Size {
    fn known(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|size| *size != UNKNOWN)
    }
}

/// Shows a follower's progress in the metrics of this process. Ends never; the ledger's size is
/// looked at while it runs.
pub async fn show(progress: watch::Receiver<Progress>, audit: AuditClient, clock: Clock) {
    let size = Size(Arc::new(AtomicU64::new(UNKNOWN)));
    observe(&runtime::metrics::meter(), &progress, &size, clock);
    loop {
        let note = tokio::time::timeout(WAIT, audit.checkpoint()).await;
        let head = note.ok().and_then(Result::ok).and_then(|note| read_unverified(&note).ok());
        if let Some((_, head)) = head {
            size.0.store(head.size, Ordering::Relaxed);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A number of the follower's, where there is one.
type Number = fn(&Progress, Option<u64>, Timestamp) -> Option<u64>;

/// What is shown: name, description, number.
const NUMBERS: [(&str, &str, Number); 8] = [
    ("vitalog.ledger.records", "Records in the ledger, by its latest checkpoint", |_, size, _| {
        size
    }),
    (
        "vitalog.follower.lag_records",
        "Records of the ledger that are not followed yet",
        |progress, size, _| size.map(|size| size.saturating_sub(progress.next_seq)),
    ),
    (
        "vitalog.follower.lag_seconds",
        "Age of the last record followed while there are more, else 0",
        |progress, size, now| Some(lag_seconds(progress, size, now)),
    ),
    ("vitalog.follower.next_seq", "Position of the next record to follow", |progress, _, _| {
        Some(progress.next_seq)
    }),
    (
        "vitalog.follower.parked_streams",
        "Streams that are not followed because an event cannot be applied",
        |progress, _, _| Some(progress.parked),
    ),
    (
        "vitalog.follower.in_office",
        "1 where this process follows, 0 where another does and this one stands by",
        |progress, _, _| Some(progress.in_office.into()),
    ),
    (
        "vitalog.follower.stopped",
        "1 where the chain is broken and nothing is followed any more",
        |progress, _, _| Some(progress.stopped_at.is_some().into()),
    ),
    ("vitalog.follower.generation", "The generation followed into", |progress, _, _| {
        Some(progress.generation.into())
    }),
];

fn observe(meter: &Meter, progress: &watch::Receiver<Progress>, size: &Size, clock: Clock) {
    for (name, description, number) in NUMBERS {
        let (progress, size) = (progress.clone(), size.clone());
        meter
            .u64_observable_gauge(name)
            .with_description(description)
            .with_callback(move |shown| {
                if let Some(value) = number(&progress.borrow(), size.known(), clock()) {
                    shown.observe(value, &[]);
                }
            })
            .build();
    }
}

/// Age of the last record followed while there are more.
fn lag_seconds(progress: &Progress, size: Option<u64>, now: Timestamp) -> u64 {
    let behind = size.is_some_and(|size| size > progress.next_seq);
    progress.at.filter(|_| behind).map_or(0, |at| age_seconds(now, at))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use runtime::metrics::Meters;

    use super::*;

    /// What is shown of a follower that has followed 7 records, the last at the epoch.
    fn shown(progress: &Progress, size: Option<u64>) -> String {
        let at = Some(Timestamp::EPOCH);
        let progress = Progress { generation: 2, next_seq: 7, at, ..progress.clone() };
        let (meters, (_sender, progress)) = (Meters::default(), watch::channel(progress));
        let size = Size(Arc::new(AtomicU64::new(size.unwrap_or(UNKNOWN))));
        observe(&meters.meter(), &progress, &size, || Timestamp::from_millis(90_000));
        meters.text().unwrap()
    }

    #[track_caller]
    fn check(text: &str, lines: &[&str]) {
        for line in lines {
            assert!(text.lines().any(|it| it == *line), "no {line} in\n{text}");
        }
    }

    #[test]
    fn one_that_is_behind_tells_by_how_much() {
        let progress = Progress { in_office: true, parked: 3, ..Progress::default() };
        let lines = [
            "vitalog_ledger_records 10",
            "vitalog_follower_next_seq 7",
            "vitalog_follower_lag_records 3",
            "vitalog_follower_lag_seconds 90",
            "vitalog_follower_parked_streams 3",
            "vitalog_follower_in_office 1",
            "vitalog_follower_stopped 0",
            "vitalog_follower_generation 2",
        ];
        check(&shown(&progress, Some(10)), &lines);
    }

    #[test]
    fn at_the_ledgers_end_nothing_lags() {
        let lines = ["vitalog_follower_lag_records 0", "vitalog_follower_lag_seconds 0"];
        check(&shown(&Progress::default(), Some(7)), &lines);
        // The checkpoint may be older than the last record followed.
        check(&shown(&Progress::default(), Some(6)), &lines);
    }

    #[test]
    fn an_unknown_size_is_not_shown_as_one() {
        let text = shown(&Progress { stopped_at: Some(7), ..Progress::default() }, None);
        check(&text, &["vitalog_follower_stopped 1", "vitalog_follower_in_office 0"]);
        assert!(!text.contains("lag_records") && !text.contains("ledger_records"), "{text}");
    }
}
