//! The patient as the ledger had her then, and nothing of one who was erased.

use domain::{
    actor::{Actor, ActorKind, ErasureReason, Outcome, Purpose},
    event::SCHEMA,
    ids::Stream,
    record::{Kind, Record, RecordType},
    sealed::parse_compact,
    wire::Proposal,
};
use http::{Method, StatusCode};
use projections::{key_ring::store::KeyStore, store::memory::Fault};
use serde_json::{Value, json};

use crate::{
    harness::{Answer, System, id, text},
    lossy::Lossy,
    samples::{self, UNKNOWN},
};

/// A name that stands nowhere else.
const CANARY: &str = "CANARY9C1E";

/// The clock of the services here.
const NOW: &str = "2100-01-01T00:00:00Z";

/// The events of a patient, in order.
pub(crate) fn events_of(system: &System, patient: &Value) -> Vec<Record> {
    let hers = |record: &Record| {
        record.kind == Kind::Event && record.stream == Some(Stream::Patient(id(patient)))
    };
    system.records().into_iter().filter(hers).collect()
}

/// Erases a patient as far as reads can tell: records it, and destroys her key.
pub(crate) async fn erase(system: &System, patient: &Value) {
    let events = events_of(system, patient);
    let actor_id = "privacy".parse().unwrap();
    let actor = Actor { id: actor_id, kind: ActorKind::Subscription, roles: Vec::new() };
    let (record_type, purpose) = (RecordType::PatientErased, Purpose::PatientRequest);
    let proposal = Proposal {
        stream: Some(Stream::Patient(id(patient))),
        version: Some(events.len() as u64 + 1),
        schema: Some(SCHEMA),
        reason: Some(ErasureReason::ConsentWithdrawn),
        ..Proposal::new(record_type, actor, purpose, Outcome::Success)
    };
    system.audit_client().append(proposal).await.unwrap();
    let kid = parse_compact(events[0].data.as_deref().unwrap()).unwrap().header.kid;
    system.keys.destroy(kid).await.unwrap();
}

/// A patient with a test, both amended, the test removed, and an access in between.
struct Life {
    patient: Value,
    path: String,
    test_path: String,
    /// The patient and her test as they were after each of her events.
    states: Vec<(Value, Option<Value>)>,
}

impl Life {
    async fn of(system: &System) -> Self {
        let mut body = samples::patient();
        body["lastName"] = CANARY.into();
        let patient = system.registered(&body).await;
        let path = format!("/patient/{}", text(&patient, "id"));
        let mut states = vec![(patient.clone(), None)];
        let mut test = system.post(&format!("{path}/tests"), &samples::test()).await.body;
        let test_path = format!("{path}/tests/{}", text(&test, "id"));
        states.push((patient.clone(), Some(test.clone())));
        system.get(&path).await.expect(StatusCode::OK);
        let moved = system.put(&path, &samples::moved(&patient, "4321")).await.body;
        states.push((moved.clone(), Some(test.clone())));
        test["performer"] = CANARY.into();
        let amended = system.put(&test_path, &test).await.expect(StatusCode::OK).body;
        states.push((moved.clone(), Some(amended)));
        system.delete(&test_path).await.expect(StatusCode::NO_CONTENT);
        states.push((moved, None));
        Self { patient, path, test_path, states }
    }
}

#[track_caller]
fn last(system: &System, answer: &Answer) -> Record {
    let record = system.records().pop().unwrap();
    assert!(answer.receipt().starts_with(&format!("seq={}, ", record.seq)));
    record
}

#[tokio::test]
async fn every_state_is_shown_as_it_was_answered_then() {
    let system = System::start().await;
    // The read models have never heard of her.
    system.store.fail_applies(Fault::Before, 1_000);
    let life = Life::of(&system).await;
    let events = events_of(&system, &life.patient);
    assert_eq!(events.len(), life.states.len());
    let mut moments: Vec<(String, &Record)> = Vec::new();
    let head = system.records().len() as u64;
    for (index, event) in events.iter().enumerate() {
        let until = events.get(index + 1).map_or(head, |next| next.seq);
        moments.extend((event.seq..until).map(|seq| (seq.to_string(), event)));
        // Several events may share a millisecond; the last of them counts.
        let same = |it: &&Record| it.recorded_at <= event.recorded_at;
        let end = events.iter().rfind(same).unwrap();
        moments.push((event.recorded_at.to_string(), end));
    }
    moments.push((NOW.to_owned(), &events[events.len() - 1]));
    moments.push(("2100-01-01T01:00:02%2B01:00".to_owned(), &events[events.len() - 1]));
    for (moment, event) in moments {
        let version = event.version.unwrap();
        let (patient, test) = &life.states[usize::try_from(version).unwrap() - 1];
        let as_of = format!("seq={}, version={version}", event.seq);
        let get = async |path: &str| system.get(&format!("{path}?asOf={moment}")).await;

        let answer = get(&life.path).await.expect(StatusCode::OK);
        assert_eq!(answer.body, *patient, "{moment}");
        assert_eq!(answer.header("vitalog-as-of"), as_of, "{moment}");
        assert_eq!(answer.header("etag"), if version < 3 { "\"1\"" } else { "\"3\"" });
        let record = last(&system, &answer);
        assert_eq!(record.record_type, RecordType::PatientRead);
        assert_eq!((record.version, record.outcome), (Some(version), Outcome::Success));

        let answer = get(&format!("{}/tests", life.path)).await.expect(StatusCode::OK);
        assert_eq!(answer.body, json!(Vec::from_iter(test)), "{moment}");
        assert_eq!(answer.header("vitalog-as-of"), as_of, "{moment}");
        let record = last(&system, &answer);
        assert_eq!(record.record_type, RecordType::TestsListed);
        assert_eq!((record.version, record.outcome), (Some(version), Outcome::Success));

        let answer = get(&life.test_path).await;
        let outcome = match test {
            Some(test) => {
                assert_eq!(answer.status, StatusCode::OK);
                assert_eq!(answer.body, *test, "{moment}");
                assert_eq!(answer.header("vitalog-as-of"), as_of, "{moment}");
                Outcome::Success
            }
            None => Outcome::NotFound,
        };
        let record = last(&system, &answer);
        assert_eq!(record.record_type, RecordType::TestRead);
        assert_eq!((record.version, record.outcome), (Some(version), outcome));
    }
}

