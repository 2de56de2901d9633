//! The dashboard's queries.

use std::fs;

use anyhow::Context;
use serde_json::Value;

use super::ops;

/// The window of rates that Grafana chooses where Prometheus looks every 15 seconds.
const RATE_INTERVAL: &str = "1m";

/// The queries of a panel, by its title.
pub fn queries(title: &str) -> anyhow::Result<Vec<String>> {
    let dashboard = fs::read_to_string(ops().join("grafana/vitalog.json"))?;
    let dashboard: Value = serde_json::from_str(&dashboard)?;
    let mut panels = dashboard["panels"].as_array().into_iter().flatten();
    let panel = panels.find(|panel| panel["title"] == title);
    let panel = panel.with_context(|| format!("no panel is called {title}"))?;
    let targets = panel["targets"].as_array().into_iter().flatten();
    let queries = targets.filter_map(|target| target["expr"].as_str());
    Ok(queries.map(|query| query.replace("$__rate_interval", RATE_INTERVAL)).collect())
}
