//! The whole `OpenAPI` document through the gateway of a running system, by schemathesis: thousands
//! of requests that fit the document and that break it, alone and one after the other.

use std::{fmt::Write, fs, path::PathBuf, process::Stdio, time::Duration};

use serde_json::Value;
use tests::{
    samples::{a_place, id_of, plain_patient, test},
    system::{Store, System},
};
use tokio::process::Command;

/// Several times what it takes: its requests are bounded in number, not in time.
const PATIENCE: Duration = Duration::from_mins(7);

/// Fewer requests than this would mean that something was left out.
const FEWEST_CASES: u64 = 2_000;

/// Operations that may answer 400 to a request that fits the schema, because the document cannot
/// say all of their rules: `from` is not over `to`, `size` is over `seq`, `asOf` has come, the
/// ids of the body are those of the path. And `If-Match`: schemathesis takes the quotes off the
/// tags that it makes for its phase "coverage".
const MORE_RULES: [&str; 9] = [
    "readConsistency",
    "readProof",
    "loadPatient",
    "listTests",
    "loadTest",
    "updatePatient",
    "updateTest",
    "removePatient",
    "removeTest",
];

/// Operations that answer for a patient who was removed: with her accounting and her history, and
/// with an earlier state where `asOf` asks for it. That she is gone otherwise is tested elsewhere.
const AFTER_REMOVAL: [&str; 5] =
    ["readPatientActivity", "patientHistory", "loadPatient", "listTests", "loadTest"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_does_what_its_document_says() {
    let _place = a_place().await;
    // That none and wrong keys are refused is tried with every operation, as fast as it goes.
    let told = ["--unauthenticated-rate=1000000", "--unauthenticated-burst=1000000"];
    let system = System::standalone_told(Store::Sqlite, &told).await;
    let document = system.api().get("/openapi.json").await.expect(200);
    let operations = operations(&document.json());
    let file = |name: &str| system.folder().join(name);
    fs::write(file("openapi.json"), &document.body).unwrap();
    fs::write(file("schemathesis.toml"), configuration(&system, &operations).await).unwrap();

    let (log, report) = (file("schemathesis.log"), file("report.json"));
    let output = fs::File::create(&log).unwrap();
    let mut command = Command::new(python());
    command
        .args(["-m", "schemathesis.cli", "--config-file"])
        .arg(file("schemathesis.toml"))
        .arg("run")
        .arg(file("openapi.json"))
        .args(["--url", &system.addresses().gateway])
        .args(["--report", "json", "--report-json-path"])
        .arg(&report)
        .current_dir(system.folder())
        .env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/tools"))
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .kill_on_drop(true);
    for key in ["clinic", "privacy", "compliance"] {
        command.env(variable(key), system.key(key));
    }
    let mut child =
        command.spawn().expect("Python with schemathesis: tests/run installs it, VITALOG_PYTHON");
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
    let said = fs::read_to_string(&log).unwrap();
    assert!(ended.is_ok_and(|ended| ended.unwrap().success()), "{said}");

    let report: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    check_report(&report, operations.len());
    let log = system.logs().remove("standalone").unwrap();
    assert!(!log.contains("\"ERROR\""), "{log}");
    system.finish().await;
}

/// Every operation by its id, and the first scope that lets a client in, `None` where none is
/// needed.
fn operations(document: &Value) -> Vec<(String, Option<String>)> {
    let items = document["paths"].as_object().unwrap().values();
    let operations = items.flat_map(|item| item.as_object().unwrap().values());
    let with_scope = operations.map(|operation| {
        let scope = operation["security"][0]["headerKey"][0].as_str();
        (operation["operationId"].as_str().unwrap().to_owned(), scope.map(str::to_owned))
    });
    with_scope.collect()
}

/// What tests/tools says, and what depends on this system and this document.
async fn configuration(system: &System, operations: &[(String, Option<String>)]) -> String {
    let clinic = system.clinic();
    let patient =
        async || id_of(&clinic.post("/patient", &plain_patient()).await.expect(201).json());
    let (lasting, doomed) = (patient().await, patient().await);
    let recorded = clinic.post(&format!("/patient/{lasting}/tests"), &test(1)).await.expect(201);
    let (recorded, moment) = (id_of(&recorded.json()), recorded.receipt().seq);

    let mut text = include_str!("../../tools/schemathesis.toml").to_owned();
    let _ = writeln!(text, "[dictionaries.patients]\nvalues = [\"{lasting}\"]");
    let _ = writeln!(text, "[dictionaries.doomed]\nvalues = [\"{doomed}\"]");
    let _ = writeln!(text, "[dictionaries.tests]\nvalues = [\"{recorded}\"]");
    let _ = writeln!(text, "[dictionaries.moments]\nvalues = [{moment}]");
    for (id, scope) in operations {
        let key = match scope.as_deref() {
            Some("patient:erase") => "privacy",
            Some("audit:read") => "compliance",
            _ => "clinic",
        };
        let key = variable(key);
        let _ = writeln!(text, "[[operations]]\ninclude-operation-id = \"{id}\"");
        let _ = writeln!(text, "headers = {{ \"Ocp-Apim-Subscription-Key\" = \"${{{key}}}\" }}");
        if MORE_RULES.contains(&id.as_str()) {
            let _ = writeln!(
                text,
                "checks.positive_data_acceptance.expected-statuses = \
                 [\"2xx\", \"3xx\", \"400\", \"403\", \"404\", \"410\", \"412\", \"422\"]"
            );
        }
        if ["removePatient", "removeTest", "erasePatient"].contains(&id.as_str()) {
            let bound = "{ dictionary = \"doomed\", probability = 0.5 }";
            let _ = writeln!(text, "parameters.\"path.id\" = {bound}");
        }
        // The ids of a body are those of the path, or nothing is replaced.
        if let Some(what) = id.strip_prefix("update") {
            let own = if what == "Test" { "tests" } else { "patients" };
            let bound = format!("{{ dictionary = \"{own}\", probability = 0.7 }}");
            let _ = writeln!(text, "parameters.\"body.id\" = {bound}");
        }
        if AFTER_REMOVAL.contains(&id.as_str()) {
            let _ = writeln!(text, "checks.use_after_free.enabled = false");
        }
    }
    text
}

/// Nothing was left out, nothing failed.
#[track_caller]
fn check_report(report: &Value, operations: usize) {
    let cases = &report["test_cases"];
    assert!(cases["generated"].as_u64().unwrap() >= FEWEST_CASES, "{cases}");
    for failed in ["with_failures", "unique_failures", "errored"] {
        assert_eq!(cases[failed], 0, "{cases}");
    }
    let tested = &report["operations"]["tested"];
    assert_eq!(*tested, operations, "{}", report["operations"]);
    for phase in ["examples", "coverage", "fuzzing", "stateful"] {
        assert_eq!(report["phases"][phase]["status"], "success", "{}", report["phases"]);
    }
}

/// The environment variable that a key is in, so that it stands in no file.
fn variable(key: &str) -> String {
    format!("{}_KEY", key.to_uppercase())
}

fn python() -> PathBuf {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/venv/bin/python");
    std::env::var_os("VITALOG_PYTHON").map_or_else(|| own.into(), PathBuf::from)
}