#[tokio::test]
async fn before_her_registration_and_after_her_removal_she_is_not_found_and_that_is_recorded() {
    let system = System::start().await;
    system.any_patient().await;
    let life = Life::of(&system).await;
    let registered = events_of(&system, &life.patient)[0].seq;
    let before_removal = system.records().len() - 1;
    system.delete(&life.path).await.expect(StatusCode::NO_CONTENT);
    let removed = before_removal + 1;

    let check = async |query: String, version: Option<u64>| {
        for path in [&life.path, &format!("{}/tests", life.path), &life.test_path] {
            let answer = system.get(&format!("{path}?asOf={query}")).await;
            let answer = answer.expect(StatusCode::NOT_FOUND);
            assert_eq!(answer.body["message"], "Patient not found");
            assert!(!answer.text.contains(CANARY));
            let record = last(&system, &answer);
            assert_eq!((record.version, record.outcome), (version, Outcome::NotFound));
        }
    };
    check((registered - 1).to_string(), None).await;
    check("0".to_owned(), None).await;
    check("1970-01-01T00:00:00Z".to_owned(), None).await;
    check(removed.to_string(), Some(6)).await;
    check(NOW.to_owned(), Some(6)).await;
    // A removal is no erasure: what was there before can be looked up.
    let then = format!("{}?asOf={before_removal}", life.path);
    let answer = system.get(&then).await.expect(StatusCode::OK);
    assert_eq!(answer.body, life.states[4].0);

    let unknown = format!("/patient/{UNKNOWN}?asOf=0");
    let answer = system.get(&unknown).await.expect(StatusCode::NOT_FOUND);
    let record = last(&system, &answer);
    assert_eq!((record.version, record.outcome), (None, Outcome::NotFound));
}

