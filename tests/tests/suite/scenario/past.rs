//! Earlier states of a patient, and her history.

use domain::record::RecordType;
use serde_json::{Value, json};
use tests::{
    http::{Api, Receipt},
    samples::{id_of, patient, random_name, test, unknown_id},
};

use super::Expected;

pub(super) async fn looked_back(clinic: &Api, expected: &mut Expected) {
    let created = clinic.post("/patient", &patient(&random_name())).await.expect(201);
    let path = format!("/patient/{}", id_of(&created.json()));
    let recorded = clinic.post(&format!("{path}/tests"), &test(2)).await.expect(201);
    let mut body = created.json();
    body["postCode"] = json!("9999");
    body.as_object_mut().unwrap().remove("lastName");
    let updated = clinic.put(&path, &body).await.expect(200);
    let removed = clinic.delete(&path).await.expect(204);
    clinic.get(&path).await.problem(404);
    let receipts: Vec<Receipt> =
        [&created, &recorded, &updated, &removed].map(tests::http::Answer::receipt).into();

    let as_of = |moment: &str| format!("asOf={moment}");
    let by_seq = |receipt: &Receipt| as_of(&receipt.seq.to_string());
    let then = clinic.get(&format!("{path}?{}", by_seq(&receipts[1]))).await.expect(200);
    expected.found(&then, RecordType::PatientRead);
    assert_eq!(then.json(), created.json());
    assert_eq!(then.header("etag"), Some("\"1\""));
    let end = format!("seq={}, version=2", receipts[1].seq);
    assert_eq!(then.header("vitalog-as-of"), Some(end.as_str()));
    let time = updated.json()["lastUpdated"].as_str().unwrap().to_owned();
    let then = clinic.get(&format!("{path}/?{}", by_seq(&receipts[2]))).await.expect(200);
    assert_eq!(then.json(), updated.json());
    let tests = clinic.get(&format!("{path}/tests?{}", by_seq(&receipts[2]))).await.expect(200);
    expected.found(&tests, RecordType::TestsListed);
    assert_eq!(tests.json(), json!([recorded.json()]));
    let one = format!("{path}/tests/{}?{}", id_of(&recorded.json()), by_seq(&receipts[1]));
    let one = clinic.get(&one).await.expect(200);
    expected.found(&one, RecordType::TestRead);
    assert_eq!(one.json(), recorded.json());
    let gone = clinic.get(&format!("{path}?{}", by_seq(&receipts[3]))).await;
    gone.problem(404);
    expected.missing(&gone, RecordType::PatientRead);
    let before = clinic.get(&format!("{path}?asOf=0")).await;
    before.problem(404);
    expected.missing(&before, RecordType::PatientRead);
    // The removal may be of the same millisecond.
    let by_time = clinic.get(&format!("{path}?{}", as_of(&time))).await;
    assert!(by_time.status == 404 || by_time.json() == updated.json(), "{by_time:?}");
    for moment in ["soon", "9007199254740991", "9999-01-01T00:00:00Z"] {
        clinic.get(&format!("{path}?{}", as_of(moment))).await.problem(400);
    }

    history(clinic, &path, &receipts, expected).await;
    let unknown = clinic.get(&format!("/patient/{}/history", unknown_id())).await;
    assert_eq!(unknown.problem(404)["message"], "Patient not found");
    expected.missing(&unknown, RecordType::HistoryRead);
    clinic.get("/patient/1/history").await.problem(404);
}

async fn history(clinic: &Api, path: &str, receipts: &[Receipt], expected: &mut Expected) {
    let whole = clinic.get(&format!("{path}/history")).await.expect(200);
    expected.found(&whole, RecordType::HistoryRead);
    let entries = whole.json().as_array().unwrap().clone();
    let types: Vec<&Value> = entries.iter().map(|entry| &entry["type"]).collect();
    assert_eq!(types, ["PatientRegistered", "TestRecorded", "PatientAmended", "PatientRemoved"]);
    for (entry, receipt) in entries.iter().zip(receipts) {
        assert_eq!((&entry["seq"], &entry["hash"]), (&json!(receipt.seq), &json!(receipt.hash)));
        assert_eq!(entry["actor"], json!({"id": "clinic", "kind": "subscription"}));
    }
    let changes = json!([
        {"field": "lastName", "from": "DOE"},
        {"field": "postCode", "from": "1234", "to": "9999"},
    ]);
    assert_eq!(entries[2]["changes"], changes);
    let mut paged = Vec::new();
    let mut next = Some("?limit=3".to_owned());
    while let Some(query) = next {
        let page = clinic.get(&format!("{path}/history{query}")).await.expect(200);
        paged.extend(page.json().as_array().unwrap().clone());
        let link = page.header("link").map(str::to_owned);
        next = link.map(|link| {
            let target = link.strip_prefix('<').and_then(|it| it.strip_suffix(">; rel=\"next\""));
            target.unwrap().to_owned()
        });
    }
    assert_eq!(paged, entries);
}
