//! What a replica does that an erasure elsewhere went past. Recording an erasure is not this
//! service's yet, so the tests append it themselves.

use domain::{
    actor::{Actor, ActorKind, ErasureReason, Outcome, Purpose},
    event::SCHEMA,
    ids::Stream,
    record::RecordType,
    sealed::parse_compact,
    wire::Proposal,
};
use http::{Method, StatusCode};
use projections::key_ring::store::KeyStore;

use crate::{
    harness::{System, id, text},
    samples,
};

async fn erase(system: &System, created: &serde_json::Value) {
    let actor_id = "privacy".parse().unwrap();
    let actor = Actor { id: actor_id, kind: ActorKind::Subscription, roles: Vec::new() };
    let (record_type, purpose) = (RecordType::PatientErased, Purpose::PatientRequest);
    let proposal = Proposal {
        stream: Some(Stream::Patient(id(created))),
        version: Some(2),
        schema: Some(SCHEMA),
        reason: Some(ErasureReason::ConsentWithdrawn),
        ..Proposal::new(record_type, actor, purpose, Outcome::Success)
    };
    system.audit_client().append(proposal).await.unwrap();
    let registered = system.records_of(RecordType::PatientRegistered).pop().unwrap();
    let kid = parse_compact(&registered.data.unwrap()).unwrap().header.kid;
    system.keys.destroy(kid).await.unwrap();
}

#[tokio::test]
async fn nothing_of_an_erased_patient_is_shown_though_her_key_is_still_in_memory() {
    let system = System::with_instances(2).await;
    let post = |instance| {
        let request = system.request_to(instance, Method::POST, "/patient");
        request.header("idempotency-key", "k1").json(&samples::patient()).send()
    };
    let created = post(0).await.expect(StatusCode::CREATED).body;
    let path = format!("/patient/{}", text(&created, "id"));
    erase(&system, &created).await;

    for instance in [0, 1] {
        let read = system.request_to(instance, Method::GET, &path).send().await;
        let read = read.expect(StatusCode::NOT_FOUND);
        assert!(!read.text.contains("JANE") && !read.receipt().is_empty());
        let again = post(instance).await.expect(StatusCode::GONE);
        assert!(!again.text.contains("JANE"));
        let body = samples::moved(&created, "4321");
        let amend = system.request_to(instance, Method::PUT, &path).json(&body).send().await;
        amend.expect(StatusCode::NOT_FOUND);
    }
    assert_eq!(system.records_of(RecordType::PatientAmended).len(), 0);
}
