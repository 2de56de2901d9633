//! The follower, and pages of what it wrote.

use std::sync::Arc;

use domain::time::Timestamp;
use http::StatusCode;
use projections::{
    follower,
    key_ring::{KeyRing, kek::Kek},
};
use runtime::health::Readiness;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::{Answer, System};

/// Runs until it is dropped.
pub(crate) struct Following {
    _stop: DropGuard,
}

impl Following {
    pub(crate) fn start(system: &System) -> Self {
        let deps = follower::Deps {
            store: Arc::new(system.store.clone()),
            audit: system.audit_client(),
            ring: KeyRing::new(system.keys.clone(), Kek::new([3; 32].into())),
            ledger_key: None,
            clock: || Timestamp::from_millis(0),
        };
        let component = Readiness::default().component("follower");
        let stop = CancellationToken::new();
        let progress = watch::Sender::default();
        let options = follower::Options::default();
        tokio::spawn(follower::follow(deps, options, progress, stop.clone(), component));
        Self { _stop: stop.drop_guard() }
    }
}

/// A system with a follower.
pub(crate) async fn followed() -> (System, Following) {
    let system = System::start().await;
    let following = Following::start(&system);
    (system, following)
}

/// The entries of an accounting, which is complete to its own record.
#[track_caller]
pub(crate) fn entries(answer: Answer) -> Vec<Value> {
    let answer = answer.expect(StatusCode::OK);
    let complete_to = answer.body["completeTo"].as_u64().unwrap();
    assert!(answer.receipt().starts_with(&format!("seq={complete_to}, ")), "{}", answer.receipt());
    answer.body["entries"].as_array().unwrap().clone()
}

/// A member of every entry.
pub(crate) fn each<'a>(entries: &'a [Value], member: &str) -> Vec<&'a str> {
    entries.iter().map(|entry| entry[member].as_str().unwrap()).collect()
}

pub(crate) fn seqs(entries: &[Value]) -> Vec<u64> {
    entries.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect()
}

/// Where a `Link` leads, if there is one.
pub(crate) fn next_of(answer: &Answer) -> Option<String> {
    let target = answer.header("link").strip_prefix('<')?;
    target.strip_suffix(">; rel=\"next\"").map(str::to_owned)
}
