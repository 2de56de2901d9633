//! Spans and metrics arrive: by either protocol, at Application Insights, and at the very end.

use std::collections::{BTreeSet, HashSet};

use futures::future::join_all;
use serde_json::Value;
use tests::{
    app_insights::AppInsights,
    otlp::{Collector, Protocol},
    samples::{a_place, patient, plain_patient, random_name},
    system::{Layout, System},
};

use super::{is_complete, names, one_replica, trace_of};

/// Metrics that every service sends, with their units.
const OF_ALL: [(&str, &str); 3] =
    [("process.memory.usage", "By"), ("vitalog.ready", ""), ("vitalog.telemetry.spans", "")];

/// Metrics of some.
const OF_SOME: [(&str, &str); 10] = [
    ("gateway", "http.server.request.duration"),
    ("patient-service", "http.server.request.duration"),
    ("audit-service", "http.server.request.duration"),
    ("gateway", "http.client.request.duration"),
    ("gateway", "vitalog.gateway.requests"),
    ("patient-service", "http.client.request.duration"),
    ("patient-service", "db.client.operation.duration"),
    ("audit-service", "db.client.operation.duration"),
    ("audit-service", "vitalog.ledger.records_appended"),
    ("projections", "vitalog.follower.lag_seconds"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_and_metrics_come_by_protobuf_over_http() {
    arrive(Protocol::Http).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_and_metrics_come_by_grpc() {
    arrive(Protocol::Grpc).await;
}

async fn arrive(protocol: Protocol) {
    let _place = a_place().await;
    let collector = Collector::start().await;
    let mut system = one_replica(&collector.settings(protocol)).await;
    let created = system.clinic().post("/patient", &patient(&random_name())).await.expect(201);
    // While the services run.
    let trace = collector.wait_for_trace(&trace_of(&created), is_complete).await;
    assert_eq!(trace.root(None), names::DOOR.of(&trace));
    // The rest comes at the end.
    system.stop_all().await.unwrap();
    let metrics = collector.metrics();
    let of = |service: &str| -> BTreeSet<&str> {
        let mine = metrics.iter().filter(|metric| metric.service == service);
        mine.map(|metric| metric.name.as_str()).collect()
    };
    for service in names::SERVICES.into_iter().chain(["projections"]) {
        for (name, unit) in OF_ALL {
            assert!(of(service).contains(name), "{name} of {service}: {:?}", of(service));
            let found = metrics.iter().find(|metric| metric.name == name).unwrap();
            assert_eq!(found.unit, unit, "{name}");
        }
    }
    for (service, name) in OF_SOME {
        assert!(of(service).contains(name), "{name} of {service}: {:?}", of(service));
    }
    let posts = metrics.iter().rfind(|metric| {
        metric.service == "gateway"
            && metric.name == "http.server.request.duration"
            && metric.labels["http.route"] == "/patient"
            && metric.labels["http.response.status_code"] == 201
    });
    assert!((posts.unwrap().value - 1.0).abs() < f64::EPSILON, "{posts:?}");
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_services_stop_right_after_a_request() {
    /// More than one batch of spans.
    const REQUESTS: usize = 100;
    let _place = a_place().await;
    let collector = Collector::start().await;
    let mut system = one_replica(&collector.settings(Protocol::Http)).await;
    let clinic = system.clinic();
    let posts = (0..REQUESTS).map(|_| {
        let clinic = clinic.clone();
        async move { clinic.post("/patient", &plain_patient()).await.expect(201) }
    });
    let answers = join_all(posts).await;
    system.stop_all().await.unwrap();
    for answer in answers {
        let trace = collector.trace(&trace_of(&answer));
        assert_eq!(trace.root(None), names::DOOR.of(&trace));
        assert_eq!(trace.services(), names::SERVICES.into(), "{trace}");
        for name in [names::TO_PATIENTS, names::PATIENTS, names::PROPOSAL, names::APPEND] {
            name.of(&trace);
        }
    }
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn application_insights_knows_one_operation_across_services() {
    let _place = a_place().await;
    let folder = tempfile::tempdir().unwrap();
    let insights = AppInsights::start(folder.path()).await.unwrap();
    let layout =
        Layout { replicas: 1, environment: insights.environment(), ..Layout::shared().await };
    let layout = layout.telling_all(&["--trace-ratio=1".to_owned()]);
    let mut system = System::four_processes(layout).await;
    let created = system.clinic().post("/patient", &patient(&random_name())).await.expect(201);
    system.stop_all().await.unwrap();

    let operation = trace_of(&created);
    let mut envelopes = insights.envelopes();
    envelopes.retain(|envelope| envelope["tags"]["ai.operation.id"] == operation.as_str());
    let all = envelopes.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let data = |envelope: &Value| envelope["data"]["baseData"].clone();
    let roles: HashSet<String> =
        envelopes.iter().map(|envelope| text(&envelope["tags"]["ai.cloud.role"])).collect();
    let expected = names::SERVICES.map(|service| format!("vitalog.{service}"));
    assert_eq!(roles, expected.into(), "{all}");
    let ids: HashSet<String> =
        envelopes.iter().map(|envelope| text(&data(envelope)["id"])).collect();
    let parent = |envelope: &Value| text(&envelope["tags"]["ai.operation.parentId"]);
    let roots = envelopes.iter().filter(|envelope| !ids.contains(&parent(envelope)));
    let roots: Vec<&Value> = roots.collect();
    assert_eq!(roots.len(), 1, "{all}");
    assert_eq!(roots[0]["tags"]["ai.cloud.role"], "vitalog.gateway");
    assert_eq!(roots[0]["tags"].get("ai.operation.parentId"), None);
    assert_eq!(roots[0]["data"]["baseType"], "RequestData");
    assert_eq!(data(roots[0])["name"], "POST /patient");
    assert_eq!(data(roots[0])["responseCode"], "201");
    assert_eq!(data(roots[0])["success"], true);
    let requests = envelopes.iter().filter(|it| it["data"]["baseType"] == "RequestData");
    assert_eq!(requests.count(), names::SERVICES.len(), "{all}");
    let stores = envelopes.iter().filter(|envelope| {
        envelope["data"]["baseType"] == "RemoteDependencyData"
            && data(envelope)["type"] == "mongodb"
    });
    assert!(stores.count() >= 2, "{all}");
    system.finish().await;
}
