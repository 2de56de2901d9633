//! Refusals of known callers on their way to the ledger (design §8).
//!
//! The answer never waits for the ledger: refusals go through a bounded queue to one worker. What
//! does not fit is dropped and counted. The worker tries again until the ledger has a refusal, so
//! an outage costs only what comes after the queue is full.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use audit_client::{AppendError, AuditClient};
use domain::actor::{Actor, ActorKind, Outcome, Purpose};
use domain::ids::{Name, ObjectRef, PatientId, Stream};
use domain::record::RecordType;
use domain::wire::Proposal;
use futures::future::join_all;
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use runtime::trace_context::TraceContext;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::Rate;
use crate::identity::Identity;
use crate::metrics::{Metrics, RefusalRecord};
use crate::occasional::Occasional;
use crate::rates::Rates;
use crate::routes::{Route, Target};

/// Refusals that wait for the ledger at most, some hundred bytes each.
const QUEUE: usize = 1_024;

/// Refusals sent to the ledger at once.
const BATCH: usize = 64;

/// Between two tries while the ledger cannot be reached.
const PAUSE: Duration = Duration::from_secs(1);

/// How long what waits at shutdown may take, within what is left of a drain.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

const PURPOSE: HeaderName = HeaderName::from_static("purpose-of-use");

/// Takes refusals to be recorded.
pub(crate) struct Denials {
    queue: mpsc::Sender<Proposal>,
    /// One that is refused in a loop must not fill the ledger.
    rates: Rates<(ActorKind, Name)>,
    metrics: Arc<Metrics>,
    dropped: Arc<Occasional>,
}

/// Records what was taken.
pub(crate) struct Recorder {
    queue: mpsc::Receiver<Proposal>,
    audit: AuditClient,
    metrics: Arc<Metrics>,
    dropped: Arc<Occasional>,
}

/// Both ends of the queue.
pub(crate) fn channel(
    audit: AuditClient,
    per_second: NonZeroU32,
    metrics: Arc<Metrics>,
) -> (Denials, Recorder) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let dropped = Arc::<Occasional>::default();
    let denials = Denials {
        queue: sender,
        rates: Rates::new(Rate { per_second, burst: per_second }),
        metrics: Arc::clone(&metrics),
        dropped: Arc::clone(&dropped),
    };
    (denials, Recorder { queue: receiver, audit, metrics, dropped })
}

impl Denials {
    /// Takes the refusal of a request to be recorded; never waits.
    pub(crate) fn note(&self, route: &Route, parts: &Parts, peer: IpAddr, identity: &Identity) {
        // It was made from an actor.
        let Ok(actor) = serde_json::from_slice::<Actor>(identity.actor().as_bytes()) else {
            return;
        };
        let caller = (actor.kind, actor.id.clone());
        if self.rates.charge(&caller).is_err() {
            return self.dropped(RefusalRecord::OverRate);
        }
        // Counted first: the worker may be done with it at once.
        self.metrics.refusals_waiting.fetch_add(1, Ordering::Relaxed);
        if self.queue.try_send(proposal(actor, route, parts, peer)).is_err() {
            self.metrics.refusals_waiting.fetch_sub(1, Ordering::Relaxed);
            self.dropped(RefusalRecord::QueueFull);
        }
    }

    fn dropped(&self, why: RefusalRecord) {
        self.metrics.refusal_record(why);
        if let Some(count) = self.dropped.count() {
            tracing::warn!(?why, count, "refusals are not recorded in the ledger");
        }
    }
}

fn proposal(actor: Actor, route: &Route, parts: &Parts, peer: IpAddr) -> Proposal {
    let trace = parts.extensions.get::<TraceContext>().map(TraceContext::trace_id_hex);
    let path = route.fill(route.path, parts.uri.path());
    let segment = |name: &str| {
        let mut segments = route.path.split('/').zip(path.split('/'));
        segments.find(|(part, _)| *part == name).map(|(_, value)| value)
    };
    let patient: Option<PatientId> = segment("{id}").and_then(|id| id.parse().ok());
    let test = segment("{testId}").and_then(|id| id.parse().ok());
    Proposal {
        stream: patient.map(Stream::Patient),
        object: test.filter(|_| patient.is_some()).map(ObjectRef),
        client: Some(peer.to_canonical()),
        trace: trace.and_then(|trace| trace.parse().ok()),
        ..Proposal::new(
            RecordType::AccessRefused,
            actor,
            purpose(&parts.headers).unwrap_or_else(|| usual_purpose(route)),
            Outcome::Denied,
        )
    }
}

