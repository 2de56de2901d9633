//! The same as FHIR, judged by an independent model of FHIR's resources.

use std::{
    collections::BTreeSet,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use domain::{
    actor::{Actor, ActorKind, Outcome, Purpose},
    hash::Hash,
    ids::PatientId,
    record::RecordType,
    time::Timestamp,
};
use http::StatusCode;
use projections::{
    documents::{ActivityDoc, Position},
    store::{Generations, Upkeep, WriteModels},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::following::followed;
use crate::{
    harness::{System, text},
    samples,
};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Validates a bundle and gives the types of its records.
#[track_caller]
fn validated(bundle: &str) -> Vec<String> {
    let python = std::env::var_os("VITALOG_PYTHON")
        .map_or_else(|| PathBuf::from(format!("{ROOT}/target/venv/bin/python")), PathBuf::from);
    let mut child = Command::new(python)
        .arg(format!("{ROOT}/tests/tools/validate_fhir.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Python with fhir.resources: tests/run installs it, VITALOG_PYTHON names another");
    child.stdin.take().unwrap().write_all(bundle.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn ids(bundle: &Value) -> Vec<&str> {
    let entries = bundle["entry"].as_array();
    entries.into_iter().flatten().map(|entry| text(&entry["resource"], "id")).collect()
}

fn link<'a>(bundle: &'a Value, relation: &str) -> Option<&'a str> {
    let links = bundle["link"].as_array().unwrap();
    let link = links.iter().find(|link| link["relation"] == relation)?;
    link["url"].as_str()
}

/// A document of each type, outcome and kind of actor, with and without what may be absent.
fn every_document() -> Vec<ActivityDoc> {
    let kinds = [ActorKind::Subscription, ActorKind::User, ActorKind::Service];
    let mut documents = Vec::new();
    for record_type in RecordType::ALL.iter().copied() {
        for outcome in Outcome::ALL.iter().copied() {
            for kind in kinds {
                let number = documents.len();
                let full = number.is_multiple_of(2);
                documents.push(ActivityDoc {
                    seq: number as u64,
                    at: Timestamp::from_millis(1_700_000_000_000),
                    record_type,
                    outcome,
                    purpose: Purpose::ALL[number % Purpose::ALL.len()],
                    actor: Actor {
                        id: "clinic".parse().unwrap(),
                        kind,
                        roles: if full { vec!["nurse".parse().unwrap()] } else { Vec::new() },
                    },
                    source: "patient-service".parse().unwrap(),
                    client: full.then(|| "2001:db8::7".parse().unwrap()),
                    trace: full.then(|| "4bf92f3577b34da6a3ce929d0e0e4736".parse().unwrap()),
                    test: full.then(|| samples::UNKNOWN.parse().unwrap()),
                    patients: (0..number % 3).map(|_| PatientId::new(Uuid::new_v4())).collect(),
                });
            }
        }
    }
    documents
}

#[tokio::test]
async fn every_type_of_record_is_valid_fhir() {
    let system = System::start().await;
    let generation = system.store.serving().await.unwrap();
    let documents = every_document();
    system.store.write_activity(generation, &documents).await.unwrap();
    let office = system.store.take_office(generation, None, Uuid::new_v4()).await.unwrap().unwrap();
    let at = Timestamp::from_millis(0);
    let position = Position { next_seq: 1_000, hash: Hash::ZERO, at };
    system.store.set_position(generation, &position, &office).await.unwrap();

    let answer = system.get("/audit/fhir/AuditEvent?_count=1000").await.expect(StatusCode::OK);
    assert_eq!(answer.header("content-type"), "application/fhir+json");
    let types = validated(&answer.text);
    assert_eq!(types.len(), documents.len());
    let all: BTreeSet<_> = types.iter().map(String::as_str).collect();
    assert_eq!(all, RecordType::ALL.iter().map(|it| it.as_str()).collect());
    let names: BTreeSet<_> =
        answer.body["entry"].as_array().unwrap().iter().map(|it| text(it, "fullUrl")).collect();
    assert_eq!(names.len(), documents.len());
    // A search that finds nothing is a valid bundle, too.
    let nothing = system.get("/audit/fhir/AuditEvent?agent:identifier=nobody").await;
    assert_eq!(validated(&nothing.expect(StatusCode::OK).text), [""; 0]);
}

#[tokio::test]
async fn a_search_is_recorded_filtered_and_paged() {
    let (system, _following) = followed().await;
    let one = system.registered(&samples::patient()).await;
    let path = format!("/patient/{}", text(&one, "id"));
    system.any_patient().await;
    for _ in 0..3 {
        system.get(&path).await.expect(StatusCode::OK);
    }
    let search = async |query: &str| {
        let answer = system.get(&format!("/audit/fhir/AuditEvent?{query}")).await;
        answer.expect(StatusCode::OK)
    };
    let mine = format!("patient=Patient/{}&subtype=read", text(&one, "id"));
    let first = search(&format!("{mine}&_count=2")).await;
    assert_eq!(ids(&first.body), ["rec-4", "rec-3"]);
    let record = system.records().pop().unwrap();
    assert_eq!(record.record_type, RecordType::ActivityRead);
    assert_eq!(record.stream.unwrap().to_string(), path.trim_start_matches('/'));
    assert!(first.receipt().starts_with(&format!("seq={}, ", record.seq)));
    let patient = text(&one, "id");
    let here = format!("AuditEvent?patient=Patient%2F{patient}&subtype=read&_count=2");
    assert_eq!(link(&first.body, "self"), Some(&*here));
    let next = link(&first.body, "next").unwrap();
    assert_eq!(next, format!("{here}&cursor=3"));

    let second = system.get(&format!("/audit/fhir/{next}")).await.expect(StatusCode::OK);
    assert_eq!(ids(&second.body), ["rec-2"]);
    assert_eq!(link(&second.body, "next"), None);
    assert_eq!(ids(&search("subtype=create").await.body), ["rec-1", "rec-0"]);
    assert_eq!(ids(&search("_tag=PatientRead&_count=1").await.body), ["rec-4"]);
    assert_eq!(ids(&search("date=lt2026").await.body), [""; 0]);
    assert_eq!(ids(&search("action=R&subtype=create").await.body), [""; 0]);
    let event = &first.body["entry"][0]["resource"];
    assert_eq!(event["entity"][0]["what"], json!({"reference": format!("Patient/{patient}")}));

    let refused = system.get("/audit/fhir/AuditEvent?entity-name=x").await;
    let refused = refused.expect(StatusCode::BAD_REQUEST);
    assert_eq!(refused.body["errors"][0]["field"], "entity-name");
}
