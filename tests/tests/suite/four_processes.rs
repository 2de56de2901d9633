//! Two replicas of patient-service and of audit-service at work on the same patients at once.

use std::collections::HashMap;

use domain::{ids::Stream, record::Kind};
use futures::{StreamExt, stream};
use reqwest::Method;
use serde_json::json;
use tests::{
    http::{Api, send, text_body},
    ledger::Ledger,
    samples::{a_place, id_of, patient, plain_patient, random_name, test},
    system::{Layout, System},
};

/// Clients at once.
const CLIENTS: usize = 16;

/// Patients whom all of them want to change.
const PATIENTS: usize = 4;

/// Commands of all clients together.
const COMMANDS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_keep_one_chain_and_one_version_after_another() {
    let _place = a_place().await;
    let system = System::four_processes(Layout::shared().await).await;
    let clinic = system.clinic();
    let mut ids = Vec::new();
    for _ in 0..PATIENTS {
        ids.push(id_of(&clinic.post("/patient", &plain_patient()).await.expect(201).json()));
    }
    let done: Vec<Option<u64>> = stream::iter(0..COMMANDS)
        .map(|number| command(clinic.clone(), ids[number % PATIENTS].clone(), number))
        .buffer_unordered(CLIENTS)
        .collect()
        .await;

    let mut ledger = Ledger::read(&system.compliance()).await;
    ledger.check_checkpoint(&system.compliance()).await;
    let mut versions: HashMap<Stream, u64> = HashMap::new();
    for record in ledger.records.iter().filter(|it| it.record_type.kind() == Kind::Event) {
        let version = versions.entry(record.stream.unwrap()).or_default();
        *version += 1;
        assert_eq!(record.version, Some(*version), "record {}", record.seq);
    }
    let mut acknowledged: Vec<u64> = done.into_iter().flatten().collect();
    let answered = acknowledged.len();
    acknowledged.sort_unstable();
    acknowledged.dedup();
    assert_eq!(acknowledged.len(), answered, "a record was acknowledged twice");
    assert_eq!(ledger.events(), PATIENTS + answered);
    assert!(answered > COMMANDS / 2, "only {answered} of {COMMANDS} commands came through");
    for (number, proxy) in system.to_audit.iter().enumerate() {
        assert!(proxy.posts() > 10, "replica {number} had {} requests", proxy.posts());
    }
    system.equals_its_rebuild().await;
    system.finish().await;
}

/// Changes a patient or adds a test to her; its position, or `None` where others always came
/// first, which the service says with 503 and then stores nothing.
async fn command(clinic: Api, id: String, number: usize) -> Option<u64> {
    let path = format!("/patient/{id}");
    let answer = if number.is_multiple_of(2) {
        let mut body = patient(&random_name());
        body["id"] = json!(id);
        clinic.put(&path, &body).await
    } else {
        clinic.post(&format!("{path}/tests"), &test(2)).await
    };
    if answer.status == 503 {
        assert_eq!(answer.problem(503)["outcome"], "nothingStored");
        return None;
    }
    assert!(matches!(answer.status, 200 | 201), "{answer:?}");
    Some(answer.receipt().seq)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_replica_answered_the_next_one_shows() {
    let _place = a_place().await;
    // Without a follower, only the replica that took a command writes it to the read model.
    let layout = Layout { follower: false, ..Layout::shared().await };
    let system = System::four_processes(layout).await;
    let clinic = system.clinic();
    let created = clinic.post("/patient", &patient("FIRST")).await.expect(201).json();
    let path = format!("/patient/{}", id_of(&created));
    for round in 0..40 {
        let mut body = created.clone();
        body["fullName"] = json!(format!("ROUND {round}"));
        let put = clinic.put(&path, &body).await.expect(200);
        // The balancer sends each request to the other replica than the one before.
        let read = clinic.get(&path).await.expect(200);
        assert_eq!(read.json(), put.json());
        let request = text_body(clinic.request(Method::PUT, &path), &body)
            .header("if-match", read.header("etag").unwrap());
        let _ = send(request).await.expect(200);
        let find = clinic.post("/patient/search", &json!({"fullName": body["fullName"]})).await;
        assert_eq!(id_of(&find.expect(200).json()[0]), id_of(&created));
    }
    system.finish().await;
}
