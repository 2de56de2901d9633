//! No content, no key and nobody's id in anything that is sent to a back end.

use serde_json::Value;
use tests::{
    app_insights::AppInsights,
    ledger::Ledger,
    otlp::{Collector, Protocol},
    samples::{a_place, id_of, plain_patient, test},
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
    let clinic = system.clinic();
    let patient = id_of(&clinic.post("/patient", &plain_patient()).await.expect(201).json());
    let tests = format!("/patient/{patient}/tests");
    let recorded = id_of(&clinic.post(&tests, &test(1)).await.expect(201).json());
    for path in [format!("/patient/{patient}"), format!("{tests}/{recorded}")] {
        let _ = clinic.get(&path).await.expect(200);
    }
    let mut ids = ids(&Ledger::read(&system.compliance()).await);
    assert!(ids.contains(&patient), "{ids:?}");
    ids.push(recorded);
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

/// The ids that a ledger names, such as those of its streams, which are `patient/{id}`.
fn ids(ledger: &Ledger) -> Vec<String> {
    let texts = ledger.lines.iter().flat_map(|line| line.split(['"', '/']));
    let is_id = |text: &&str| text.len() == 36 && text.matches('-').count() == 4;
    let mut ids: Vec<String> = texts.filter(is_id).map(str::to_owned).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
