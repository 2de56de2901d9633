//! Refusals of known callers reach the ledger, and no answer waits for it.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::routing::{any, post};
use axum::{Json, Router};
use domain::actor::{ActorKind, Outcome, Purpose};
use domain::record::RecordType;
use domain::wire::{AppendRequest, AppendResponse, Proposal};
use gateway::config::ServiceKey;
use gateway::subscriptions::{Entry, Scope};
use http::{HeaderMap, Method, StatusCode};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::harness::{
    BARE, COMPLIANCE, Door, KEY_HEADER, PATIENCE, READER, Upstream, appended, got, subscriptions,
};

const ID: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// What the door told the ledger, once there are as many records.
async fn recorded(door: &Door, count: usize) -> Vec<Proposal> {
    let there = async {
        while door.audit.recorded().len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, there).await.expect("records");
    door.audit.recorded()
}

#[tokio::test]
async fn a_refusal_is_recorded_with_who_asked_for_what_and_why() {
    let door = Door::open().await;
    let path = format!("/patient/{ID}/tests/{ID}");
    let refused = door
        .request(Method::PUT, &path)
        .header(KEY_HEADER, READER)
        .header("purpose-of-use", "HRESCH")
        .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"))
        .body("{}");
    got(refused).await.problem(403);
    let records = recorded(&door, 1).await;
    let record = &records[0];
    assert_eq!(record.record_type, RecordType::AccessRefused);
    assert_eq!(record.outcome, Outcome::Denied);
    assert_eq!(record.stream.unwrap().to_string(), format!("patient/{ID}"));
    assert_eq!(record.object.unwrap().to_string(), format!("test/{ID}"));
    assert_eq!(record.actor.id.as_str(), "reader");
    assert_eq!(record.actor.kind, ActorKind::Subscription);
    assert_eq!(record.purpose, Purpose::Research);
    assert_eq!(record.client, Some("127.0.0.1".parse().unwrap()));
    assert_eq!(record.trace.unwrap().to_string(), TRACE);
}

#[tokio::test]
async fn what_somebody_known_may_not_do_is_recorded_and_nothing_else() {
    let door = Door::open().await;
    let send = async |method: Method, path: &str, key: &str, purpose: &str| {
        let request = door.request(method, path).header(KEY_HEADER, key);
        got(request.header("purpose-of-use", purpose).body("{}")).await.status
    };
    // None of these is the refusal of somebody known.
    assert_eq!(send(Method::GET, "/patient/1", "canary-wrong", "TREAT").await, 401);
    assert_eq!(got(door.request(Method::GET, "/patient/1")).await.status, 401);
    assert_eq!(send(Method::GET, "/patient/1", READER, "TREAT").await, 200);
    assert_eq!(send(Method::GET, "/none", READER, "TREAT").await, 404);
    assert_eq!(send(Method::PATCH, "/patient", READER, "TREAT").await, 405);
    let refused = [
        (Method::GET, "/audit/records", READER),
        (Method::GET, "/audit/key", BARE),
        (Method::GET, "/patient/1", COMPLIANCE),
        (Method::POST, "/patient/search", COMPLIANCE),
    ];
    let purposes =
        [Purpose::Compliance, Purpose::Compliance, Purpose::Treatment, Purpose::Treatment];
    for (method, path, key) in refused.clone() {
        // A purpose that is not in the list is no reason to hide the refusal.
        assert_eq!(send(method, path, key, "no purpose").await, 403);
    }
    let records = recorded(&door, refused.len()).await;
    assert_eq!(records.len(), refused.len());
    for (record, purpose) in records.into_iter().zip(purposes) {
        assert_eq!((record.stream, record.object), (None, None), "{record:?}");
        assert_eq!(record.purpose, purpose);
        assert_eq!(record.record_type, RecordType::AccessRefused);
    }
}

