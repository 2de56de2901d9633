//! Erasing a patient: what is recorded, what is left, and what is answered.

use std::{collections::BTreeMap, sync::Arc};

use domain::{
    actor::ErasureReason,
    ids::KeyId,
    record::{Record, RecordType},
    sealed::parse_compact,
};
use http::{Method, StatusCode};
use projections::{
    change::StreamChange,
    documents::{Generation, PatientState},
    key_ring::{memory::Fault as KeyFault, store::KeyStore},
    store::{
        Generations, ReadModels, WriteModels,
        memory::{Fault, MemoryStore},
    },
};
use serde_json::{Value, json};

use crate::{
    harness::{Answer, System, id, text},
    samples,
};

const FIRST: Generation = Generation(1);

/// The key that the first patient of the ledger has.
fn kid(system: &System) -> KeyId {
    let registered = system.records_of(RecordType::PatientRegistered).remove(0);
    parse_compact(&registered.data.unwrap()).unwrap().header.kid
}

fn erasures(system: &System) -> Vec<Record> {
    system.records_of(RecordType::PatientErased)
}

/// A patient with two tests, and her path.
async fn with_tests(system: &System) -> (Value, String) {
    let created = system.registered(&samples::patient()).await;
    let path = format!("/patient/{}", text(&created, "id"));
    for _ in 0..2 {
        let test = system.post(&format!("{path}/tests"), &samples::test()).await;
        test.expect(StatusCode::CREATED);
    }
    (created, path)
}

/// Nothing that an instance answers shows anything of the patient.
async fn forgotten(system: &System, instance: usize, created: &Value, path: &str) {
    let ask = async |method: Method, path: &str, body: &Value| {
        let answer = system.request_to(instance, method, path).json(body).send().await;
        for content in ["JANE", "DOE", "1980-07-14", "Laboratory", "order-1"] {
            assert!(!answer.text.contains(content), "{answer:?}");
        }
        answer.expect(StatusCode::NOT_FOUND)
    };
    let (nothing, tests) = (json!({}), format!("{path}/tests"));
    for path in [path, &tests, &format!("{tests}/{}", samples::UNKNOWN)] {
        let read = ask(Method::GET, path, &nothing).await;
        assert!(!read.receipt().is_empty());
    }
    ask(Method::POST, "/patient/search", &nothing).await;
    ask(Method::POST, "/patient/search", &json!({"firstName": "JANE"})).await;
    ask(Method::PUT, path, &samples::moved(created, "4321")).await;
    ask(Method::POST, &tests, &samples::test()).await;
    ask(Method::DELETE, path, &nothing).await;
}

#[tokio::test]
async fn an_erasure_is_recorded_and_nothing_is_left_when_it_is_answered() {
    let system = System::start().await;
    let (created, path) = with_tests(&system).await;
    let key = kid(&system);
    assert!(system.keys.contains(key));

    let erased = system.erase(0, &path).send().await.expect(StatusCode::NO_CONTENT);
    assert!(erased.text.is_empty());
    let record = system.records().pop().unwrap();
    assert_eq!((record.record_type, record.version), (RecordType::PatientErased, Some(4)));
    assert_eq!(record.reason, Some(ErasureReason::ConsentWithdrawn));
    assert_eq!((record.actor.id.as_str(), record.data), ("clinic", None));
    assert!(record.command.is_some());
    assert!(erased.receipt().starts_with(&format!("seq={}, ", record.seq)));

    assert!(!system.keys.contains(key));
    let document = system.store.patient(FIRST, id(&created)).await.unwrap().unwrap();
    assert_eq!((document.version, document.state), (4, PatientState::Erased));
    let tests = system.store.scan_tests(FIRST, None, 10).await.unwrap();
    assert_eq!(tests.iter().map(|test| test.version).collect::<Vec<_>>(), [4, 4]);
    assert!(tests.iter().all(|test| test.current.is_none()));
    forgotten(&system, 0, &created, &path).await;
}

#[tokio::test]
async fn a_reason_of_the_list_is_needed_and_nothing_else_is_taken() {
    let system = System::start().await;
    let path = system.any_patient().await;
    let words = "\"reason\" must be one of [noLongerNecessary, consentWithdrawn, objection, \
                 unlawfulProcessing, legalObligation, childConsent, registeredInError]";
    for (body, detail) in [
        (json!({}), "\"reason\" is required"),
        (json!({"reason": null}), "\"reason\" must be a string"),
        (json!({"reason": ""}), "\"reason\" is not allowed to be empty"),
        (json!({"reason": "because JANE asked"}), words),
        (json!({"reason": "objection", "note": "x"}), "\"note\" is not allowed"),
        (json!(["objection"]), "\"value\" must be of type object"),
    ] {
        let answer = system.post(&format!("{path}/erase"), &body).await;
        assert_eq!(answer.expect(StatusCode::BAD_REQUEST).body["detail"], detail);
    }
    let empty = system.request(Method::POST, &format!("{path}/erase")).send().await;
    empty.expect(StatusCode::BAD_REQUEST);
    for reason in ErasureReason::ALL {
        let path = system.any_patient().await;
        let body = json!({ "reason": reason.as_str() });
        system.post(&format!("{path}/erase"), &body).await.expect(StatusCode::NO_CONTENT);
        assert_eq!(erasures(&system).pop().unwrap().reason, Some(*reason));
    }
    assert_eq!(system.get(&path).await.status, StatusCode::OK);
}

