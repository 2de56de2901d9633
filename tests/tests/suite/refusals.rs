//! Refused accesses in the real ledger, and in the accounting of the patient concerned.

use std::time::{Duration, Instant};

use domain::{
    actor::{Outcome, Purpose},
    record::{Record, RecordType},
};
use reqwest::Method;
use serde_json::{Value, json};
use tests::{
    http::{Answer, send},
    ledger::Ledger,
    programs::POLL_PAUSE,
    samples::{a_place, id_of, plain_patient, unknown_id},
    system::{Layout, Store, System},
};

/// How long a refusal may take to reach the ledger.
const PATIENCE: Duration = Duration::from_secs(30);

/// A refusal is answered at once, whatever the ledger does. Generous, for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_access_is_in_the_ledger_and_in_the_patients_accounting() {
    let _place = a_place().await;
    let system = System::standalone(Store::Sqlite).await;
    let (clinic, compliance) = (system.clinic(), system.compliance());
    let made = clinic.post("/patient", &plain_patient()).await.expect(201).json();
    let (patient, test) = (id_of(&made), unknown_id());

    let path = format!("/patient/{patient}/tests/{test}");
    let request = compliance.request(Method::GET, &path).header("purpose-of-use", "HCOMPL");
    let refused = send(request).await;
    refused.problem(403);
    system.privacy().get(&format!("/patient/{patient}")).await.problem(403);
    clinic.get("/audit/records").await.problem(403);
    // Nobody known: not for the ledger.
    system.api().get(&format!("/patient/{patient}")).await.problem(401);
    system.api().with_key("wrong").get(&format!("/patient/{patient}")).await.problem(401);

    let refusals = refusals(&system, 3).await;
    let of = |actor: &str| {
        refusals.iter().find(|record| record.actor.id.as_str() == actor).expect("a refusal")
    };
    let first = of("compliance");
    assert_eq!(first.stream.unwrap().to_string(), format!("patient/{patient}"));
    assert_eq!(first.object.unwrap().to_string(), format!("test/{test}"));
    assert_eq!((first.outcome, first.purpose), (Outcome::Denied, Purpose::Compliance));
    assert_eq!(first.source.as_str(), "gateway");
    assert_eq!(first.client, Some("127.0.0.1".parse().unwrap()));
    assert_eq!(json!(first.trace.unwrap()), trace_of(&refused));
    assert_eq!(of("privacy").patient(), first.patient());
    assert_eq!((of("clinic").stream, of("clinic").object), (None, None));

    let accounting = clinic.get(&format!("/patient/{patient}/activity")).await.expect(200).json();
    let entries = accounting["entries"].as_array().unwrap();
    let denied: Vec<&Value> =
        entries.iter().filter(|entry| entry["type"] == "AccessRefused").collect();
    assert_eq!(denied.len(), 2, "{accounting}");
    assert!(denied.iter().all(|entry| entry["outcome"] == "denied"));
    assert!(denied.iter().any(|entry| entry["actor"]["id"] == "compliance"));
    let path = format!("/audit/activity?patient={patient}&outcome=denied");
    let _ = compliance.get(&path).await.expect(200);
    let addresses = std::fs::read(system.data().join("addresses.json")).unwrap();
    let addresses: Value = serde_json::from_slice(&addresses).unwrap();
    let metrics = reqwest::get(addresses["metrics"].as_str().unwrap()).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let recorded = "vitalog_gateway_refusal_records_total{result=\"recorded\"} 3\n";
    assert!(metrics.contains(recorded), "{metrics}");
    system.equals_its_rebuild().await;
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_while_the_ledger_is_away_is_answered_at_once_and_recorded_later() {
    let _place = a_place().await;
    let layout = Layout { replicas: 1, ..Layout::shared().await };
    let mut system = System::four_processes(layout).await;
    system.program("audit-service-0").kill().unwrap();
    let (patient, started) = (unknown_id(), Instant::now());
    system.compliance().get(&format!("/patient/{patient}")).await.problem(403);
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    system.start("audit-service-0").await.unwrap();
    let refusals = refusals(&system, 1).await;
    // At least once: one whose outcome was not known is recorded again.
    assert!(refusals.iter().all(|it| it.patient() == Some(patient.parse().unwrap())));
    system.finish().await;
}

/// Every refusal of the ledger, once there are as many; all of it verified.
async fn refusals(system: &System, count: usize) -> Vec<Record> {
    let compliance = system.compliance();
    let started = Instant::now();
    let mut ledger = Ledger::read(&compliance).await;
    loop {
        let is_refusal = |it: &&Record| it.record_type == RecordType::AccessRefused;
        let refusals: Vec<_> = ledger.records.iter().filter(is_refusal).cloned().collect();
        if refusals.len() >= count {
            ledger.check_checkpoint(&compliance).await;
            return refusals;
        }
        assert!(started.elapsed() < PATIENCE, "{refusals:?}");
        tokio::time::sleep(POLL_PAUSE).await;
        ledger.read_on(&compliance).await;
    }
}

/// The trace id that an answer names.
fn trace_of(answer: &Answer) -> Value {
    answer.json()["trace"].clone()
}