#[tokio::test]
async fn each_reason_why_somebody_may_not_is_recorded_and_a_used_up_limit_is_not() {
    #[track_caller]
    fn check(
        reason: &'static str,
        status: u16,
        is_recorded: bool,
        limit: impl Fn(&mut Entry),
    ) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        let mut entries = subscriptions();
        entries.iter_mut().filter(|it| it.name.as_str() == "reader").for_each(limit);
        async move {
            let upstream = Upstream::start().await;
            let door = Door::listening("127.0.0.1:0", upstream, &entries, |_| {}).await;
            let ask = async |key: &str| {
                let request = door.request(Method::GET, "/patient/1").header(KEY_HEADER, key);
                got(request).await.status
            };
            // The first uses up what there is of a rate or a quota; a rate comes again.
            let mut refused = 0;
            for _ in 0..100 {
                refused += usize::from(ask(READER).await == status);
                if refused == 2 {
                    break;
                }
            }
            assert_eq!(refused, 2, "{caller}");
            let counted = format!("refusals_total{{reason=\"{reason}\"}}");
            assert_eq!(door.metric_now(&counted).await, 2, "{caller}");
            // It comes after all others, and they keep their order.
            assert_eq!(ask(COMPLIANCE).await, 403, "{caller}");
            let of_reader = if is_recorded { refused } else { 0 };
            let records = recorded(&door, of_reader + 1).await;
            let names: Vec<&str> = records.iter().map(|record| record.actor.id.as_str()).collect();
            let mut expected = vec!["reader"; of_reader];
            expected.push("compliance");
            assert_eq!(names, expected, "{caller}");
        }
    }
    let past = "2020-01-01T00:00:00Z".parse().ok();
    check("suspended", 403, true, |it| it.suspended = true).await;
    check("expired", 403, true, |it| it.expires = past).await;
    let networks = || vec!["10.0.0.0/8".parse().unwrap()];
    check("network", 403, true, |it| it.networks = networks()).await;
    check("scope", 403, true, |it| it.scopes = vec![Scope::AuditRead]).await;
    check("quota", 403, false, |it| it.quota_day = NonZeroU64::new(1)).await;
    check("quota", 403, false, |it| it.quota_month = NonZeroU64::new(1)).await;
    check("rate", 429, false, |it| it.rate = NonZeroU32::new(1)).await;
}

#[tokio::test]
async fn a_caller_that_is_refused_in_a_loop_does_not_fill_the_ledger() {
    const REFUSED: usize = 60;
    let door = Door::before(Upstream::start().await, |settings| {
        settings.denials_per_second = NonZeroU32::new(2).unwrap();
    })
    .await;
    let started = Instant::now();
    let refuse = async |key| {
        let request = door.request(Method::POST, "/patient").header(KEY_HEADER, key);
        got(request.body("{}")).await.problem(403);
    };
    for _ in 0..REFUSED {
        refuse(READER).await;
    }
    // Another caller has a rate of its own.
    refuse(COMPLIANCE).await;
    let most = 2 + 2 * usize::try_from(started.elapsed().as_secs()).unwrap() + 2;
    door.metric("refusals_total{reason=\"scope\"}", REFUSED as u64 + 1).await;
    let name = |record: &Proposal| record.actor.id.as_str().to_owned();
    let others = async {
        while !door.audit.recorded().iter().any(|record| name(record) == "compliance") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, others).await.unwrap();
    let records = door.audit.recorded();
    let of_reader = records.iter().filter(|record| name(record) == "reader").count();
    assert!((2..=most).contains(&of_reader), "{of_reader} in {:?}", started.elapsed());
    let dropped = (REFUSED - of_reader) as u64;
    door.metric("refusal_records_total{result=\"dropped_over_rate\"}", dropped).await;
    door.metric("refusal_records_total{result=\"recorded\"}", records.len() as u64).await;
}

/// A ledger that takes connections and never answers.
async fn silent() -> Upstream {
    let hang = any(async || -> () { std::future::pending().await });
    Upstream::replacing(Router::new().fallback(hang)).await
}

