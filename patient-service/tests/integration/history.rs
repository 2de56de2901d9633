//! Who changed which field, when and why.

use domain::{
    actor::Outcome,
    hash::Hash,
    record::{Record, RecordType},
};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    harness::{System, text},
    samples::{self, UNKNOWN},
    time_travel::events_of,
};

#[tokio::test]
async fn a_history_names_every_change_with_its_cause_and_its_place_in_the_ledger() {
    let system = System::start().await;
    let patient = system.registered(&samples::patient()).await;
    let path = format!("/patient/{}", text(&patient, "id"));
    let mut moved = samples::moved(&patient, "4321");
    moved.as_object_mut().unwrap().remove("lastName");
    moved["fullName"] = "JANE X".into();
    let put = system.request(Method::PUT, &path).header("purpose-of-use", "PATRQT");
    put.json(&moved).send().await.expect(StatusCode::OK);
    let mut body = samples::test();
    body["observations"] = json!([]);
    let test = system.post(&format!("{path}/tests"), &body).await.body;
    let test_path = format!("{path}/tests/{}", text(&test, "id"));
    let mut amended = test.clone();
    amended["observations"] = samples::test()["observations"].clone();
    system.put(&test_path, &amended).await.expect(StatusCode::OK);
    system.delete(&test_path).await.expect(StatusCode::NO_CONTENT);
    system.delete(&path).await.expect(StatusCode::NO_CONTENT);

    let added = |field: &str, to: &str| json!({"field": field, "to": to});
    let gone = |field: &str, from: &str| json!({"field": field, "from": from});
    let changes = [
        json!([
            added("dateOfBirth", "1980-07-14"),
            added("firstName", "JANE"),
            added("gender", "female"),
            added("insuranceNumber", "99"),
            added("lastName", "DOE"),
            added("postCode", "1234"),
        ]),
        json!([
            gone("lastName", "DOE"),
            {"field": "postCode", "from": "1234", "to": "4321"},
            added("fullName", "JANE X"),
        ]),
        json!([added("orderReference", "order-1"), added("performer", "Laboratory 7")]),
        json!([
            added("observations[0].code", "2093-3"),
            added("observations[0].id", "o-1"),
            added("observations[0].interpretation", "N"),
            added("observations[0].issued", "2002-02-15T10:00:00+02:00"),
            added("observations[0].measurement", "5.1"),
            added("observations[0].status", "final"),
        ]),
        json!([
            gone("observations[0].code", "2093-3"),
            gone("observations[0].id", "o-1"),
            gone("observations[0].interpretation", "N"),
            gone("observations[0].issued", "2002-02-15T10:00:00+02:00"),
            gone("observations[0].measurement", "5.1"),
            gone("observations[0].status", "final"),
            gone("orderReference", "order-1"),
            gone("performer", "Laboratory 7"),
        ]),
        json!([
            gone("dateOfBirth", "1980-07-14"),
            gone("firstName", "JANE"),
            gone("fullName", "JANE X"),
            gone("gender", "female"),
            gone("insuranceNumber", "99"),
            gone("postCode", "4321"),
        ]),
    ];
    let entry = |record: Record, changes: &Value| {
        let mut entry = json!({
            "version": record.version, "seq": record.seq, "hash": Hash::of_line(&record.to_line()),
            "at": record.recorded_at, "type": record.record_type,
            "actor": {"id": "clinic", "kind": "subscription"}, "purpose": record.purpose,
            "source": "patient-service", "changes": changes,
        });
        if let Some(test) = record.test() {
            assert_eq!(test.to_string(), text(&test_value(&record), "id"));
            entry["testId"] = json!(test);
        }
        entry
    };
    let events = events_of(&system, &patient);
    assert_eq!(events[1].purpose.as_str(), "PATRQT");
    let expected: Vec<_> =
        events.into_iter().zip(&changes).map(|(record, changes)| entry(record, changes)).collect();
    assert_eq!(expected.len(), 6);
    let answer = system.get(&format!("{path}/history")).await.expect(StatusCode::OK);
    assert_eq!(answer.body, json!(expected));
    assert_eq!(answer.header("link"), "");
    assert_eq!(answer.header("etag"), "");
    let record = system.records().pop().unwrap();
    assert_eq!(record.record_type, RecordType::HistoryRead);
    assert_eq!((record.version, record.outcome), (Some(6), Outcome::Success));
    assert!(answer.receipt().starts_with(&format!("seq={}, ", record.seq)));
    assert!(record.data.is_none() && record.command.is_none());
}

/// The test that a record names, as an answer would.
fn test_value(record: &Record) -> Value {
    json!({"id": record.test().unwrap()})
}

#[tokio::test]
async fn pages_link_to_the_next_and_cover_every_event_once() {
    let system = System::start().await;
    let mut patient = system.registered(&samples::patient()).await;
    let path = format!("/patient/{}", text(&patient, "id"));
    for post_code in ["0001", "0002", "0003", "0004"] {
        patient = system.put(&path, &samples::moved(&patient, post_code)).await.body;
    }
    let whole = system.get(&format!("{path}/history")).await.expect(StatusCode::OK).body;
    assert_eq!(whole.as_array().unwrap().len(), 5);
    let (mut seen, mut read) = (Vec::new(), Vec::new());
    let mut query = "?limit=2".to_owned();
    loop {
        let answer = system.get(&format!("{path}/history{query}")).await.expect(StatusCode::OK);
        seen.extend(answer.body.as_array().unwrap().clone());
        read.push(system.records().pop().unwrap().version);
        let link = answer.header("link");
        if link.is_empty() {
            break;
        }
        query = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
    }
    assert_eq!(json!(seen), whole);
    // Each access names the version up to which it showed her.
    assert_eq!(read, [Some(2), Some(4), Some(5)]);

    // Behind the end there is nothing yet; then there is.
    let end = format!("{path}/history?cursor=5");
    assert_eq!(system.get(&end).await.expect(StatusCode::OK).body, json!([]));
    system.delete(&path).await.expect(StatusCode::NO_CONTENT);
    let more = system.get(&end).await.expect(StatusCode::OK).body;
    assert_eq!((&more[0]["version"], &more[0]["type"]), (&json!(6), &json!("PatientRemoved")));
}

#[tokio::test]
async fn who_is_not_there_has_no_history_and_bad_pages_are_refused() {
    let system = System::start().await;
    let path = system.any_patient().await;
    let answer = system.get(&format!("/patient/{UNKNOWN}/history")).await;
    let answer = answer.expect(StatusCode::NOT_FOUND);
    assert_eq!(answer.body["message"], "Patient not found");
    let record = system.records().pop().unwrap();
    assert_eq!(record.record_type, RecordType::HistoryRead);
    assert_eq!((record.version, record.outcome), (None, Outcome::NotFound));
    assert!(answer.receipt().starts_with(&format!("seq={}, ", record.seq)));

    let records = system.records().len();
    system.get("/patient/1/history").await.expect(StatusCode::NOT_FOUND);
    for query in
        ["?limit=0", "?limit=201", "?limit=x", "?cursor=x", "?limit=1&limit=2", "?cursor=-1"]
    {
        let answer = system.get(&format!("{path}/history{query}")).await;
        answer.expect(StatusCode::BAD_REQUEST);
    }
    let post = system.request(Method::POST, &format!("{path}/history")).send().await;
    post.expect(StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(system.records().len(), records);
}