/// The purpose that the request gives, if it gives one of the list.
fn purpose(headers: &HeaderMap) -> Option<Purpose> {
    let mut values = headers.get_all(PURPOSE).iter();
    let value = values.next()?.to_str().ok()?.parse().ok()?;
    values.next().is_none().then_some(value)
}

/// What the service behind a route records where a request gives no purpose.
const fn usual_purpose(route: &Route) -> Purpose {
    match route.target {
        Target::Audit(_) => Purpose::Compliance,
        _ => Purpose::Treatment,
    }
}

impl Recorder {
    /// Records until `closing`, and then what still waits, within [`DRAIN_TIMEOUT`].
    pub(crate) async fn run(mut self, closing: CancellationToken) {
        let metrics = Arc::clone(&self.metrics);
        let working = async {
            let mut batch = Vec::with_capacity(BATCH);
            loop {
                tokio::select! {
                    taken = self.queue.recv_many(&mut batch, BATCH) => {
                        if taken == 0 {
                            return;
                        }
                        self.record(std::mem::take(&mut batch)).await;
                    }
                    () = closing.cancelled(), if !self.queue.is_closed() => self.queue.close(),
                }
            }
        };
        let overdue = async {
            closing.cancelled().await;
            tokio::time::sleep(DRAIN_TIMEOUT).await;
        };
        tokio::select! {
            () = working => {}
            () = overdue => {
                let count = metrics.refusals_waiting.load(Ordering::Relaxed);
                tracing::error!(count, "stopping before these refusals were recorded");
            }
        }
    }

    /// Tries until the ledger has all of them. One whose outcome is not known may be recorded
    /// twice, which overstates it and never hides it.
    async fn record(&self, mut batch: Vec<Proposal>) {
        loop {
            let appends = batch.iter().map(|item| self.audit.append(item.clone()));
            let results = join_all(appends).await;
            let mut left = Vec::new();
            for (proposal, result) in batch.into_iter().zip(results) {
                let became = match result {
                    Ok(_) => RefusalRecord::Recorded,
                    Err(AppendError::Unavailable(_)) => {
                        left.push(proposal);
                        continue;
                    }
                    Err(error) => {
                        if let Some(count) = self.dropped.count() {
                            tracing::error!(%error, count, "refusals are not recorded in the ledger");
                        }
                        RefusalRecord::Rejected
                    }
                };
                self.metrics.refusal_record(became);
                self.metrics.refusals_waiting.fetch_sub(1, Ordering::Relaxed);
            }
            if left.is_empty() {
                return;
            }
            batch = left;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use domain::actor::ActorKind;

    use super::*;
    use crate::routes::ROUTES;

    const ID: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";

    #[track_caller]
    fn check(template: &str, path: &str, stream: Option<&str>, object: Option<&str>) {
        let route = ROUTES.iter().find(|route| route.path == template).unwrap();
        let (parts, ()) = http::Request::get(path).body(()).unwrap().into_parts();
        let actor =
            Actor { id: "clinic".parse().unwrap(), kind: ActorKind::Subscription, roles: vec![] };
        let made = proposal(actor, route, &parts, "::ffff:127.0.0.1".parse().unwrap());
        assert_eq!(made.stream.map(|it| it.to_string()).as_deref(), stream, "{path}");
        assert_eq!(made.object.map(|it| it.to_string()).as_deref(), object, "{path}");
        assert_eq!(made.client, Some("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_refusal_names_the_patient_and_test_of_its_path() {
        let (patient, test) = (format!("patient/{ID}"), format!("test/{ID}"));
        let (patient, test) = (Some(patient.as_str()), Some(test.as_str()));
        check("/patient/{id}", &format!("/patient/{}", ID.to_uppercase()), patient, None);
        check("/patient/{id}", "/patient/1", None, None);
        let tests = "/patient/{id}/tests/{testId}";
        check(tests, &format!("/patient/{ID}/tests/{ID}"), patient, test);
        check(tests, &format!("/patient/{ID}/tests/1"), patient, None);
        check(tests, &format!("/patient/1/tests/{ID}"), None, None);
        check("/patient/{id}/erase", &format!("/patient/{ID}/erase"), patient, None);
        check("/patient", "/patient", None, None);
        check("/audit/records/{seq}", "/audit/records/7", None, None);
    }
}
