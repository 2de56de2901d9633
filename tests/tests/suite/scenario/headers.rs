//! Conditions, repeated commands, and what a record says of its cause.

use domain::{
    actor::Purpose,
    record::{Record, RecordType},
};
use reqwest::Method;
use serde_json::{Value, json};
use tests::{
    http::{Api, send, text_body},
    samples::{id_of, patient, plain_patient, random_name, test},
};

use super::Expected;

/// `If-Match` and `If-None-Match`.
pub(super) async fn conditions(clinic: &Api, id: &str) {
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
pub(super) async fn repeated_commands(clinic: &Api, expected: &mut Expected) {
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

/// Purpose and trace stand in the record.
pub(super) async fn causes(clinic: &Api, compliance: &Api) {
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
