//! What every client may rely on, as one scenario for any form of the system.

mod headers;
mod past;
mod resources;
mod search;

use domain::{
    actor::{ActorKind, Outcome, Purpose},
    record::{Kind, Record, RecordType},
};
use reqwest::Method;
use tests::{
    http::{Answer, Receipt, send},
    ledger::Ledger,
    samples::plain_patient,
    system::System,
};

/// What the clients' requests must have left in the ledger.
#[derive(Default)]
pub(crate) struct Expected(Vec<(Receipt, RecordType, Outcome)>);

impl Expected {
    /// Notes that an answer's receipt names a record of this type and outcome.
    #[track_caller]
    fn note(&mut self, answer: &Answer, record_type: RecordType, outcome: Outcome) -> Receipt {
        let receipt = answer.receipt();
        self.0.push((receipt.clone(), record_type, outcome));
        receipt
    }

    fn found(&mut self, answer: &Answer, record_type: RecordType) -> Receipt {
        self.note(answer, record_type, Outcome::Success)
    }

    fn missing(&mut self, answer: &Answer, record_type: RecordType) -> Receipt {
        self.note(answer, record_type, Outcome::NotFound)
    }

    /// Checks them against the ledger, and what holds for all of them.
    fn check(&self, ledger: &Ledger) {
        for (receipt, record_type, outcome) in &self.0 {
            let record = ledger.record(receipt);
            assert_eq!((record.record_type, record.outcome), (*record_type, *outcome));
            assert_eq!(
                (record.actor.id.as_str(), record.actor.kind),
                ("clinic", ActorKind::Subscription)
            );
            assert_eq!(record.client, Some([127, 0, 0, 1].into()));
            assert_eq!(record.source.as_str(), "patient-service");
            assert!(record.trace.is_some());
            let sealed = record.record_type.kind() == Kind::Event
                || record.record_type == RecordType::PatientsSearched;
            let removal =
                matches!(record.record_type, RecordType::PatientRemoved | RecordType::TestRemoved);
            assert!(removal || sealed == record.data.is_some(), "{record:?}");
        }
    }
}

/// Runs all of it; the system's read models are compared with a rebuild at the end. Returns the
/// path of a patient for [`is_there`].
pub(crate) async fn run(system: &System) -> String {
    let clinic = system.clinic();
    let mut expected = Expected::default();
    doors(system).await;
    let id = resources::patients(&clinic, &mut expected).await;
    resources::tests_of_a_patient(&clinic, &id, &mut expected).await;
    headers::conditions(&clinic, &id).await;
    headers::repeated_commands(&clinic, &mut expected).await;
    search::search(&clinic, &mut expected).await;
    headers::causes(&clinic, &system.compliance()).await;
    resources::removal(&clinic, &mut expected).await;
    past::looked_back(&clinic, &mut expected).await;
    search::old_load_mix(&clinic).await;
    let ledger = whole_ledger(system).await;
    expected.check(&ledger);
    system.equals_its_rebuild().await;
    let path = format!("/patient/{id}");
    is_there(system, &path).await;
    path
}

/// Checks that a patient of the scenario is as it left her.
pub(crate) async fn is_there(system: &System, path: &str) {
    let again = system.clinic().get(path).await.expect(200).json();
    assert_eq!(again["firstName"], "JOAN");
}

/// Who gets in, and to what.
async fn doors(system: &System) {
    let open = system.api();
    for path in ["/healthz", "/readyz", "/openapi.json", "/docs"] {
        let _ = open.get(path).await.expect(200);
    }
    let refused = open.get("/patient/1").await;
    assert_eq!(
        refused.problem(401)["message"],
        "Access denied due to missing subscription key. Make sure to include subscription key \
         when making requests to an API."
    );
    assert!(refused.header("www-authenticate").is_some());
    assert_eq!(
        open.with_key("wrong").get("/patient/1").await.problem(401)["message"],
        "Access denied due to invalid subscription key. Make sure to provide a valid key for an \
         active subscription."
    );
    let in_query =
        format!("/echo/resource?param1=sample&subscription-key={}", system.key("clinic"));
    let _ = open.get(&in_query).await.expect(200);
    let _ = system.privacy().get("/echo/resource?param1=sample").await.expect(200);
    for (api, path) in [
        (system.clinic(), "/audit/records"),
        (system.clinic(), "/audit/tile/0/000"),
        (system.compliance(), "/patient/1"),
        (system.privacy(), "/patient/1"),
        (system.privacy(), "/audit/records/0"),
    ] {
        api.get(path).await.problem(403);
    }
    system.compliance().post("/patient", &plain_patient()).await.problem(403);
    let clinic = system.clinic();
    assert_eq!(clinic.get("/nothing").await.problem(404)["message"], "Resource not found");
    let wrong_method = send(clinic.request(Method::PATCH, "/patient")).await;
    wrong_method.problem(405);
    assert_eq!(wrong_method.header("allow"), Some("POST"));
}

/// Reads and checks the ledger, and that this was recorded.
async fn whole_ledger(system: &System) -> Ledger {
    let compliance = system.compliance();
    let mut ledger = Ledger::read(&compliance).await;
    ledger.check_checkpoint(&compliance).await;
    let reads: Vec<&Record> =
        ledger.records.iter().filter(|it| it.record_type == RecordType::LedgerRead).collect();
    assert!(reads.iter().any(|read| read.actor.id.as_str() == "compliance"));
    assert!(reads.iter().all(|read| read.purpose == Purpose::Compliance));
    for record in &ledger.records {
        let is_search = record.record_type == RecordType::PatientsSearched;
        let found = record.outcome == Outcome::Success;
        assert_eq!(!record.subjects.is_empty(), is_search && found, "{record:?}");
    }
    let key = compliance.get("/audit/key").await.expect(200);
    let public = std::fs::read_to_string(system.data().join("ledger.pub")).unwrap();
    assert_eq!(key.text(), public);
    ledger
}
