//! Search, and the mix of requests of the older system's load test.

use domain::record::RecordType;
use serde_json::{Value, json};
use tests::{
    http::{Answer, Api},
    samples::{id_of, patient, random_name, test},
};

use super::Expected;

pub(super) async fn search(clinic: &Api, expected: &mut Expected) {
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

/// The requests of the older system's load test, valid and invalid, as it sends them.
pub(super) async fn old_load_mix(clinic: &Api) {
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