#[tokio::test]
async fn with_a_ledger_that_is_away_or_hangs_the_answer_comes_at_once() {
    const REFUSED: u64 = 1_200;
    let nobody = {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", free.local_addr().unwrap())
    };
    let hanging = silent().await;
    for url in [nobody, hanging.url()] {
        let door = Door::before(Upstream::start().await, |settings| {
            settings.audit.url = url;
            settings.denials_per_second = NonZeroU32::new(1_000_000).unwrap();
        })
        .await;
        for _ in 0..REFUSED {
            let started = Instant::now();
            let request = door.request(Method::DELETE, "/patient/1").header(KEY_HEADER, READER);
            got(request).await.problem(403);
            assert!(started.elapsed() < Duration::from_secs(2));
        }
        // The queue has 1,024 places, and one batch of 64 is in the worker's hands.
        let dropped = door.metric_now("refusal_records_total{result=\"dropped_queue_full\"}").await;
        let waiting = door.metric_now("refusals_waiting").await;
        assert_eq!(dropped + waiting, REFUSED);
        assert!((1_024..=1_024 + 64).contains(&waiting), "{waiting}");
    }
}

#[tokio::test]
async fn what_waits_at_shutdown_is_recorded_before_the_gateway_ends() {
    const REFUSED: usize = 5;
    let (stopping, records) = (CancellationToken::new(), Arc::<AtomicUsize>::default());
    let (told, counted) = (stopping.clone(), Arc::clone(&records));
    // A ledger that takes nothing before the gateway stops.
    let append = async move |Json(request): Json<AppendRequest>| {
        told.cancelled().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        counted.fetch_add(request.items.len(), Ordering::SeqCst);
        Json(AppendResponse { results: request.items.iter().map(appended).collect() })
    };
    let ledger = Upstream::replacing(Router::new().route("/records/batch", post(append))).await;
    let door =
        Door::before(Upstream::start().await, |settings| settings.audit.url = ledger.url()).await;
    for _ in 0..REFUSED {
        let request = door.request(Method::DELETE, "/patient/1").header(KEY_HEADER, READER);
        got(request).await.problem(403);
    }
    stopping.cancel();
    door.close().await;
    assert_eq!(records.load(Ordering::SeqCst), REFUSED);
}

#[tokio::test]
async fn refusals_follow_the_service_key_when_it_is_rotated() {
    let records = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&records);
    // A ledger that knows the new key alone.
    let append = async move |headers: HeaderMap, Json(request): Json<AppendRequest>| {
        if headers["x-functions-key"] != "canary-service-key-two" {
            return Err(StatusCode::UNAUTHORIZED);
        }
        counted.fetch_add(request.items.len(), Ordering::SeqCst);
        Ok(Json(AppendResponse { results: request.items.iter().map(appended).collect() }))
    };
    let ledger = Upstream::replacing(Router::new().route("/records/batch", post(append))).await;
    let keys = tempfile::tempdir().unwrap();
    let path = keys.path().join("audit.key");
    std::fs::write(&path, "canary-service-key-one\n").unwrap();
    let reference = format!("file:{}", path.display()).parse().unwrap();
    let door = Door::before(Upstream::start().await, |settings| {
        settings.audit.url = ledger.url();
        settings.audit.key = ServiceKey::Named(reference);
    })
    .await;
    let request = door.request(Method::DELETE, "/patient/1").header(KEY_HEADER, READER);
    got(request).await.problem(403);
    assert_eq!(door.metric_now("refusals_waiting").await, 1);
    std::fs::write(&path, "canary-service-key-two\n").unwrap();
    door.metric("refusals_waiting", 0).await;
    assert_eq!(records.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_gateway_with_a_ledger_that_hangs_still_ends() {
    let hanging = silent().await;
    let door =
        Door::before(Upstream::start().await, |settings| settings.audit.url = hanging.url()).await;
    let request = door.request(Method::DELETE, "/patient/1").header(KEY_HEADER, READER);
    got(request).await.problem(403);
    door.close().await;
    assert!(crate::harness::logs().contains("stopping before these refusals were recorded"));
}
