//! Patients and their tests, from the first to the last command.

use domain::record::RecordType;
use serde_json::json;
use tests::{
    http::Api,
    samples::{expect_content, id_of, patient, plain_patient, random_name, test, unknown_id},
};

use super::Expected;

pub(super) async fn patients(clinic: &Api, expected: &mut Expected) -> String {
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

pub(super) async fn tests_of_a_patient(clinic: &Api, id: &str, expected: &mut Expected) {
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

pub(super) async fn removal(clinic: &Api, expected: &mut Expected) {
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
