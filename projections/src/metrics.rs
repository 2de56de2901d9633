//! How far the follower is, for Prometheus: `GET /metrics` as `OpenMetrics` text.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use audit_client::AuditClient;
use audit_verify::checkpoint::read_unverified;
use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use domain::time::Timestamp;
use prometheus_client::{
    encoding::text::encode,
    metrics::gauge::Gauge,
    registry::{Registry, Unit},
};
use tokio::sync::{Mutex, watch};

use crate::{
    follower::{Clock, Progress},
    status::age_seconds,
};

/// How long the ledger's size is taken from memory, however many ask.
const SIZE_TIME: Duration = Duration::from_secs(5);

/// How long one asks for it; then the one known last is shown.
const SIZE_WAIT: Duration = Duration::from_secs(2);

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Number = Gauge<u64, AtomicU64>;

/// What a follower tells of itself.
struct Metrics {
    progress: watch::Receiver<Progress>,
    audit: AuditClient,
    clock: Clock,
    size: Mutex<Size>,
}

/// Records in the ledger by its checkpoint, which is not verified here: the follower verifies what
/// it follows, and this number moves nothing.
#[derive(Default)]
struct Size {
    records: Option<u64>,
    asked: Option<Instant>,
}

/// `GET /metrics` of a follower. Holds numbers alone and needs no key.
pub fn routes(progress: watch::Receiver<Progress>, audit: AuditClient, clock: Clock) -> Router {
    let metrics = Metrics { progress, audit, clock, size: Mutex::default() };
    Router::new().route("/metrics", get(show)).with_state(Arc::new(metrics))
}

async fn show(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    let size = metrics.ledger_size().await;
    let progress = metrics.progress.borrow().clone();
    match text(&progress, size, lag_seconds(&progress, size, (metrics.clock)())) {
        Ok(text) => Ok(([("content-type", CONTENT_TYPE)], text)),
        Err(_) => Err(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

impl Metrics {
    async fn ledger_size(&self) -> Option<u64> {
        let mut size = self.size.lock().await;
        if size.asked.is_none_or(|at| at.elapsed() >= SIZE_TIME) {
            size.asked = Some(Instant::now());
            let note = tokio::time::timeout(SIZE_WAIT, self.audit.checkpoint()).await;
            let head = note.ok().and_then(Result::ok).and_then(|note| read_unverified(&note).ok());
            size.records = head.map(|(_, head)| head.size).or(size.records);
        }
        size.records
    }
}

/// Age of the last record followed while there are more.
fn lag_seconds(progress: &Progress, size: Option<u64>, now: Timestamp) -> u64 {
    let behind = size.is_some_and(|size| size > progress.next_seq);
    progress.at.filter(|_| behind).map_or(0, |at| age_seconds(now, at))
}

fn text(
    progress: &Progress,
    size: Option<u64>,
    lag_seconds: u64,
) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("vitalog");
    let lag = size.map(|size| size.saturating_sub(progress.next_seq));
    for (name, help, value) in [
        ("ledger_records", "Records in the ledger, by its latest checkpoint", size),
        ("follower_lag_records", "Records of the ledger that are not followed yet", lag),
        ("follower_next_seq", "Position of the next record to follow", Some(progress.next_seq)),
        (
            "follower_parked_streams",
            "Streams that are not followed because an event cannot be applied",
            Some(progress.parked),
        ),
        (
            "follower_in_office",
            "1 where this process follows, 0 where another does and this one stands by",
            Some(progress.in_office.into()),
        ),
        (
            "follower_stopped",
            "1 where the chain is broken and nothing is followed any more",
            Some(progress.stopped_at.is_some().into()),
        ),
        ("follower_generation", "The generation followed into", Some(progress.generation.into())),
    ] {
        if let Some(value) = value {
            registry.register(name, help, gauge(value));
        }
    }
    let help = "Age of the last record followed while there are more, else 0";
    registry.register_with_unit("follower_lag", help, Unit::Seconds, gauge(lag_seconds));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn gauge(value: u64) -> Number {
    let gauge = Number::default();
    gauge.set(value);
    gauge
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What is shown of a follower that has followed 7 records, the last at the epoch.
    fn shown(progress: &Progress, size: Option<u64>) -> String {
        let at = Some(Timestamp::EPOCH);
        let progress = Progress { generation: 2, next_seq: 7, at, ..progress.clone() };
        text(&progress, size, lag_seconds(&progress, size, Timestamp::from_millis(90_000))).unwrap()
    }

    #[track_caller]
    fn check(text: &str, lines: &[&str]) {
        for line in lines {
            assert!(text.lines().any(|it| it == *line), "no {line} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
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
