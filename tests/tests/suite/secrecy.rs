//! No personal data and no key outside of where they belong; no answer without a key.

use std::{collections::BTreeMap, fs, path::Path};

use gateway::{
    routes::{Access, ROUTES, Target},
    subscriptions::Scope,
};
use reqwest::Method;
use serde_json::{Value, json};
use tests::{
    http::{Answer, Api, send, text_body},
    ledger::Ledger,
    samples::{a_place, id_of, patient, test, unknown_id},
    system::{Layout, Store, System},
};

/// In every value that must not be found again begins with this word.
const CANARY: &str = "CANARY";

/// What own crates may be asked to log at most.
const EVERYTHING: &str = "trace,gateway=trace,patient_service=trace,audit_service=trace,\
    audit_client=trace,projections=trace,runtime=trace,request=trace,standalone=trace";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn personal_data_and_keys_stay_where_they_belong() {
    let _place = a_place().await;
    let system = System::standalone_logging(Store::Sqlite, EVERYTHING).await;
    sing(&system).await;
    silent(&system, true).await;
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn personal_data_and_keys_stay_where_they_belong_by_default_on_four_processes() {
    let _place = a_place().await;
    let system = System::four_processes(Layout::shared().await).await;
    sing(&system).await;
    silent(&system, false).await;
    system.finish().await;
}

/// Sends canaries wherever a client can put something.
pub(super) async fn sing(system: &System) {
    let clinic = system.clinic();
    let keyed = |method: Method, path: &str, body: &Value| {
        text_body(clinic.request(method, path), body)
            .header("idempotency-key", "CANARY-IDEMPOTENCY-KEY")
            .header("tracestate", "vendor=CANARYTRACESTATE")
            .header("user-agent", "CANARYAGENT")
            .header("x-vitalog-actor", r#"{"id":"CANARYACTOR","kind":"user"}"#)
            .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    };
    let mut body = patient("CANARYFIRSTNAME");
    body["postCode"] = json!("CANA");
    body["insuranceNumber"] = json!("CANARYINSURANCE");
    body["preferredContactNumber"] = json!("CANARYCONTACT");
    let created = send(keyed(Method::POST, "/patient", &body)).await.expect(201).json();
    let path = format!("/patient/{}", id_of(&created));
    let mut content = test(1);
    content["performer"] = json!("CANARYPERFORMER");
    content["observations"][0]["measurement"] = json!("CANARYMEASUREMENT");
    let tests = format!("{path}/tests");
    let recorded = send(keyed(Method::POST, &tests, &content)).await.expect(201).json();
    let test_path = format!("{tests}/{}", id_of(&recorded));
    let seq = clinic.get(&path).await.expect(200).receipt().seq;
    for path in [
        &path,
        &tests,
        &test_path,
        &format!("{path}?name=CANARYQUERY"),
        &format!("{path}?asOf={seq}"),
        &format!("{path}/history"),
    ] {
        let _ = clinic.get(path).await.expect(200);
    }
    let _ = clinic.put(&path, &created).await.expect(200);
    let _ = clinic.put(&test_path, &recorded).await.expect(200);
    let criteria = json!({"firstName": "CANARYFIRSTNAME", "insuranceNumber": "CANARYINSURANCE"});
    let _ = clinic.post("/patient/search", &criteria).await.expect(200);

    let mut refusals = Vec::new();
    let mut note = |answer: Answer| {
        assert!(answer.status >= 400, "{answer:?}");
        refusals.push(answer);
    };
    note(clinic.post("/patient/search", &json!({"lastName": "CANARYLASTNAME"})).await);
    note(send(keyed(Method::POST, "/patient", &patient("CANARYOTHER"))).await);
    for body in [
        json!({"CANARYFIELD": 1}),
        json!({"Canary CANARY Jane Doe": "CANARYVALUE"}),
        json!({"firstName": ["CANARYLIST"], "gender": "CANARYGENDER"}),
        json!({"dateOfBirth": "CANARYDATE", "postCode": "CANARYPOST"}),
    ] {
        note(clinic.post("/patient", &body).await);
        note(clinic.post("/patient/search", &body).await);
        note(clinic.post(&tests, &body).await);
    }
    for text in ["{\"CANARY", "{\"a\": CANARYTOKEN}", "{\"CANARYTWICE\":1,\"CANARYTWICE\":1}"] {
        note(send(clinic.request(Method::POST, "/patient").body(text)).await);
    }
    for path in [
        "/patient/CANARYID",
        "/CANARYPATH",
        "/patient/CANARYID/tests/CANARYTEST",
        "/patient/CANARYID/history?cursor=CANARYCURSOR",
        "/patient/CANARYID?asOf=CANARYMOMENT",
        "/audit/records?CANARYPARAM=1",
    ] {
        note(clinic.get(path).await);
        note(system.compliance().get(path).await);
        note(system.api().with_key("CANARYKEY").get(path).await);
        note(system.api().get(&format!("{path}?subscription-key=CANARYQUERYKEY")).await);
    }
    for (name, value) in [
        ("purpose-of-use", "CANARYPURPOSE"),
        ("if-match", "CANARYTAG"),
        ("idempotency-key", "CANARY KEY"),
    ] {
        note(
            send(text_body(clinic.request(Method::PUT, &path), &created).header(name, value)).await,
        );
    }
    let agent = clinic.request(Method::GET, &format!("/patient/{}", unknown_id()));
    note(send(agent.header("traceparent", "CANARYPARENT")).await);
    let external = json!({"sourceSystemName": "CANARY SYSTEM NAME"});
    let key = fs::read_to_string(system.data().join("secrets/service-external.key")).unwrap();
    let audit = Api::new(&system.addresses().audit_service);
    let report = audit.request(Method::POST, "/api/auditrecord");
    note(send(text_body(report.header("x-functions-key", key.trim()), &external)).await);

    for refusal in refusals {
        let problem = refusal.problem(refusal.status);
        assert!(!contains_canary(&problem.to_string()), "{refusal:?}");
        for (name, value) in &refusal.headers {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            assert!(!contains_canary(&value), "{name}: {value} of {refusal:?}");
        }
    }
}

pub(super) fn contains_canary(text: &str) -> bool {
    text.to_ascii_uppercase().contains(CANARY)
}

/// Looks for them in logs and in the ledger outside of `data`.
async fn silent(system: &System, verbose: bool) {
    let secrets = secrets(&system.data());
    assert!(secrets.len() > 10, "{:?}", secrets.keys());
    for (program, log) in system.logs() {
        let lines: Vec<&str> = log.lines().collect();
        assert!(!verbose || lines.iter().any(|line| line.contains("\"DEBUG\"")), "{program}");
        for line in lines {
            assert!(!contains_canary(line), "{program} logged {line}");
            for (name, secret) in &secrets {
                assert!(!line.contains(secret.as_str()), "{program} logged {name}: {line}");
            }
        }
    }
    metrics(system, &secrets).await;
    files(&system.data(), &secrets);
    let ledger = Ledger::read(&system.compliance()).await;
    for line in &ledger.lines {
        let mut record: Value = serde_json::from_str(line).unwrap();
        let data = record.as_object_mut().unwrap().remove("data");
        let text = record.to_string();
        assert!(!contains_canary(&text), "{text}");
        // What is in it is sealed: readable in no simple encoding.
        assert!(!data.is_some_and(|data| contains_canary(&data.to_string())), "{line}");
        for (name, secret) in &secrets {
            assert!(!line.contains(secret.as_str()), "{name} in {line}");
        }
    }
}

/// What every process says about itself, wherever it does.
async fn metrics(system: &System, secrets: &BTreeMap<String, String>) {
    let addresses = system.addresses();
    let mut urls: Vec<_> = system.logs().keys().map(|name| system.health_url(name)).collect();
    urls.extend([addresses.patient_service.clone(), addresses.audit_service.clone()]);
    for url in urls {
        for path in ["/metrics", "/readyz", "/healthz"] {
            let request = Api::new(&url).request(Method::GET, path);
            let key = &secrets["service-gateway.key"];
            let answer = send(request.header("x-functions-key", key)).await;
            let said = String::from_utf8_lossy(&answer.body);
            assert!(!contains_canary(&said), "{url}{path} says {said}");
            for (name, secret) in secrets {
                assert!(!said.contains(secret.as_str()), "{url}{path} says {name}");
            }
        }
    }
}

/// What lies on disk: a key only where keys are kept, and personal data in clear only in the read
/// models and in their indexes.
fn files(data: &Path, secrets: &BTreeMap<String, String>) {
    let mut looked_at = 0;
    for entry in fs::read_dir(data).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if !entry.file_type().unwrap().is_file() {
            continue;
        }
        let content = fs::read(entry.path()).unwrap();
        let text = String::from_utf8_lossy(&content);
        assert!(name.starts_with("patients.db") || !contains_canary(&text), "{name} has canaries");
        for (secret_name, secret) in secrets {
            assert!(!text.contains(secret.as_str()), "{name} has {secret_name}");
        }
        looked_at += 1;
    }
    assert!(looked_at > 0 && data.join("subscriptions.toml").is_file());
}

/// Every key and secret that the system has, by its file.
pub(super) fn secrets(data: &Path) -> BTreeMap<String, String> {
    let mut secrets = BTreeMap::new();
    for folder in ["keys", "secrets"] {
        for entry in fs::read_dir(data.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "key") {
                let text = fs::read_to_string(&path).unwrap().trim().to_owned();
                // Of the signing key (PRIVATE+KEY+name+id+base64) the part that is secret.
                let secret = text.splitn(5, '+').last().unwrap_or(&text).to_owned();
                assert!(secret.len() >= 32, "{}", path.display());
                secrets.insert(path.file_name().unwrap().display().to_string(), secret);
            }
        }
    }
    secrets
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_answers_without_its_key() {
    let _place = a_place().await;
    let system = System::standalone(Store::Sqlite).await;
    let clinic = system.key("clinic");
    let patients = Api::new(&system.addresses().patient_service);
    let audit = Api::new(&system.addresses().audit_service);
    let fill = |path: &str| path.replace("{id}", &unknown_id()).replace("{testId}", &unknown_id());
    for route in ROUTES {
        let path = fill(route.path).replace("{seq}", "0").replace("{*path}", "0/000.p/1");
        let path = path.replace("{file}", "swagger-ui.css");
        let request = || system.api().request(route.method.clone(), &path);
        if route.access == Access::Open {
            let _ = send(request()).await.expect(200);
            continue;
        }
        send(request()).await.problem(401);
        send(request().header("ocp-apim-subscription-key", "wrong")).await.problem(401);
        // A subscription that lacks the scope; which key is right is another test's matter.
        if let Access::Scope(scope) = route.access {
            let other = if scope == Scope::PatientErase { "clinic" } else { "privacy" };
            send(request().header("ocp-apim-subscription-key", system.key(other)))
                .await
                .problem(403);
        }
        match route.target {
            Target::Patients => closed(&patients, route.method.clone(), &path, &clinic).await,
            Target::Audit(path) => {
                let path = path.replace("{seq}", "0").replace("{*path}", "0/000.p/1");
                closed(&audit, route.method.clone(), &path, &clinic).await;
            }
            _ => {}
        }
    }
    let stream = format!("/streams/patient/{}/records", unknown_id());
    let command = format!("/commands/{}", "0".repeat(64));
    for (method, path) in [
        (Method::POST, "/records"),
        (Method::POST, "/records/batch"),
        (Method::GET, "/records/0"),
        (Method::GET, stream.as_str()),
        (Method::GET, command.as_str()),
        (Method::POST, "/api/auditrecord"),
        (Method::GET, "/nothing"),
    ] {
        closed(&audit, method, path, &clinic).await;
    }
    closed(&patients, Method::GET, "/nothing", &clinic).await;
    system.finish().await;
}

/// An internal listener's route without a service key, with a wrong one, and with a client's.
async fn closed(service: &Api, method: Method, path: &str, client_key: &str) {
    let request = || service.request(method.clone(), path);
    send(request()).await.problem(401);
    send(request().header("ocp-apim-subscription-key", client_key)).await.problem(401);
    for wrong in ["", "wrong", client_key] {
        send(request().header("x-functions-key", wrong)).await.problem(401);
    }
}
