//! What every client may rely on, as one scenario for any form of the system.

use domain::{
    actor::{ActorKind, Outcome, Purpose},
    record::{Kind, Record, RecordType},
};
use reqwest::Method;
use serde_json::{Value, json};
use tests::{
    http::{Answer, Api, Receipt, send, text_body},
    ledger::Ledger,
    samples::{expect_content, id_of, patient, plain_patient, random_name, test, unknown_id},
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

/// Runs all of it; the system's read models are compared with a rebuild at the end.
pub(crate) async fn run(system: &System) {
    let clinic = system.clinic();
    let mut expected = Expected::default();
    doors(system).await;
    let id = patients(&clinic, &mut expected).await;
    tests_of_a_patient(&clinic, &id, &mut expected).await;
    conditions(&clinic, &id).await;
    repeated_commands(&clinic, &mut expected).await;
    search(&clinic, &mut expected).await;
    causes(&clinic, &system.compliance()).await;
    removal(&clinic, &mut expected).await;
    old_load_mix(&clinic).await;
    let ledger = whole_ledger(system).await;
    expected.check(&ledger);
    system.equals_its_rebuild().await;
    // The rebuilt generation serves now, and nothing is lost in it.
    let again = clinic.get(&format!("/patient/{id}")).await.expect(200).json();
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
        (system.clinic(), "/audit/checkpoint"),
        (system.compliance(), "/patient/1"),
        (system.privacy(), "/patient/1"),
        (system.privacy(), "/audit/key"),
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

async fn patients(clinic: &Api, expected: &mut Expected) -> String {
    let sent = patient("JANE");
    let created = clinic.post("/patient", &sent).await.expect(201);
    expected.found(&created, RecordType::PatientRegistered);
    expect_content(&created.json(), &sent);
    assert_eq!(created.header("etag"), Some("\"1\""));
    let id = id_of(&created.json());
    let path = format!("/patient/{id}");
    assert_eq!(created.header("location"), Some(path.as_str()));

    let loaded = clinic.get(&path).await.expect(200);
    expected.found(&loaded, RecordType::PatientRead);
    assert_eq!(loaded.json(), created.json());
    let loaded = clinic.get(&format!("/patient/{}/", id.to_uppercase())).await.expect(200);
    assert_eq!(loaded.json(), created.json());

    // Clients send back what they loaded; a field that is left out is removed.
    let mut update = created.json();
    update["firstName"] = json!("JOAN");
    update.as_object_mut().unwrap().remove("preferredContactNumber");
    let updated = clinic.put(&format!("{path}/"), &update).await.expect(200);
    expected.found(&updated, RecordType::PatientAmended);
    assert_eq!(updated.header("etag"), Some("\"2\""));
    expect_content(&updated.json(), &update);
    assert_eq!(clinic.get(&path).await.expect(200).json(), updated.json());

    // With and without the trailing slash, with only what is required.
    let plain = plain_patient();
    let created = clinic.post("/patient/", &plain).await.expect(201);
    expect_content(&created.json(), &plain);

    let unknown = unknown_id();
    let missing = clinic.get(&format!("/patient/{unknown}")).await;
    assert_eq!(missing.problem(404)["message"], "Patient not found");
    expected.missing(&missing, RecordType::PatientRead);
    let mut update = patient("NOBODY");
    update["id"] = json!(unknown);
    clinic.put(&format!("/patient/{unknown}"), &update).await.problem(404);
    clinic.delete(&format!("/patient/{unknown}")).await.problem(404);
    clinic.get("/patient/1").await.problem(404);
    update["id"] = json!(id);
    clinic.put("/patient/1", &update).await.problem(404);
    update["id"] = json!(unknown);
    let inconsistent = clinic.put(&path, &update).await;
    assert_eq!(inconsistent.problem(400)["detail"], "Inconsistent registration IDs");
    id
}

async fn tests_of_a_patient(clinic: &Api, id: &str, expected: &mut Expected) {
    let list = format!("/patient/{id}/tests");
    let none = clinic.get(&list).await.expect(200);
    expected.found(&none, RecordType::TestsListed);
    assert_eq!(none.json(), json!([]));

    let sent = test(3);
    let created = clinic.post(&list, &sent).await.expect(201);
    expected.found(&created, RecordType::TestRecorded);
    expect_content(&created.json(), &sent);
    assert_eq!(created.json()["patientId"], *id);
    let test_id = id_of(&created.json());
    let path = format!("{list}/{test_id}");
    let read = clinic.get(&path).await.expect(200);
    expected.found(&read, RecordType::TestRead);
    assert_eq!(read.json(), created.json());
    assert_eq!(read.header("etag"), created.header("etag"));
    let one = clinic.get(&format!("{list}/")).await.expect(200);
    assert_eq!(one.json(), json!([created.json()]));

    // The path's patient wins over the body's.
    let mut other = test(0);
    other["patientId"] = json!(unknown_id());
    let second = clinic.post(&format!("{list}/"), &other).await.expect(201);
    assert_eq!(second.json()["patientId"], *id);
    let both = clinic.get(&list).await.expect(200);
    assert_eq!(both.json(), json!([created.json(), second.json()]));

    let mut amended = created.json();
    amended["observations"][0]["status"] = json!("amended");
    let updated = clinic.put(&path, &amended).await.expect(200);
    expected.found(&updated, RecordType::TestAmended);
    expect_content(&updated.json(), &amended);
    assert_eq!(clinic.get(&path).await.expect(200).json(), updated.json());

    let removed = clinic.delete(&path).await.expect(204);
    expected.found(&removed, RecordType::TestRemoved);
    assert!(removed.body.is_empty());
    let gone = clinic.get(&path).await;
    assert_eq!(gone.problem(404)["message"], "Test not found.");
    expected.missing(&gone, RecordType::TestRead);
    assert_eq!(clinic.get(&list).await.expect(200).json(), json!([second.json()]));
    clinic.put(&path, &amended).await.problem(404);
    clinic.delete(&path).await.problem(404);

    // A test of another patient, of none, and ids that are none.
    let stranger = id_of(&clinic.post("/patient", &plain_patient()).await.expect(201).json());
    let second_id = id_of(&second.json());
    let elsewhere = clinic.get(&format!("/patient/{stranger}/tests/{second_id}")).await;
    assert_eq!(elsewhere.problem(404)["message"], "Test not found.");
    let unknown = format!("/patient/{}/tests", unknown_id());
    let missing = clinic.get(&unknown).await;
    assert_eq!(missing.problem(404)["message"], "Patient not found");
    expected.missing(&missing, RecordType::TestsListed);
    clinic.post(&unknown, &test(1)).await.problem(404);
    clinic.get("/patient/1/tests").await.problem(404);
    clinic.get(&format!("{list}/1")).await.problem(404);
    clinic.post("/patient/1/tests", &test(1)).await.problem(400);
}

/// `If-Match` and `If-None-Match`.
async fn conditions(clinic: &Api, id: &str) {
    let path = format!("/patient/{id}");
    let loaded = clinic.get(&path).await.expect(200);
    let etag = loaded.header("etag").unwrap().to_owned();
    let put = |tag: &str, body: &Value| {
        text_body(clinic.request(Method::PUT, &path).header("if-match", tag), body)
    };
    let body = loaded.json();
    send(put("\"999\"", &body)).await.problem(412);
    let updated = send(put(&etag, &body)).await.expect(200);
    send(put(&etag, &body)).await.problem(412);
    let _ = send(put("*", &body)).await.expect(200);
    let stale = updated.header("etag").unwrap();
    send(clinic.request(Method::DELETE, &path).header("if-match", stale)).await.problem(412);
    let current = clinic.get(&path).await.expect(200);
    let fresh =
        clinic.request(Method::GET, &path).header("if-none-match", current.header("etag").unwrap());
    let unchanged = send(fresh).await.expect(304);
    // A look that finds nothing new is an access all the same.
    assert!(unchanged.receipt().seq > current.receipt().seq);
    assert!(unchanged.body.is_empty());
}

/// `Idempotency-Key`: one effect and one receipt, however often a command is sent.
async fn repeated_commands(clinic: &Api, expected: &mut Expected) {
    let keyed = |method: Method, path: &str, key: &str, body: &Value| {
        text_body(clinic.request(method, path).header("idempotency-key", key), body)
    };
    let (key, body) = (random_name(), patient(&random_name()));
    let first = send(keyed(Method::POST, "/patient", &key, &body)).await.expect(201);
    expected.found(&first, RecordType::PatientRegistered);
    for path in ["/patient", "/patient/"] {
        let again = send(keyed(Method::POST, path, &key, &body)).await.expect(201);
        assert_eq!(again.receipt(), first.receipt());
        assert_eq!((again.json(), again.header("etag")), (first.json(), first.header("etag")));
    }
    send(keyed(Method::POST, "/patient", &key, &patient("OTHER"))).await.problem(422);
    let found = clinic.post("/patient/search", &json!({"firstName": body["firstName"]})).await;
    assert_eq!(found.expect(200).json().as_array().unwrap().len(), 1);

    // The same key at another path is another command.
    let path = format!("/patient/{}", id_of(&first.json()));
    let test = send(keyed(Method::POST, &format!("{path}/tests"), &key, &test(1))).await;
    let test = test.expect(201);
    let mut update = first.json();
    update["postCode"] = json!("9999");
    let put = send(keyed(Method::PUT, &path, &key, &update)).await.expect(200);
    let again = send(keyed(Method::PUT, &path, &key, &update)).await.expect(200);
    assert_eq!(again.receipt(), put.receipt());
    let test_path = format!("{path}/tests/{}", id_of(&test.json()));
    let delete = || clinic.request(Method::DELETE, &test_path).header("idempotency-key", &key);
    let removed = send(delete()).await.expect(204);
    assert_eq!(send(delete()).await.expect(204).receipt(), removed.receipt());
}

async fn search(clinic: &Api, expected: &mut Expected) {
    let name = random_name();
    let mut ids = Vec::new();
    for day in 1..=5 {
        let mut body = patient(&random_name());
        body["lastName"] = json!(name);
        body["dateOfBirth"] = json!(format!("2001-02-{day:02}"));
        ids.push(id_of(&clinic.post("/patient", &body).await.expect(201).json()));
    }
    let find = async |criteria: Value| clinic.post("/patient/search/", &criteria).await;
    let answer = find(json!({"lastName": name})).await.expect(200);
    let found = |answer: &Answer| -> Vec<String> {
        answer.json().as_array().unwrap().iter().map(id_of).collect()
    };
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    assert_eq!(found(&answer), sorted);
    expected.found(&answer, RecordType::PatientsSearched);
    let range =
        json!({"lastName": name, "dateOfBirthFrom": "2001-02-02", "dateOfBirthTo": "2001-02-04"});
    let mut within = ids[1..4].to_vec();
    within.sort_unstable();
    assert_eq!(found(&find(range).await.expect(200)), within);
    let by_id = find(json!({"id": ids[0].to_uppercase()})).await.expect(200);
    assert_eq!(found(&by_id), ids[..1]);
    let none = find(json!({"lastName": name, "firstName": "nobody"})).await;
    assert_eq!(none.problem(404)["message"], "No patients found with provided criteria");
    expected.missing(&none, RecordType::PatientsSearched);

    // Page by page, and everything.
    let mut path = "/patient/search?limit=2".to_owned();
    let mut paged = Vec::new();
    loop {
        let page = clinic.post(&path, &json!({"lastName": name})).await.expect(200);
        paged.extend(found(&page));
        let Some(link) = page.header("link") else { break };
        let query = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap();
        path = format!("/patient/search{query}");
    }
    assert_eq!(paged, sorted);
    let everything = found(&find(json!({})).await.expect(200));
    assert!(everything.is_sorted() && ids.iter().all(|id| everything.contains(id)));

    // An update shows at once.
    let mut update = clinic.get(&format!("/patient/{}", ids[0])).await.expect(200).json();
    update["dateOfBirth"] = json!("1950");
    let _ = clinic.put(&format!("/patient/{}", ids[0]), &update).await.expect(200);
    let early = json!({"lastName": name, "dateOfBirthTo": "1950-01-01"});
    assert_eq!(found(&find(early).await.expect(200)), ids[..1]);
}

/// Purpose and trace stand in the record.
async fn causes(clinic: &Api, compliance: &Api) {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = text_body(clinic.request(Method::POST, "/patient"), &plain_patient())
        .header("purpose-of-use", "HRESCH")
        .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"))
        .header("x-vitalog-actor", r#"{"id":"somebody","kind":"user"}"#)
        .header("x-vitalog-client", "10.1.1.1");
    let created = send(request).await.expect(201);
    assert!(created.header("traceparent").unwrap().contains(TRACE));
    let seq = created.receipt().seq;
    let line = compliance.get(&format!("/audit/records/{seq}")).await.expect(200);
    let record = Record::parse(line.text().trim_end()).unwrap();
    assert_eq!(record.purpose, Purpose::Research);
    assert_eq!(record.trace.unwrap().to_string(), TRACE);
    // A client cannot say who it is.
    assert_eq!(record.actor.id.as_str(), "clinic");
    assert_eq!(record.client, Some([127, 0, 0, 1].into()));
    assert_eq!(record.version, Some(1));
    let path = format!("/patient/{}", id_of(&created.json()));
    let unknown = clinic.request(Method::GET, &path).header("purpose-of-use", "CURIOSITY");
    send(unknown).await.problem(400);
    let read = send(clinic.request(Method::GET, &path).header("purpose-of-use", "ETREAT")).await;
    let seq = read.expect(200).receipt().seq;
    let line = compliance.get(&format!("/audit/records/{seq}")).await.expect(200);
    let record = Record::parse(line.text().trim_end()).unwrap();
    assert_eq!(record.purpose, Purpose::EmergencyTreatment);
    compliance.get("/audit/records/9007199254740991").await.problem(404);
}

async fn removal(clinic: &Api, expected: &mut Expected) {
    let name = random_name();
    let created = clinic.post("/patient", &patient(&name)).await.expect(201);
    let path = format!("/patient/{}", id_of(&created.json()));
    let recorded = clinic.post(&format!("{path}/tests"), &test(1)).await.expect(201);
    let removed = clinic.delete(&path).await.expect(204);
    expected.found(&removed, RecordType::PatientRemoved);
    let gone = clinic.get(&path).await;
    gone.problem(404);
    expected.missing(&gone, RecordType::PatientRead);
    clinic.put(&path, &created.json()).await.problem(404);
    clinic.delete(&path).await.problem(404);
    clinic.get(&format!("{path}/tests")).await.problem(404);
    clinic.get(&format!("{path}/tests/{}", id_of(&recorded.json()))).await.problem(404);
    clinic.post(&format!("{path}/tests"), &test(1)).await.problem(404);
    clinic.post("/patient/search", &json!({"firstName": name})).await.problem(404);
}

/// The requests of the older system's load test, valid and invalid, as it sends them.
async fn old_load_mix(clinic: &Api) {
    let _ = clinic.get("/echo/resource?param1=sample").await.expect(200);
    let body = json!({
        "firstName": random_name(), "lastName": random_name(), "gender": "male",
        "dateOfBirth": "1925-11-30", "postCode": "4711",
    });
    let id = id_of(&clinic.post("/patient", &body).await.expect(201).json());
    for invalid in [json!({}), json!({"firstName": "X"}), json!([])] {
        clinic.post("/patient", &invalid).await.problem(400);
    }
    let path = format!("/patient/{id}");
    let loaded = clinic.get(&path).await.expect(200);
    let _ = clinic.get("/patient/1").await.expect(404);
    let _ = clinic.put(&path, &loaded.json()).await.expect(200);
    let _ = clinic.post("/patient/search", &json!({"id": id})).await.expect(200);
    let _ = clinic.post("/patient/search", &json!({})).await.expect(200);
    let recorded = clinic.post(&format!("{path}/tests"), &test(2)).await.expect(201);
    let _ = clinic.post("/patient/1/tests", &test(2)).await.expect(400);
    let _ = clinic.get(&format!("{path}/tests")).await.expect(200);
    let _ = clinic.get("/patient/1/tests").await.expect(404);
    let test_id = id_of(&recorded.json());
    let _ = clinic.get(&format!("{path}/tests/{test_id}")).await.expect(200);
    let _ = clinic.get(&format!("{path}/tests/1")).await.expect(404);
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
