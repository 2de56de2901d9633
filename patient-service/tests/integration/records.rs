//! What requests leave in the ledger.

use domain::{
    actor::{Outcome, Purpose},
    hash::Hash,
    ids::Stream,
    record::{Record, RecordType},
};
use http::{Method, StatusCode};

use crate::{
    harness::{Answer, System, id, text},
    samples::{self, UNKNOWN},
};

#[track_caller]
fn last(system: &System, answer: &Answer) -> Record {
    let blocks = system.ledger.blocks();
    let line = blocks.last().unwrap().lines.last().unwrap().clone();
    let record = Record::parse(&line).unwrap();
    let expected = format!("seq={}, hash=\"{}\"", record.seq, Hash::of_line(&line));
    assert_eq!(answer.receipt(), expected);
    record
}

#[tokio::test]
async fn a_record_says_who_did_what_from_where_and_why() {
    let system = System::start().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let created = system
        .request(Method::POST, "/patient")
        .header("purpose-of-use", "PATRQT")
        .header("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01"))
        .json(&samples::patient())
        .send()
        .await
        .expect(StatusCode::CREATED);
    let record = last(&system, &created);
    assert_eq!(record.record_type, RecordType::PatientRegistered);
    assert_eq!(record.stream, Some(Stream::Patient(id(&created.body))));
    assert_eq!((record.version, record.schema), (Some(1), Some(1)));
    assert_eq!((record.outcome, record.purpose), (Outcome::Success, Purpose::PatientRequest));
    assert_eq!(record.actor.id.as_str(), "clinic");
    assert_eq!(record.client, Some("192.0.2.7".parse().unwrap()));
    assert_eq!(record.source.as_str(), "patient-service");
    assert_eq!(record.trace.unwrap().to_string(), trace);
    assert!(record.command.is_some() && record.data.is_some());
    assert_eq!(text(&created.body, "lastUpdated"), record.recorded_at.to_string());
}

#[tokio::test]
async fn every_read_is_recorded_with_the_version_and_outcome() {
    let system = System::start().await;
    let patient = system.any_patient().await;
    let created = system.post(&format!("{patient}/tests"), &samples::test()).await;
    let test = text(&created.body, "id").to_owned();

    let check = async |path: String, expected: (RecordType, Outcome, Option<u64>, Option<&str>)| {
        let answer = system.get(&path).await;
        let record = last(&system, &answer);
        let object = record.test().map(|test| test.to_string());
        assert_eq!(
            (record.record_type, record.outcome, record.version, object.as_deref()),
            expected,
            "{path}"
        );
        assert!(record.command.is_none() && record.data.is_none());
    };
    let (found, missing) = (Outcome::Success, Outcome::NotFound);
    check(patient.clone(), (RecordType::PatientRead, found, Some(2), None)).await;
    check(format!("{patient}/tests"), (RecordType::TestsListed, found, Some(2), None)).await;
    let path = format!("{patient}/tests/{test}");
    check(path, (RecordType::TestRead, found, Some(2), Some(&test))).await;
    let path = format!("{patient}/tests/{UNKNOWN}");
    check(path, (RecordType::TestRead, missing, Some(2), Some(UNKNOWN))).await;
    let unknown = format!("/patient/{UNKNOWN}");
    check(unknown.clone(), (RecordType::PatientRead, missing, None, None)).await;
    check(format!("{unknown}/tests"), (RecordType::TestsListed, missing, None, None)).await;
    system.delete(&patient).await.expect(StatusCode::NO_CONTENT);
    check(patient, (RecordType::PatientRead, missing, Some(3), None)).await;
}

#[tokio::test]
async fn a_refused_command_leaves_no_record() {
    let system = System::start().await;
    let path = system.any_patient().await;
    let before = system.records().len();
    let loaded = samples::moved(&samples::patient(), "4321");
    system.put(&path, &loaded).await.expect(StatusCode::BAD_REQUEST);
    let stale = system.request(Method::DELETE, &path).header("if-match", "\"9\"");
    stale.send().await.expect(StatusCode::PRECONDITION_FAILED);
    system.delete(&format!("/patient/{UNKNOWN}")).await.expect(StatusCode::NOT_FOUND);
    assert_eq!(system.records().len(), before);
}