#[tokio::test]
async fn moments_that_are_none_or_have_not_come_are_refused_and_leave_no_record() {
    let system = System::start().await;
    let path = system.any_patient().await;
    let records = system.records().len();
    let form = "asOf must be the position of a record";
    let future = "asOf lies in the future";
    for (query, detail) in [
        ("asOf=", form),
        ("asOf=now", form),
        ("asOf=-1", form),
        ("asOf=2026-11-23", form),
        ("asOf=2026-11-23T08:15:30+01:00", form),
        ("asOf=0&asOf=0", form),
        ("asOf=1", "asOf names a record that the ledger does not have yet"),
        ("asOf=9007199254740991", "asOf names a record that the ledger does not have yet"),
        ("asOf=2100-01-01T00:00:02.001Z", future),
        ("asOf=9999-12-31T23:59:59Z", future),
    ] {
        for path in [&path, &format!("{path}/tests"), &format!("{path}/tests/{UNKNOWN}")] {
            let answer = system.get(&format!("{path}?{query}")).await;
            let answer = answer.expect(StatusCode::BAD_REQUEST);
            assert!(text(&answer.body, "detail").starts_with(detail), "{}", answer.text);
        }
    }
    assert_eq!(system.records().len(), records);
    system.get(&format!("{path}?asOf=0&name=x")).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_condition_holds_for_the_revision_of_that_time() {
    let system = System::start().await;
    let life = Life::of(&system).await;
    let path = format!("{}?asOf=0", life.path);
    let get = |tag: &str| system.request(Method::GET, &path).header("if-none-match", tag).send();
    let answer = get("\"1\"").await.expect(StatusCode::NOT_MODIFIED);
    assert_eq!(answer.header("vitalog-as-of"), "seq=0, version=1");
    assert!(answer.text.is_empty() && !answer.receipt().is_empty());
    get("\"3\"").await.expect(StatusCode::OK);
}

/// What shows something of a patient's past, and the record that it leaves.
fn looks_back(life: &Life, seq: u64) -> [(String, RecordType); 4] {
    let Life { path, test_path, .. } = life;
    [
        (format!("{path}?asOf={seq}"), RecordType::PatientRead),
        (format!("{path}/tests?asOf={seq}"), RecordType::TestsListed),
        (format!("{test_path}?asOf={seq}"), RecordType::TestRead),
        (format!("{path}/history"), RecordType::HistoryRead),
    ]
}

#[track_caller]
fn is_gone(system: &System, answer: Answer, record_type: RecordType) {
    let answer = answer.expect(StatusCode::GONE);
    assert_eq!(answer.body["detail"], "the patient was erased; nothing of her can be shown");
    assert!(!answer.text.contains(CANARY) && !answer.text.contains("JANE"));
    assert_eq!(answer.header("vitalog-as-of"), "");
    let record = last(system, &answer);
    assert_eq!(record.record_type, record_type);
    assert_eq!((record.version, record.outcome), (Some(6), Outcome::NotFound));
}

#[tokio::test]
async fn nothing_of_an_erased_patients_past_is_shown_though_her_key_is_still_in_memory() {
    let system = System::with_instances(2).await;
    let life = Life::of(&system).await;
    for (path, _) in looks_back(&life, 4) {
        system.get(&path).await.expect(StatusCode::OK);
    }
    erase(&system, &life.patient).await;
    for instance in [0, 1] {
        for (path, record_type) in looks_back(&life, 4) {
            let answer = system.request_to(instance, Method::GET, &path).send().await;
            is_gone(&system, answer, record_type);
        }
    }
}

#[tokio::test]
async fn an_erasure_between_loading_and_recording_takes_the_answer_back() {
    let mut system = System::start().await;
    let (lossy, url) = Lossy::start(&system.audit.url).await;
    system.add_instance(&url).await;
    for which in 0..4 {
        let life = Life::of(&system).await;
        let seq = events_of(&system, &life.patient)[3].seq;
        let (path, record_type) = looks_back(&life, seq)[which].clone();
        // The key and the content are in this instance's memory.
        system.request_to(1, Method::GET, &path).send().await.expect(StatusCode::OK);
        let held = lossy.hold(record_type);
        let erasing = async {
            held.reached.await.unwrap();
            erase(&system, &life.patient).await;
            held.go.send(()).unwrap();
        };
        let reading = system.request_to(1, Method::GET, &path).send();
        let (answer, ()) = tokio::join!(reading, erasing);
        is_gone(&system, answer, record_type);
    }
}

#[tokio::test]
async fn what_comes_between_loading_and_recording_counts_where_it_belongs_to_the_moment() {
    let mut system = System::start().await;
    let (lossy, url) = Lossy::start(&system.audit.url).await;
    system.add_instance(&url).await;
    let check = async |moment: &str, post_code: &str, accesses: &[Option<u64>]| {
        let patient = system.registered(&samples::patient()).await;
        let path = format!("/patient/{}", text(&patient, "id"));
        let seq = events_of(&system, &patient)[0].seq;
        let held = lossy.hold(RecordType::PatientRead);
        let moving = async {
            held.reached.await.unwrap();
            let body = samples::moved(&patient, "4321");
            system.put(&path, &body).await.expect(StatusCode::OK);
            held.go.send(()).unwrap();
        };
        let query = format!("{path}?asOf={}", moment.replace("SEQ", &seq.to_string()));
        let reading = system.request_to(1, Method::GET, &query).send();
        let (answer, ()) = tokio::join!(reading, moving);
        assert_eq!(answer.expect(StatusCode::OK).body["postCode"], post_code);
        let reads = system.records_of(RecordType::PatientRead).into_iter();
        let reads = reads.filter(|record| record.stream == Some(Stream::Patient(id(&patient))));
        let versions: Vec<_> = reads.map(|record| record.version).collect();
        assert_eq!(versions, accesses);
    };
    check(NOW, "4321", &[Some(1), Some(2)]).await;
    check("SEQ", "1234", &[Some(1)]).await;
}

#[tokio::test]
async fn without_the_audit_service_nothing_of_the_past_is_shown() {
    let mut system = System::start().await;
    let life = Life::of(&system).await;
    system.stop_audit().await;
    for (path, _) in looks_back(&life, 4) {
        let answer = system.get(&path).await.expect(StatusCode::SERVICE_UNAVAILABLE);
        assert!(!answer.text.contains(CANARY) && answer.receipt().is_empty());
        assert!(!answer.header("retry-after").is_empty());
    }
    system.start_audit().await;
    system.ledger.fail_append(audit_service::store::memory::AppendFault::Refuse);
    let answer = system.get(&life.path).await.expect(StatusCode::SERVICE_UNAVAILABLE);
    assert!(!answer.text.contains(CANARY));
}
