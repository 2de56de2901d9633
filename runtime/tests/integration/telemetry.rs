//! What a process writes to standard error.

use std::process::Command;

use runtime::settings::env;
use serde_json::Value;

const CANARY: &str = "canary-patient-7d1e";
const CHILD: &str = "VITALOG_TEST_TELEMETRY_CHILD";

/// Does nothing in an ordinary run; the next test runs it in a process of its own, because the
/// subscriber and the panic hook belong to the whole process.
#[test]
fn child() {
    if env(CHILD).is_none() {
        return;
    }
    runtime::telemetry::init("patient-service");
    runtime::telemetry::init("twice");
    let request = tracing::info_span!("request", trace = "0af7", route = "/patient/{id}").entered();
    let inner = tracing::info_span!("append", attempt = 2).entered();
    tracing::info!(records = 3, "appended \"quoted\"\nlines");
    drop((inner, request));
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
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines.iter().all(|line| line["service"] == "patient-service"));
    let appended = &lines[0];
    assert_eq!(appended["level"], "INFO");
    assert_eq!(appended["message"], "appended \"quoted\"\nlines");
    assert_eq!(appended["trace"], "0af7");
    assert_eq!(appended["route"], "/patient/{id}");
    assert_eq!(appended["attempt"], 2);
    assert_eq!(appended["records"], 3);
    assert_eq!(lines[1]["message"], "own debug line");
    assert_eq!(lines[2]["level"], "ERROR");
    assert!(lines[2]["file"].as_str().unwrap().ends_with("telemetry.rs"));
}
