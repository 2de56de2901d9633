//! What stands in `runtime/ops`, and the compose file.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// The window of rates of the dashboard, which Grafana derives from the scrape interval.
const RATE_INTERVAL: &str = "10s";

/// A query and where it stands.
pub(super) struct Query {
    pub(super) place: String,
    pub(super) text: String,
}

pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

pub(super) fn folder() -> PathBuf {
    root().join("runtime/ops")
}

pub(super) fn text(file: &str) -> String {
    fs::read_to_string(folder().join(file)).unwrap()
}

/// A file of YAML, with its anchors and merges resolved.
pub(super) fn yaml(file: &str) -> Value {
    const TO_JSON: &str =
        "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let python = runtime::settings::env("VITALOG_PYTHON").unwrap_or("python3".to_owned());
    let output = Command::new(python)
        .args(["-c", TO_JSON])
        .arg(folder().join(file))
        .output()
        .expect("Python with PyYAML: tests/run installs it, VITALOG_PYTHON names another");
    assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The compose file.
pub(super) fn compose() -> Value {
    yaml("../../compose.yaml")
}

/// The program of a service of ours and its arguments. An image of one service has its program alone.
pub(super) fn command(service: &Value) -> Option<Vec<String>> {
    let image = service["image"].as_str()?.strip_prefix("vitalog-")?;
    let words = list(&service["command"]).iter().map(|word| word.as_str().unwrap());
    let program = (image != "operator").then_some(image);
    Some(program.into_iter().chain(words).map(ToOwned::to_owned).collect())
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn dashboard() -> Value {
    serde_json::from_str(&text("grafana/vitalog.json")).unwrap()
}

/// Every query of the dashboard, as Grafana would send it.
pub(super) fn dashboard_queries() -> Vec<Query> {
    let dashboard = dashboard();
    let mut queries = Vec::new();
    for panel in list(&dashboard["panels"]) {
        for target in list(&panel["targets"]) {
            let text = target["expr"].as_str().unwrap();
            let text = text.replace("$__rate_interval", RATE_INTERVAL);
            assert!(!text.contains('$'), "an unknown variable: {text}");
            queries.push(Query { place: format!("panel {}", panel["title"]), text });
        }
    }
    queries
}

/// All rules, of both kinds.
pub(super) fn rules() -> Vec<Value> {
    let mut rules = Vec::new();
    for file in ["prometheus/rules.yaml", "prometheus/alerts.yaml"] {
        for group in list(&yaml(file)["groups"]) {
            rules.extend_from_slice(list(&group["rules"]));
        }
    }
    rules
}

/// Every query of a rule.
pub(super) fn rule_queries() -> Vec<Query> {
    let query = |rule: &Value| {
        let name = rule["alert"].as_str().or(rule["record"].as_str()).unwrap();
        Query { place: format!("rule {name}"), text: rule["expr"].as_str().unwrap().to_owned() }
    };
    rules().iter().map(query).collect()
}
