//! Who may do what.

use audit_service::store::memory::MemoryLedger;
use domain::{
    actor::{Actor, ActorKind, ErasureReason},
    ids::{ObjectRef, TestId},
    record::RecordType,
    subscription::{SubscriptionAct, SubscriptionChange},
    wire::Proposal,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    fixture::{FIRST_KEY, event, mac, patient, read},
    server::{CALLERS, Server},
};

/// The signing key that may take over.
const NEXT_KEY: u8 = 10;

/// Every route but health, with a body where one is needed.
fn routes() -> Vec<(&'static str, String, Option<Value>)> {
    let stream = format!("/streams/{}/records", patient(1));
    vec![
        ("GET", "/records".to_owned(), None),
        ("GET", "/records/0".to_owned(), None),
        ("POST", "/records".to_owned(), Some(json!(read(1)))),
        ("POST", "/records/batch".to_owned(), Some(json!({ "items": [read(1)] }))),
        ("GET", stream, None),
        ("GET", format!("/commands/{}", mac(1)), None),
        ("GET", "/checkpoint".to_owned(), None),
        ("GET", "/key".to_owned(), None),
        ("GET", "/keys".to_owned(), None),
        ("GET", "/records/0/proof".to_owned(), None),
        ("GET", "/consistency?from=0&to=1".to_owned(), None),
        ("GET", "/tile/0/000.p/1".to_owned(), None),
        ("GET", "/tile/entries/000.p/1".to_owned(), None),
        ("POST", "/api/auditrecord".to_owned(), Some(json!({ "sourceSystemName": "old" }))),
        ("POST", "/api/auditrecord/".to_owned(), Some(json!({ "sourceSystemName": "old" }))),
        ("GET", "/nowhere".to_owned(), None),
        ("DELETE", "/records".to_owned(), None),
    ]
}

