//! No content, no key and nobody's id in anything that is sent to a back end.

use serde_json::Value;
use tests::{
    app_insights::AppInsights,
    ledger::Ledger,
    otlp::{Collector, Protocol},
    samples::a_place,
    system::{Layout, System},
};

use super::names;
use crate::secrecy::{contains_canary, secrets, sing};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_and_metrics_have_no_content_no_key_and_no_id() {
    let _place = a_place().await;
    let folder = tempfile::tempdir().unwrap();
    let (collector, insights) =
        (Collector::start().await, AppInsights::start(folder.path()).await.unwrap());
    let layout =
        Layout { replicas: 1, environment: insights.environment(), ..Layout::shared().await };
    let layout = layout.telling_all(&collector.settings(Protocol::Http));
    let mut system = System::four_processes(layout).await;
    sing(&system).await;
    let ids = ids(&Ledger::read(&system.compliance()).await);
    assert!(!ids.is_empty(), "{ids:?}");
    let mut secrets = secrets(&system.data());
    secrets.insert("connection string".to_owned(), insights.connection_string());
    system.stop_all().await.unwrap();

    let mut sent = collector.dump();
    assert!(collector.spans().len() > 50 && collector.metrics().len() > 50);
    let services: Vec<String> = collector.spans().into_iter().map(|span| span.service).collect();
    assert!(names::SERVICES.iter().all(|it| services.iter().any(|service| service == it)));
    let envelopes = insights.envelopes();
    assert!(envelopes.len() > 50, "{envelopes:?}");
    sent.extend(envelopes.iter().map(Value::to_string));
    for text in &sent {
        assert!(!contains_canary(text), "{text}");
        for id in &ids {
            assert!(!text.contains(id) && !text.contains(&id.replace('-', "")), "{id} in {text}");
        }
        for (name, secret) in &secrets {
            assert!(!text.contains(secret.as_str()), "{name} in {text}");
        }
    }
    system.finish().await;
}

/// The ids of patients, tests and records that a ledger names.
fn ids(ledger: &Ledger) -> Vec<String> {
    let texts = ledger.lines.iter().flat_map(|line| line.split('"'));
    let is_id = |text: &&str| text.len() == 36 && text.matches('-').count() == 4;
    let mut ids: Vec<String> = texts.filter(is_id).map(str::to_owned).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
