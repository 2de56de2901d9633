//! Personal data never reaches a log line, an error or a record in the clear.

use std::{
    io::{self, Write},
    sync::{Mutex, Once},
};

use http::{Method, StatusCode};
use projections::store::memory::Fault;
use serde_json::json;
use tracing::Level;

use crate::{
    harness::{System, text},
    samples,
};

/// A name that stands nowhere else.
const CANARY: &str = "CANARY7F3A";

/// Every log line of this test binary, whatever its level.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Collects the logs from now on; called by every test.
pub(crate) fn capture_logs() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_ansi(false)
            .with_writer(|| Log)
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
}

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_request_log_names_subscriptions_and_never_users() {
    const SUBSCRIPTION: &str = "subscription-6b1f";
    const USER: &str = "user-6b1f";
    let system = System::start().await;
    let path = system.any_patient().await;
    for (id, kind) in [(SUBSCRIPTION, "subscription"), (USER, "user")] {
        let actor = json!({"id": id, "kind": kind});
        let request = system.request(Method::GET, &path).actor(&actor);
        request.send().await.expect(StatusCode::OK);
    }
    let log = String::from_utf8(LOG.lock().unwrap().clone()).unwrap();
    let named = |id| log.lines().any(|line| line.contains("request answered") && line.contains(id));
    assert!(named(SUBSCRIPTION), "{log}");
    assert!(!named(USER), "{log}");
}

#[tokio::test]
async fn a_name_shows_in_no_log_line_error_or_record() {
    let mut system = System::start().await;
    let mut body = samples::patient();
    body["lastName"] = CANARY.into();
    system.store.fail_applies(Fault::Before, 1);
    let created = system.registered(&body).await;
    let path = format!("/patient/{}", text(&created, "id"));
    system.put(&path, &created).await.expect(StatusCode::OK);

    let mut errors = Vec::new();
    let mut wrong = body.clone();
    wrong["gender"] = CANARY.into();
    wrong["postCode"] = CANARY.into();
    wrong[CANARY] = CANARY.into();
    let body_text = format!("{{\"firstName\":\"{CANARY}\",,");
    errors.push(system.post("/patient", &wrong).await.expect(StatusCode::BAD_REQUEST));
    let malformed = system.request(Method::POST, "/patient").bytes(body_text);
    errors.push(malformed.send().await.expect(StatusCode::BAD_REQUEST));
    errors.push(system.get(&format!("/patient/{CANARY}")).await.expect(StatusCode::NOT_FOUND));
    errors.push(system.get(&format!("/{CANARY}")).await.expect(StatusCode::NOT_FOUND));
    let query = format!("/patient/search?cursor={CANARY}");
    errors.push(system.post(&query, &json!({})).await.expect(StatusCode::BAD_REQUEST));
    system.get(&format!("{path}/history")).await.expect(StatusCode::OK);
    system.get(&format!("{path}?asOf=0")).await.expect(StatusCode::OK);
    for query in [format!("?asOf={CANARY}"), format!("/history?cursor={CANARY}")] {
        let answer = system.get(&format!("{path}{query}")).await;
        errors.push(answer.expect(StatusCode::BAD_REQUEST));
    }
    let criteria = json!({"firstName": CANARY});
    errors.push(system.post("/patient/search", &criteria).await.expect(StatusCode::NOT_FOUND));
    let purpose = system.request(Method::GET, &path).header("purpose-of-use", CANARY);
    errors.push(purpose.send().await.expect(StatusCode::BAD_REQUEST));
    system.stop_audit().await;
    errors.push(system.get(&path).await.expect(StatusCode::SERVICE_UNAVAILABLE));
    errors.push(system.put(&path, &created).await.expect(StatusCode::SERVICE_UNAVAILABLE));

    for answer in errors {
        assert!(!answer.text.contains(CANARY), "{}", answer.text);
    }
    for block in system.ledger.blocks() {
        assert!(block.lines.iter().all(|line| !line.contains(CANARY)));
    }
    let log = String::from_utf8(LOG.lock().unwrap().clone()).unwrap();
    assert!(log.contains("patient_service"), "the log was captured");
    let own = ["patient_service", "audit_client", "audit_service", "projections", "runtime"];
    for line in log.lines().filter(|line| own.iter().any(|target| line.contains(target))) {
        assert!(!line.contains(CANARY), "{line}");
    }
}
