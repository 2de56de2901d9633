//! Accounting of disclosures through the gateway, on stores as they are deployed.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use audit_client::{AuditClient, Options};
use domain::{
    actor::{Actor, ActorKind, Outcome, Purpose},
    ids::Stream,
    record::RecordType,
    wire::Proposal,
};
use reqwest::Method;
use runtime::secrets::Secret;
use serde_json::{Value, json};
use tests::{
    http::{Answer, Api, send},
    ledger::Ledger,
    samples::{a_place, id_of, patient, plain_patient, test, unknown_id},
    system::{Store, System},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_accounting_on_sqlite_is_the_ledgers() {
    let _place = a_place().await;
    scenario(System::standalone(Store::Sqlite).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_accounting_on_mongodb_is_the_ledgers() {
    let _place = a_place().await;
    scenario(System::standalone(Store::shared_mongo().await).await).await;
}

async fn scenario(system: System) {
    let (clinic, compliance) = (system.clinic(), system.compliance());
    let one = everything_happens(&clinic).await;
    what_clients_cannot_cause(&system, &one).await;
    let _ = compliance.get("/audit/records?limit=1").await.expect(200);

    let whole = everybodys(&compliance, &clinic).await;
    of_one(&clinic, &compliance, &one, &whole).await;
    as_csv(&compliance, whole.len()).await;
    as_fhir(&compliance, &one, &whole).await;
    for (api, path) in [
        (&compliance, format!("/patient/{one}/activity")),
        (&clinic, "/audit/activity".to_owned()),
        (&clinic, "/audit/fhir/AuditEvent".to_owned()),
    ] {
        api.get(&path).await.problem(403);
    }
    clinic.get(&format!("/patient/{}/activity", unknown_id())).await.problem(404);
    clinic.get("/patient/1/activity").await.problem(404);
    let refused = compliance.get("/audit/activity?sort=at").await.problem(400);
    assert_eq!(refused["errors"][0]["field"], "sort");
    // A search whose answer named two patients, one of whom is gone.
    let gone = clinic.delete(&format!("/patient/{one}")).await;
    assert_eq!(gone.status, 204, "{gone:?}");
    let after = entries(&clinic.get(&format!("/patient/{one}/activity?limit=2")).await);
    assert_eq!(types(&after), ["ActivityRead", "PatientRemoved"]);
    system.finish().await;
}

/// Causes records of all the types that a client can; gives the patient concerned.
async fn everything_happens(clinic: &Api) -> String {
    let created = clinic.post("/patient", &patient("JOAN")).await.expect(201).json();
    let one = id_of(&created);
    let path = format!("/patient/{one}");
    let other = clinic.post("/patient", &plain_patient()).await.expect(201).json();
    let _ = clinic.put(&path, &created).await.expect(200);
    let _ = clinic.get(&path).await.expect(200);
    let tests = format!("{path}/tests");
    let recorded = clinic.post(&tests, &test(1)).await.expect(201).json();
    let one_test = format!("{tests}/{}", id_of(&recorded));
    let _ = clinic.put(&one_test, &recorded).await.expect(200);
    let _ = clinic.get(&one_test).await.expect(200);
    let _ = clinic.get(&tests).await.expect(200);
    let _ = clinic.delete(&one_test).await.expect(204);
    clinic.get(&one_test).await.problem(404);
    let _ = clinic.post("/patient/search", &json!({})).await.expect(200);
    let _ = clinic.delete(&format!("/patient/{}", id_of(&other))).await.expect(204);
    one
}

async fn what_clients_cannot_cause(system: &System, patient: &str) {
    let secret = |name: &str| {
        let key = system.data().join("secrets").join(format!("service-{name}.key"));
        std::fs::read_to_string(key).unwrap().trim().to_owned()
    };
    let url = &system.addresses().audit_service;
    let external = Api::new(url).request(Method::POST, "/api/auditrecord");
    let external = external.header("x-functions-key", secret("external"));
    let _ = send(external.json(&json!({"sourceSystemName": "ris"}))).await.expect(201);
    let audit = AuditClient::start(Options::new(url, Secret::new(secret("patient-service"))));
    let actor = Actor {
        id: "nurse-7".parse().unwrap(),
        kind: ActorKind::User,
        roles: vec!["nurse".parse().unwrap()],
    };
    let records = [
        (RecordType::HistoryRead, Outcome::Success),
        (RecordType::AccessRefused, Outcome::Denied),
        (RecordType::PatientRead, Outcome::Failed),
    ];
    for (record_type, outcome) in records {
        let stream = Some(Stream::Patient(patient.parse().unwrap()));
        let proposal =
            Proposal::new(record_type, actor.clone(), Purpose::EmergencyTreatment, outcome);
        audit.append(Proposal { stream, ..proposal }).await.unwrap();
    }
}

/// Reads all of it in pages, while new records come in, and compares it with the ledger.
async fn everybodys(compliance: &Api, clinic: &Api) -> Vec<Value> {
    let mut path = "/audit/activity?limit=7".to_owned();
    let mut whole = Vec::new();
    let mut complete_to = None;
    loop {
        let answer = compliance.get(&path).await.expect(200);
        whole.extend(entries(&answer));
        let _ = complete_to.get_or_insert(answer.receipt().seq);
        let _ = clinic.post("/patient", &plain_patient()).await.expect(201);
        let Some(link) = answer.header("link") else { break };
        let query = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap();
        path = format!("/audit/activity{query}");
    }
    let ledger = Ledger::read(compliance).await;
    let last = usize::try_from(complete_to.unwrap()).unwrap();
    let expected: Vec<_> = ledger.records[..=last].iter().rev().collect();
    assert_eq!(whole.len(), expected.len());
    for (entry, record) in whole.iter().zip(expected) {
        let mut plain = json!({
            "seq": record.seq, "at": record.recorded_at, "type": record.record_type,
            "outcome": record.outcome, "purpose": record.purpose, "actor": record.actor,
            "source": record.source, "patients": record.subjects,
        });
        for (name, value) in [
            ("client", json!(record.client)),
            ("trace", json!(record.trace)),
            ("test", json!(record.test())),
        ] {
            if !value.is_null() {
                plain[name] = value;
            }
        }
        if let Some(patient) = record.patient() {
            plain["patients"] = json!([patient]);
        }
        assert_eq!(*entry, plain);
    }
    whole
}

/// The accounting of one is what of all concerns her, without the others.
async fn of_one(clinic: &Api, compliance: &Api, one: &str, whole: &[Value]) {
    let newest = whole[0]["seq"].as_u64().unwrap();
    let concerns = |entry: &&Value| entry["patients"].as_array().unwrap().contains(&json!(one));
    let expected: Vec<_> = whole.iter().filter(concerns).map(|entry| &entry["seq"]).collect();
    let mine = entries(&clinic.get(&format!("/patient/{one}/activity?limit=1000")).await);
    let older = |entry: &&Value| entry["seq"].as_u64().unwrap() <= newest;
    let found: Vec<_> = mine.iter().filter(older).map(|entry| &entry["seq"]).collect();
    assert_eq!(found, expected);
    assert!(mine.iter().all(|entry| entry["patients"] == json!([one])), "{mine:?}");

    let search = async |filters: &str| {
        let path = format!("/audit/activity?patient={one}&{filters}");
        entries(&compliance.get(&path).await)
    };
    let denied = search("outcome=denied&actor=nurse-7&purpose=ETREAT").await;
    assert_eq!(types(&denied), ["AccessRefused"]);
    assert_eq!(types(&search("type=TestRead&outcome=notFound").await), ["TestRead"]);
    let first = mine.last().unwrap()["at"].as_str().unwrap();
    assert!(search(&format!("until={first}")).await.is_empty());
    assert!(search(&format!("from={first}")).await.len() > expected.len());
}

async fn as_csv(compliance: &Api, records: usize) {
    let request = compliance.request(Method::GET, "/audit/activity?limit=1000");
    let answer = send(request.header("accept", "text/csv")).await.expect(200);
    assert_eq!(answer.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
    let lines: Vec<_> = answer.text().split_terminator("\r\n").collect();
    assert!(lines.len() > records);
    assert!(lines.iter().all(|line| line.split(',').count() == 13), "{lines:?}");
    assert!(answer.text().contains(",ETREAT,nurse-7,user,nurse,patient-service,"));
}

async fn as_fhir(compliance: &Api, one: &str, whole: &[Value]) {
    let answer = compliance.get("/audit/fhir/AuditEvent?_count=1000").await.expect(200);
    assert_eq!(answer.header("content-type"), Some("application/fhir+json"));
    let validated = validated(&answer);
    assert!(validated.ends_with(&types(whole)), "{validated:?} {whole:?}");
    let path = format!("/audit/fhir/AuditEvent?patient=Patient/{one}&outcome=8");
    let bundle = compliance.get(&path).await.expect(200).json();
    let event = &bundle["entry"][0]["resource"];
    assert_eq!(event["type"]["code"], "110113");
    assert_eq!(event["agent"][1]["who"]["identifier"]["value"], "nurse-7");
}

/// Validates a bundle and gives the types of its records.
#[track_caller]
fn validated(bundle: &Answer) -> Vec<String> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let python = std::env::var_os("VITALOG_PYTHON")
        .map_or_else(|| PathBuf::from(format!("{root}/target/venv/bin/python")), PathBuf::from);
    let mut child = Command::new(python)
        .arg(format!("{root}/tests/tools/validate_fhir.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Python with fhir.resources: tests/run installs it, VITALOG_PYTHON names another");
    child.stdin.take().unwrap().write_all(&bundle.body).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The entries of an accounting that is complete to its own record.
#[track_caller]
fn entries(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = answer.json();
    assert_eq!(body["completeTo"], answer.receipt().seq);
    body["entries"].as_array().unwrap().clone()
}

fn types(entries: &[Value]) -> Vec<String> {
    entries.iter().map(|entry| entry["type"].as_str().unwrap().to_owned()).collect()
}
