//! Users with a token of an issuer act under their own names.

use domain::{
    actor::ActorKind,
    record::{Record, RecordType},
};
use serde_json::json;
use tests::{
    http::Answer,
    issuer::{AUDIENCE, LocalIssuer},
    ledger::Ledger,
    samples::{a_place, id_of, plain_patient},
    system::{Store, System},
};

const NURSE: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_names_the_user_who_created_a_patient() {
    let _place = a_place().await;
    let issuer = LocalIssuer::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let told = ["--oidc-issuer", issuer.url(), "--oidc-audience", AUDIENCE];
    let system = System::standalone_told(Store::Sqlite, &told).await;
    let both = json!({"oid": NURSE, "scp": "patient:read patient:write", "roles": ["nurse"]});
    let nurse = system.api().with_token(issuer.token(&both));
    let mail = json!({"sub": "jane@clinic.example", "scp": "patient:read"});
    let reader = system.api().with_token(issuer.token(&mail));

    let created = nurse.post("/patient", &plain_patient()).await.expect(201);
    let path = format!("/patient/{}", id_of(&created.json()));
    let found = reader.get(&path).await.expect(200);
    // Keys go on working beside tokens.
    let by_key = system.clinic().get(&path).await.expect(200);
    let refused = reader.post("/patient", &plain_patient()).await.expect(403);
    assert!(refused.header("www-authenticate").unwrap().contains("insufficient_scope"));
    let nonsense = system.api().with_token("nonsense").get(&path).await;
    assert_eq!(nonsense.status, 401);

    let auditor = json!({"oid": "auditor", "roles": ["audit:read"]});
    let ledger = Ledger::read(&system.api().with_token(issuer.token(&auditor))).await;
    let record = |answer: &Answer| -> Record { ledger.record(&answer.receipt()).clone() };
    let record_of_creation = record(&created);
    assert_eq!(record_of_creation.record_type, RecordType::PatientRegistered);
    let actor = record_of_creation.actor;
    assert_eq!((actor.id.as_str(), actor.kind), (NURSE, ActorKind::User));
    assert_eq!(actor.roles, ["nurse".parse().unwrap()]);
    let actor = record(&found).actor;
    assert!(actor.id.as_str().starts_with("sha256-"), "{actor:?}");
    assert_eq!((actor.kind, actor.roles.len()), (ActorKind::User, 0));
    assert_eq!(record(&by_key).actor.kind, ActorKind::Subscription);
    assert!(!ledger.lines.iter().any(|line| line.contains("jane")));
    system.finish().await;
}
