//! The OWASP API Security Top 10 of 2023, as far as the services behind the gateway decide; what
//! the gateway decides alone is among its own tests.

mod limits;
mod objects;
mod ssrf;

use serde_json::Value;
use tests::{
    http::Api,
    samples::{id_of, plain_patient, test},
};

/// Paths of a patient with one test.
struct Patient {
    path: String,
    content: Value,
    test_path: String,
    test: Value,
}

impl Patient {
    async fn create(clinic: &Api) -> Self {
        let content = clinic.post("/patient", &plain_patient()).await.expect(201).json();
        let path = format!("/patient/{}", id_of(&content));
        let test = clinic.post(&format!("{path}/tests"), &test(1)).await.expect(201).json();
        let test_path = format!("{path}/tests/{}", id_of(&test));
        Self { path, content, test_path, test }
    }

    /// Nothing of the patient has changed.
    async fn is_as_it_was(&self, clinic: &Api) {
        assert_eq!(clinic.get(&self.path).await.expect(200).json(), self.content);
        assert_eq!(clinic.get(&self.test_path).await.expect(200).json(), self.test);
        let all = clinic.get(&format!("{}/tests", self.path)).await.expect(200).json();
        assert_eq!(all.as_array().unwrap().len(), 1, "{all}");
    }
}