#[tokio::test]
async fn nothing_but_health_answers_without_a_key() {
    let server = Server::start().await;
    let http = reqwest::Client::new();
    for (method, path, body) in routes() {
        let method: http::Method = method.parse().unwrap();
        for key in [None, Some(""), Some("the-service-key-of-nobody")] {
            let mut request = http.request(method.clone(), server.at(&path));
            if let Some(key) = key {
                request = request.header("x-functions-key", key);
            }
            if let Some(body) = &body {
                request = request.body(body.to_string());
            }
            server.send(request).await.is_problem(401);
        }
        let twice = server.request("gateway", method.as_str(), &path);
        let twice = twice.header("x-functions-key", crate::server::key("gateway"));
        server.send(twice).await.is_problem(401);
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(server.send(http.get(server.at(path))).await.status, 200);
    }
    assert!(server.store.blocks().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn each_caller_has_its_own_routes() {
    let server = Server::start().await;
    let first = json!(crate::fixture::by_command(1, 1, event(1, 1))).to_string();
    server.post("patient-service", "/records", first).await;
    // As in `routes`, without the last two.
    let expected = [
        (
            "patient-service",
            [200, 200, 201, 200, 200, 200, 200, 200, 403, 403, 403, 403, 403, 403, 403],
        ),
        ("gateway", [200, 200, 403, 200, 403, 403, 200, 200, 200, 200, 200, 200, 200, 403, 403]),
        (
            "projections",
            [200, 200, 403, 200, 200, 403, 200, 200, 403, 200, 403, 403, 403, 403, 403],
        ),
        ("audit", [200, 200, 403, 200, 403, 403, 200, 200, 200, 200, 200, 200, 200, 403, 403]),
        ("operator", [403, 403, 403, 200, 403, 403, 200, 200, 200, 403, 403, 403, 403, 403, 403]),
        ("old-clinic", [403, 403, 403, 200, 403, 403, 403, 403, 403, 403, 403, 403, 403, 201, 201]),
    ];
    assert_eq!(expected.map(|(caller, _)| caller), CALLERS);
    for (caller, statuses) in expected {
        for ((method, path, body), status) in routes().into_iter().zip(statuses) {
            let mut request = server.request(caller, method, &path);
            if caller == "gateway" {
                let actor = json!({ "id": "clinic", "kind": "subscription" }).to_string();
                request = request.header("x-vitalog-actor", actor);
            }
            let body = body.map(|body| body.to_string()).unwrap_or_default();
            let answer = server.send(request.body(body)).await;
            assert_eq!(answer.status, status, "{caller} {method} {path}: {}", answer.text);
            // A batch is decided item by item.
            if path == "/records/batch" {
                let decided = &answer.json()["results"][0]["status"];
                let may = caller == "patient-service";
                assert_eq!(decided, if may { "appended" } else { "refused" }, "{caller}");
            }
        }
        for stream in ["ledger/keys", "gateway/subscriptions"] {
            let answer = server.get(caller, &format!("/streams/{stream}/records")).await;
            let may = caller == "projections";
            assert_eq!(answer.status, if may { 200 } else { 403 }, "{caller} {stream}");
        }
        server.send(server.request(caller, "GET", "/nowhere")).await.is_problem(404);
        let wrong = server.send(server.request(caller, "DELETE", "/records")).await;
        wrong.is_problem(405);
        assert_eq!(wrong.header("allow"), Some("GET,HEAD,POST"), "{caller}");
    }
    server.stop().await;
}

/// A valid proposal of each type, as far as callers may ask for it.
fn proposal(record_type: RecordType) -> Proposal {
    use RecordType as T;
    let test = ObjectRef(TestId::new(Uuid::from_u128(3)));
    let mut proposal = Proposal { record_type, ..read(1) };
    match record_type {
        T::PatientRemoved | T::PatientErased | T::TestRemoved => {
            let reason = (record_type == T::PatientErased).then_some(ErasureReason::Objection);
            proposal = Proposal { record_type, reason, data: None, ..event(1, 1) };
        }
        T::PatientsSearched | T::LedgerRead => proposal.stream = None,
        T::KeyRotated => {
            let rotation = crate::key_rotation::rotate(FIRST_KEY, NEXT_KEY, 1);
            proposal = rotation;
        }
        T::SubscriptionChanged => {
            proposal.stream = Some("gateway/subscriptions".parse().unwrap());
            proposal.version = Some(1);
            proposal.actor = operator();
            let name = "clinic".parse().unwrap();
            proposal.subscription = Some(SubscriptionChange::new(SubscriptionAct::Suspended, name));
        }
        _ => {}
    }
    if matches!(record_type, T::TestRemoved | T::TestRead) {
        proposal.object = Some(test);
    }
    proposal
}

fn operator() -> Actor {
    Actor { id: "operator".parse().unwrap(), kind: ActorKind::Service, roles: Vec::new() }
}

#[tokio::test]
async fn an_operators_record_names_nobody_else_as_who_acts() {
    let server = Server::start_with(&[FIRST_KEY, NEXT_KEY], &MemoryLedger::new()).await;
    for record_type in [RecordType::KeyRotated, RecordType::SubscriptionChanged] {
        for (id, kind) in [
            ("j.doe", ActorKind::User),
            ("operator", ActorKind::User),
            ("operator", ActorKind::Subscription),
            ("gateway", ActorKind::Service),
        ] {
            let actor = Actor { id: id.parse().unwrap(), kind, roles: Vec::new() };
            let proposal = Proposal { actor, ..proposal(record_type) };
            let one = json!(proposal).to_string();
            server.post("operator", "/records", one).await.is_problem(400);
            let many = json!({ "items": [proposal] }).to_string();
            let answer = server.post("operator", "/records/batch", many).await.json();
            assert_eq!(answer["results"][0]["status"], "refused", "{answer}");
        }
        let good = json!(proposal(record_type)).to_string();
        assert_eq!(server.post("operator", "/records", good).await.status, 201, "{record_type}");
    }
    server.stop().await;
}

#[tokio::test]
async fn each_caller_may_append_its_own_kinds_of_record() {
    use RecordType as T;
    let patients = [T::PatientRead, T::TestRead, T::TestsListed, T::HistoryRead, T::ActivityRead];
    let events = [T::PatientRemoved, T::PatientErased, T::TestRemoved];
    let own = [T::LedgerRead, T::ExternalAccess];
    let admin = [T::KeyRotated, T::SubscriptionChanged];
    for caller in CALLERS {
        for record_type in
            patients.into_iter().chain(events).chain(own).chain(admin).chain([T::AccessRefused])
        {
            let server = Server::start_with(&[FIRST_KEY, NEXT_KEY], &MemoryLedger::new()).await;
            let body = json!(proposal(record_type)).to_string();
            let status = server.post(caller, "/records", body).await.status;
            let may = match caller {
                "patient-service" => !own.contains(&record_type) && !admin.contains(&record_type),
                "gateway" => record_type == T::AccessRefused,
                "operator" => admin.contains(&record_type),
                _ => false,
            };
            assert_eq!(status, if may { 201 } else { 403 }, "{caller} {record_type}");
            if may {
                let record = &crate::chain::Chain::check(&server.store.blocks()).records[0];
                assert_eq!(record["source"], caller);
            }
            server.stop().await;
        }
    }
}