#[tokio::test]
async fn whom_nobody_registered_cannot_be_erased_and_a_removed_patient_can() {
    let system = System::start().await;
    for unknown in [samples::UNKNOWN, "1"] {
        let path = format!("/patient/{unknown}");
        let missing = system.erase(0, &path).send().await.expect(StatusCode::NOT_FOUND);
        assert_eq!(missing.body["message"], "Patient not found");
    }
    assert!(system.records().is_empty());

    let (created, path) = with_tests(&system).await;
    let key = kid(&system);
    system.delete(&path).await.expect(StatusCode::NO_CONTENT);
    assert!(system.keys.contains(key));
    system.erase(0, &path).send().await.expect(StatusCode::NO_CONTENT);
    assert!(!system.keys.contains(key));
    assert_eq!(erasures(&system)[0].version, Some(5));
    forgotten(&system, 0, &created, &path).await;
}

#[tokio::test]
async fn erasing_again_is_answered_as_the_first_time_and_recorded_once() {
    let system = System::with_instances(2).await;
    let (_, path) = with_tests(&system).await;
    let keyed = |instance, key| system.erase(instance, &path).header("idempotency-key", key);
    let first = keyed(0, "k1").send().await.expect(StatusCode::NO_CONTENT);
    let again: Vec<Answer> = vec![
        keyed(0, "k1").send().await,
        keyed(1, "k1").send().await,
        keyed(1, "k2").send().await,
        system.erase(0, &path).send().await,
        system.erase(0, &path).header("if-match", "\"1\"").send().await,
    ];
    for answer in again {
        let answer = answer.expect(StatusCode::NO_CONTENT);
        assert_eq!(answer.receipt(), first.receipt());
    }
    let other = system.request(Method::POST, &format!("{path}/erase"));
    let other = other.header("idempotency-key", "k1").json(&json!({"reason": "objection"}));
    other.send().await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(erasures(&system).len(), 1);
}

#[tokio::test]
async fn every_other_command_id_of_the_patient_is_gone() {
    let system = System::start().await;
    let post = || {
        let request = system.request(Method::POST, "/patient").header("idempotency-key", "k1");
        request.json(&samples::patient()).send()
    };
    let created = post().await.expect(StatusCode::CREATED).body;
    let path = format!("/patient/{}", text(&created, "id"));
    let put = || {
        let request = system.request(Method::PUT, &path).header("idempotency-key", "k1");
        request.json(&samples::moved(&created, "4321")).send()
    };
    put().await.expect(StatusCode::OK);
    system.erase(0, &path).send().await.expect(StatusCode::NO_CONTENT);
    for again in [post().await, put().await] {
        assert!(!again.expect(StatusCode::GONE).text.contains("JANE"));
    }
}

#[tokio::test]
async fn an_erasure_needs_neither_the_read_model_nor_readable_events() {
    let system = System::start().await;
    // The read model never hears of her, and her key is lost: her events can be read no more.
    system.store.fail_applies(Fault::Before, 2);
    let created = system.registered(&samples::patient()).await;
    let path = format!("/patient/{}", text(&created, "id"));
    let body = samples::moved(&created, "4321");
    system.put(&path, &body).await.expect(StatusCode::OK);
    assert_eq!(system.store.cursors(FIRST, &[id(&created)]).await.unwrap().len(), 0);
    system.keys.destroy(kid(&system)).await.unwrap();

    system.erase(0, &path).send().await.expect(StatusCode::NO_CONTENT);
    let document = system.store.patient(FIRST, id(&created)).await.unwrap().unwrap();
    assert_eq!((document.version, document.state), (3, PatientState::Erased));
    forgotten(&system, 0, &created, &path).await;
}

#[tokio::test]
async fn an_erasure_reaches_every_generation() {
    let system = System::start().await;
    let (created, path) = with_tests(&system).await;
    let kept = system.store.create().await.unwrap();
    system.erase(0, &path).send().await.expect(StatusCode::NO_CONTENT);
    for generation in [FIRST, kept] {
        let document = system.store.patient(generation, id(&created)).await.unwrap().unwrap();
        assert_eq!((document.version, document.state), (4, PatientState::Erased));
        assert_eq!(system.store.scan_tests(generation, None, 10).await.unwrap().len(), 2);
        assert_eq!(system.store.erasures(generation, None, 10).await.unwrap().len(), 1);
    }
}

