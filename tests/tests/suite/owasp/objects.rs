//! API1, broken authorization of objects; API3, of their properties; API6, sensitive flows.

use reqwest::Method;
use serde_json::{Value, json};
use tests::{
    http::{Api, send, text_body},
    ledger::Ledger,
    samples::{a_place, expect_content, id_of, patient, plain_patient, test, unknown_id},
    system::{Store, System},
};

use super::Patient;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api1_a_test_is_reached_through_its_own_patient_alone() {
    let _place = a_place().await;
    let system = System::standalone(Store::Sqlite).await;
    let clinic = system.clinic();
    let (one, other) = (Patient::create(&clinic).await, Patient::create(&clinic).await);
    let crossed = format!("{}/tests/{}", one.path, id_of(&other.test));
    let _ = clinic.get(&crossed).await.expect(404);
    let _ = clinic.delete(&crossed).await.expect(404);
    let mut changed = other.test.clone();
    changed["performer"] = json!("Crossed");
    for owner in [&one, &other] {
        changed["patientId"] = owner.content["id"].clone();
        let _ = clinic.put(&crossed, &changed).await.expect(404);
    }
    // A body does not choose the patient either: the path does.
    let mut elsewhere = one.content.clone();
    elsewhere["id"] = other.content["id"].clone();
    let _ = clinic.put(&one.path, &elsewhere).await.expect(400);
    one.is_as_it_was(&clinic).await;
    other.is_as_it_was(&clinic).await;
    system.finish().await;
}

/// Members that a client might hope somebody takes over.
fn extra_members() -> Vec<(&'static str, Value)> {
    vec![
        ("_id", json!(unknown_id())),
        ("ID", json!(unknown_id())),
        ("kid", json!(unknown_id())),
        ("revision", json!(99)),
        ("version", json!(99)),
        ("seq", json!(0)),
        ("hash", json!("0".repeat(64))),
        ("prev", json!("0".repeat(64))),
        ("status", json!("removed")),
        ("removed", json!(true)),
        ("erased", json!(true)),
        ("createdDate", json!("2000-01-01T00:00:00.000Z")),
        ("recordedAt", json!("2000-01-01T00:00:00.000Z")),
        ("last_updated", json!("2000-01-01T00:00:00.000Z")),
        ("actor", json!({"id": "root", "kind": "service"})),
        ("source", json!("audit-service")),
        ("purpose", json!("HSYSADMIN")),
        ("outcome", json!("denied")),
        ("scopes", json!(["audit:read"])),
        ("roles", json!(["admin"])),
        ("tests", json!([])),
        ("__proto__", json!({"gender": "male"})),
        ("constructor", json!({"prototype": {}})),
        ("$set", json!({"gender": "male"})),
        ("$where", json!("1")),
        ("", json!(1)),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api3_members_that_are_not_the_clients_are_not_stored() {
    let _place = a_place().await;
    let system = System::standalone(Store::Sqlite).await;
    let clinic = system.clinic();
    let known = Patient::create(&clinic).await;
    let before = Ledger::read(&system.compliance()).await.events();
    let tests = format!("{}/tests", known.path);
    for (name, value) in extra_members() {
        let with = |mut body: Value| {
            body[name] = value.clone();
            body
        };
        let _ = clinic.post("/patient", &with(plain_patient())).await.problem(400);
        let _ = clinic.put(&known.path, &with(known.content.clone())).await.problem(400);
        let _ = clinic.post(&tests, &with(test(1))).await.problem(400);
        let _ = clinic.put(&known.test_path, &with(known.test.clone())).await.problem(400);
        let mut nested = test(1);
        nested["observations"][0][name] = match name {
            // An observation's own.
            "status" => continue,
            _ => value.clone(),
        };
        let _ = clinic.post(&tests, &nested).await.problem(400);
        let _ = clinic.post("/patient/search", &with(json!({}))).await.problem(400);
        let erase = format!("{}/erase", known.path);
        let erasure = with(json!({"reason": "objection"}));
        let _ = system.privacy().post(&erase, &erasure).await.problem(400);
    }
    assert_eq!(Ledger::read(&system.compliance()).await.events(), before);
    known.is_as_it_was(&clinic).await;
    sent_back(&clinic).await;
    system.finish().await;
}

/// What an answer shows may be sent back, and is not taken from there.
async fn sent_back(clinic: &Api) {
    let created = clinic.post("/patient", &patient("JANE")).await.expect(201).json();
    let path = format!("/patient/{}", id_of(&created));
    let mut forged = created.clone();
    forged["lastUpdated"] = json!("1999-01-01T00:00:00.000Z");
    let put = text_body(clinic.request(Method::PUT, &path), &forged)
        .header("etag", "\"99\"")
        .header("audit-receipt", "seq=0, hash=\"00\"")
        .header("location", "/elsewhere");
    let answer = send(put).await.expect(200);
    expect_content(&answer.json(), &patient("JANE"));
    assert_ne!(answer.json()["lastUpdated"], forged["lastUpdated"]);
    assert_ne!(answer.header("etag"), Some("\"99\""));
    assert_ne!(answer.receipt().seq, 0);
    assert_eq!(answer.header("location"), None);
    let stored = clinic.get(&path).await.expect(200).json();
    assert_eq!(stored, answer.json());

    let mut elsewhere = test(1);
    elsewhere["patientId"] = json!(unknown_id());
    let recorded = clinic.post(&format!("{path}/tests"), &elsewhere).await.expect(201).json();
    assert_eq!(recorded["patientId"], created["id"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api6_reading_in_bulk_is_written_down_and_erasing_is_for_few() {
    let _place = a_place().await;
    let system = System::standalone(Store::Sqlite).await;
    let clinic = system.clinic();
    for _ in 0..3 {
        let _ = clinic.post("/patient", &plain_patient()).await.expect(201);
    }
    // Whoever harvests patients page by page leaves a record of each of them.
    let mut path = "/patient/search?limit=2".to_owned();
    let (mut harvested, mut receipts) = (Vec::new(), Vec::new());
    loop {
        let page = clinic.post(&path, &json!({})).await.expect(200);
        let ids: Vec<String> = page.json().as_array().unwrap().iter().map(id_of).collect();
        receipts.push((page.receipt(), ids.clone()));
        harvested.extend(ids);
        let Some(link) = page.header("link") else { break };
        let query = link.trim_start_matches('<').split('>').next().unwrap();
        path = format!("/patient/search{query}");
    }
    assert_eq!((harvested.len(), receipts.len()), (3, 2));
    let ledger = Ledger::read(&system.compliance()).await;
    for (receipt, ids) in receipts {
        let record = serde_json::to_value(ledger.record(&receipt)).unwrap();
        assert_eq!(record["subjects"], json!(ids));
        assert_eq!(record["actor"]["id"], "clinic");
    }
    // Erasing takes a scope that neither who writes nor who audits has, and a reason.
    let path = format!("/patient/{}", harvested[0]);
    let erase = format!("{path}/erase");
    let reason = json!({"reason": "objection"});
    for other in [clinic.clone(), system.compliance()] {
        let _ = other.post(&erase, &reason).await.problem(403);
    }
    for none in [json!({}), json!({"reason": "because"}), json!({"reason": null})] {
        let _ = system.privacy().post(&erase, &none).await.problem(400);
    }
    let _ = clinic.get(&path).await.expect(200);
    system.finish().await;
}
