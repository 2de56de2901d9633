//! A back end that is away, slow or refuses costs spans, and neither requests nor memory.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use runtime::telemetry::FLUSH_TIMEOUT;
use tests::{
    http::{Answer, Api},
    otlp::{self, Collector, Mode, Protocol},
    samples::{a_place, plain_patient},
    system::{Layout, System, free_address},
};

/// Requests of one round, and at once.
const ROUND: usize = 200;
const AT_ONCE: usize = 32;

/// How long it may take until spans are dropped: they are kept for half a minute.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a process may grow by: more than its queue of spans takes.
const MEMORY: f64 = 100e6;

/// What else ending may take, on a machine that is busy.
const GRACE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_answered_whatever_the_back_end_does() {
    let _place = a_place().await;
    let (refusing, slow) = (Collector::start().await, Collector::start().await);
    refusing.set(Mode::Refuse);
    slow.set(Mode::Slow(Duration::from_hours(1)));
    let nobody = free_address().unwrap().1;
    let mut layout = Layout { replicas: 1, ..Layout::shared().await };
    for (program, endpoint) in [
        ("gateway", nobody.as_str()),
        ("patient-service", slow.endpoint()),
        ("audit-service", refusing.endpoint()),
    ] {
        layout.told.insert(program, otlp::settings(endpoint, Protocol::Http, "1"));
    }
    let (listen, of_gateway) = free_address().unwrap();
    layout.told.entry("gateway").or_default().push(format!("--metrics-listen={listen}"));
    let mut system = System::four_processes(layout).await;
    let urls = BTreeMap::from([
        ("gateway", of_gateway),
        ("patient-service-0", system.addresses().patient_service.clone()),
        ("audit-service-0", system.addresses().audit_service.clone()),
    ]);
    let clinic = system.clinic();
    round(&clinic).await;
    let mut before = BTreeMap::new();
    for (name, url) in &urls {
        before.insert(*name, memory(url).await);
    }
    let deadline = Instant::now() + PATIENCE;
    for (name, url) in &urls {
        while dropped(url).await == 0.0 {
            assert!(Instant::now() < deadline, "{name} has dropped nothing");
            round(&clinic).await;
        }
    }
    assert!(refusing.requests() > 1 && slow.requests() > 0);
    for (name, url) in &urls {
        let grown = memory(url).await - before[name];
        assert!(grown < MEMORY, "{name} has grown by {grown} bytes");
    }
    for name in ["gateway", "patient-service-0", "audit-service-0"] {
        let took = system.stop(name).await.unwrap();
        assert!(took < FLUSH_TIMEOUT + GRACE, "{name} took {took:?} to end");
    }
    assert_eq!(refusing.spans(), []);
    system.finish().await;
}

/// Requests that must all be answered, and well.
async fn round(clinic: &Api) {
    let posts = stream::iter(0..ROUND)
        .map(|_| async { clinic.post("/patient", &plain_patient()).await.expect(201) });
    let answers: Vec<Answer> = posts.buffer_unordered(AT_ONCE).collect().await;
    assert_eq!(answers.len(), ROUND);
}

async fn memory(url: &str) -> f64 {
    sum(url, "process_memory_usage_bytes", "").await
}

async fn dropped(url: &str) -> f64 {
    sum(url, "vitalog_telemetry_spans_total", r#"outcome="dropped""#).await
}

/// The sum of what `/metrics` says of a metric with these labels.
async fn sum(url: &str, metric: &str, labels: &str) -> f64 {
    let answer = Api::new(url).get("/metrics").await.expect(200);
    let lines = answer.text().lines().filter(|line| {
        let of = line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(['{', ' ']));
        of && line.contains(labels)
    });
    let values: Vec<f64> =
        lines.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert!(!values.is_empty(), "no {metric} at {url}: {}", answer.text());
    values.into_iter().sum()
}