/// What the answer to an erasure says that is recorded and not complete.
#[track_caller]
fn pending(system: &System, answer: Answer) {
    let answer = answer.expect(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.body["outcome"], "recorded");
    let detail = text(&answer.body, "detail");
    assert!(detail.contains("is recorded") && detail.contains("asked for again"), "{detail}");
    assert!(!answer.header("retry-after").is_empty());
    let seq = erasures(system)[0].seq;
    assert!(answer.receipt().starts_with(&format!("seq={seq}, ")));
}

#[tokio::test]
async fn an_erasure_that_cannot_be_completed_is_said_to_be_recorded_and_completed_later() {
    let system = System::start().await;
    let (created, path) = with_tests(&system).await;
    let key = kid(&system);
    let erase = || system.erase(0, &path).header("idempotency-key", "k1").send();

    system.keys.set_fault(KeyFault::Fails);
    pending(&system, erase().await);
    system.keys.set_fault(KeyFault::None);
    assert!(system.keys.contains(key));
    system.store.fail_applies(Fault::Before, 1);
    pending(&system, erase().await);
    assert!(!system.keys.contains(key));
    // Nothing in memory or in the read model brings her back in between.
    system.get(&path).await.expect(StatusCode::NOT_FOUND);
    system.get(&format!("{path}/tests")).await.expect(StatusCode::NOT_FOUND);

    let erased = erase().await.expect(StatusCode::NO_CONTENT);
    let record = erasures(&system).pop().unwrap();
    assert_eq!((erasures(&system).len(), record.version), (1, Some(4)));
    assert!(erased.receipt().starts_with(&format!("seq={}, ", record.seq)));
    forgotten(&system, 0, &created, &path).await;
}

#[tokio::test]
async fn an_erasure_that_takes_too_long_is_answered_in_time() {
    let system = System::start().await;
    let path = system.any_patient().await;
    system.keys.set_fault(KeyFault::Hangs);
    pending(&system, system.erase(0, &path).send().await);
    system.keys.set_fault(KeyFault::None);
    system.erase(0, &path).send().await.expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn without_the_ledger_nothing_is_erased() {
    let mut system = System::start().await;
    let path = system.any_patient().await;
    let key = kid(&system);
    system.stop_audit().await;
    let answer = system.erase(0, &path).send().await.expect(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.body["outcome"], "nothingStored");
    assert!(system.keys.contains(key));
    system.start_audit().await;
    assert!(erasures(&system).is_empty());
}

#[tokio::test]
async fn a_restored_key_ring_does_not_bring_anybody_back() {
    let mut system = System::start().await;
    let (_, path) = with_tests(&system).await;
    let alive = system.any_patient().await;
    let key = kid(&system);
    let backup = system.keys.get(&[key]).await.unwrap();
    system.erase(0, &path).send().await.expect(StatusCode::NO_CONTENT);

    system.keys.insert_batch(&backup).await.unwrap();
    assert!(system.keys.contains(key));
    // The store is away for a moment: the start waits for it.
    system.store.fail_reads(2);
    let url = system.audit.url.clone();
    system.add_instance(&url).await;
    assert!(!system.keys.contains(key));
    for (path, status) in [(path, StatusCode::NOT_FOUND), (alive, StatusCode::OK)] {
        system.request_to(1, Method::GET, &path).send().await.expect(status);
    }
}

#[tokio::test]
async fn read_models_restored_with_the_key_ring_do_not_bring_anybody_back() {
    let mut system = System::start().await;
    let created = system.registered(&samples::patient()).await;
    let path = format!("/patient/{}", text(&created, "id"));
    let key = kid(&system);
    let keys = system.keys.get(&[key]).await.unwrap();
    let document = system.store.patient(FIRST, id(&created)).await.unwrap().unwrap();
    system.erase(0, &path).send().await.expect(StatusCode::NO_CONTENT);

    // Both as they were before the erasure; the ledger alone is of today.
    system.keys.insert_batch(&keys).await.unwrap();
    let older = MemoryStore::default();
    let change = StreamChange {
        patient: document.id,
        from: 0,
        to: document.version,
        state: Some(document.state),
        tests: BTreeMap::new(),
        tests_gone_at: None,
        erased: None,
    };
    let generation = older.serving().await.unwrap();
    older.apply(generation, &[change]).await.unwrap();
    let url = system.audit.url.clone();
    system.add_instance_over(&url, Arc::new(older)).await;
    assert!(!system.keys.contains(key));
    forgotten(&system, 1, &created, &path).await;
}
