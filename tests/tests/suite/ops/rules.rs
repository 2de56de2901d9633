//! Rules and configuration, by `promtool`.

use std::{collections::BTreeSet, path::PathBuf, process::Command};

use super::{
    files::{self, list},
    promql,
};

fn promtool(arguments: &[&str]) {
    let program = runtime::settings::env("VITALOG_PROMTOOL").unwrap_or("promtool".to_owned());
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder())
        .output()
        .expect("promtool: tests/run fetches it, VITALOG_PROMTOOL names another");
    let (said, erred) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {arguments:?}: {said}{erred}");
}

fn folder() -> PathBuf {
    files::folder().join("prometheus")
}

#[test]
fn prometheus_takes_configuration_and_rules() {
    promtool(&["check", "config", "prometheus.yaml"]);
    // Names twice in a group and the like.
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", "rules.yaml", "alerts.yaml"]);
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    promtool(&["test", "rules", "alerts_test.yaml"]);
}

#[test]
fn no_alert_is_untested() {
    let mut fired = BTreeSet::new();
    for test in list(&files::yaml("prometheus/alerts_test.yaml")["tests"]) {
        for expected in list(&test["promql_expr_test"]) {
            for sample in list(&expected["exp_samples"]) {
                let labels = sample["labels"].as_str().unwrap();
                fired.insert(labels.split('"').nth(1).unwrap().to_owned());
            }
        }
    }
    assert_eq!(fired, alerts().into_iter().map(|(name, _)| name).collect());
}

#[test]
fn alerts_say_what_is_wrong_how_urgent_it_is_and_where_help_stands() {
    let alerts = alerts();
    assert!(alerts.len() >= 20, "{} alerts", alerts.len());
    for (name, alert) in alerts {
        let annotations = &alert["annotations"];
        for text in ["summary", "description"] {
            assert!(annotations[text].as_str().is_some_and(|it| it.len() > 20), "{name}: {text}");
        }
        let runbook = format!("docs/operations.md#alert-{}", name.to_lowercase());
        assert_eq!(annotations["runbook"], runbook, "{name}");
        let severity = alert["labels"]["severity"].as_str().unwrap();
        assert!(["page", "ticket"].contains(&severity), "{name}: {severity}");
    }
}

/// A recorded series that does not exist is an empty answer, not an error.
#[test]
fn recorded_series_that_queries_name_are_recorded() {
    let recorded: BTreeSet<String> =
        files::rules().iter().filter_map(|it| Some(it["record"].as_str()?.to_owned())).collect();
    for query in files::dashboard_queries().iter().chain(&files::rule_queries()) {
        for name in promql::metrics(&query.text) {
            let is_there = !name.contains(':') || recorded.contains(name);
            assert!(is_there, "{}: {name} is not recorded", query.place);
        }
    }
}

fn alerts() -> Vec<(String, serde_json::Value)> {
    let named = |rule: serde_json::Value| Some((rule["alert"].as_str()?.to_owned(), rule));
    files::rules().into_iter().filter_map(named).collect()
}
