//! What a process writes to standard error.

use std::process::Command;

use axum::body::Body;
use axum::response::IntoResponse;
use http::{Request, StatusCode};
use runtime::settings::env;
use runtime::trace_context::traced;
use serde_json::Value;
use tracing::Instrument;

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

const CANARY: &str = "canary-patient-7d1e";
const CHILD: &str = "VITALOG_TEST_TELEMETRY_CHILD";

/// Does nothing in an ordinary run; the next test runs it in a process of its own, because the
/// subscriber and the panic hook belong to the whole process.
#[test]
fn child() {
    if env(CHILD).is_none() {
        return;
    }
    runtime::telemetry::logs("patient-service");
    runtime::telemetry::logs("twice");
    let handler = async || {
        let inner = tracing::info_span!("append", document = CANARY);
        let appending = async { tracing::info!(records = 3, "appended \"quoted\"\nlines") };
        appending.instrument(inner).await;
        (StatusCode::SERVICE_UNAVAILABLE, [("x", "y")]).into_response()
    };
    let answered = async {
        let request = Request::get("/patient/1").header("traceparent", TRACEPARENT);
        let request = request.body(Body::empty()).unwrap();
        traced("patient-service", "/patient/{id}", request, |_| handler()).await
    };
    tokio::runtime::Runtime::new().unwrap().block_on(answered);
    tracing::debug!(target: "request", "own debug line");
    tracing::debug!(target: "mongodb::command", document = CANARY, "library debug line");
    let panicked = std::thread::spawn(|| panic!("{CANARY}")).join();
    assert!(panicked.is_err());
}

#[test]
fn lines_are_flat_json_with_the_trace_and_hold_neither_library_debug_nor_panic_texts() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "telemetry::child", "--nocapture"])
        .env(CHILD, "1")
        .env("RUST_LOG", "trace")
        .output()
        .unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!text.contains(CANARY), "{text}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines.iter().all(|line| line["service"] == "patient-service"));
    let appended = &lines[0];
    assert_eq!(appended["level"], "INFO");
    assert_eq!(appended["message"], "appended \"quoted\"\nlines");
    assert_eq!(appended["trace"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(appended["records"], 3);
    let request = &lines[1];
    assert_eq!(request["trace"], appended["trace"]);
    assert_eq!(request["level"], "WARN");
    assert_eq!(request["method"], "GET");
    assert_eq!(request["route"], "/patient/{id}");
    assert_eq!(request["status"], 503);
    assert!(request["duration_ms"].is_number(), "{request}");
    assert_eq!(lines[2]["message"], "own debug line");
    assert_eq!(lines[3]["level"], "ERROR");
    assert!(lines[3]["file"].as_str().unwrap().ends_with("telemetry.rs"));
}
