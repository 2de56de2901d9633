//! What can be said of the compose file without Docker. That its settings run the services, `stack`
//! shows.

use std::{collections::BTreeSet, path::Path, process::Command};

use serde_json::Value;
use tests::programs;

use super::files::{self, list};

/// A program of ours and its subcommand, and the variables that the compose file sets for it.
fn told(service: &Value) -> Option<(Vec<String>, &serde_json::Map<String, Value>)> {
    let environment = service["environment"].as_object()?;
    let command = files::command(service)?;
    // What the script runs.
    let script = ["gateway", "subscriptions", "add"].map(str::to_owned);
    Some((if command[0] == "make-clients" { script.into() } else { command }, environment))
}

/// What a command and those above it, whose options hold for it as well, say of themselves.
fn help(command: &[String]) -> String {
    let program = programs::built(&command[0]).unwrap();
    let help = |words: usize| {
        Command::new(&program).args(&command[1..words]).arg("--help").output().unwrap().stdout
    };
    String::from_utf8((1..=command.len()).flat_map(help).collect()).unwrap()
}

#[test]
fn each_variable_is_one_that_the_program_knows() {
    let compose = files::compose();
    let mut looked_at = 0;
    for (name, service) in compose["services"].as_object().unwrap() {
        let Some((command, environment)) = told(service) else { continue };
        let help = help(&command);
        let known: BTreeSet<&str> = help
            .split("[env: ")
            .skip(1)
            .filter_map(|rest| rest.split(['=', ']']).next())
            .chain(["RUST_LOG"])
            .collect();
        for variable in environment.keys() {
            assert!(known.contains(variable.as_str()), "{name}: {variable} is not known");
        }
        looked_at += 1;
    }
    assert_eq!(looked_at, 5, "services of ours");
}

#[test]
fn what_is_mounted_or_copied_exists() {
    let compose = files::compose();
    let dockerfile = files::text("../../Dockerfile");
    let mut built = 0;
    let volumes = compose["volumes"].as_object().unwrap();
    for (name, service) in compose["services"].as_object().unwrap() {
        for volume in list(&service["volumes"]) {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            let is_there = match source.strip_prefix("./") {
                Some(file) => files::root().join(file).exists(),
                None => volumes.contains_key(source),
            };
            assert!(is_there, "{name}: {source}");
        }
        if let Some(target) = service["build"]["target"].as_str() {
            assert!(dockerfile.contains(&format!(" AS {target}\n")), "{name}: {target}");
            assert_eq!(service["image"], format!("vitalog-{target}"), "{name}");
            assert_eq!(service["read_only"], true, "{name}");
            assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{name}");
            built += 1;
        }
    }
    assert_eq!(built, 6, "services and jobs of ours");
    for line in dockerfile.lines().filter(|line| line.starts_with("COPY ")) {
        let words: Vec<&str> = line.split(' ').skip(1).collect();
        let sources = &words[..words.len() - 1];
        let from_here = sources.iter().filter(|_| !line.contains("--from="));
        for source in from_here {
            assert!(files::root().join(source).exists(), "{line}");
        }
    }
}

#[test]
fn addresses_are_those_that_somebody_listens_on() {
    let compose = files::compose();
    let services = compose["services"].as_object().unwrap();
    let mut open: BTreeSet<String> =
        ["mongo:27017", "jaeger:16686", "jaeger:4317", "prometheus:9090"].map(str::to_owned).into();
    let collector = files::yaml("otel-collector.yaml");
    let receiver = &collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"];
    let port = |address: &Value| address.as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    open.insert(format!("otel-collector:{}", port(receiver)));
    let shown = &collector["service"]["telemetry"]["metrics"]["readers"][0]["pull"];
    open.insert(format!("otel-collector:{}", shown["exporter"]["prometheus"]["port"]));
    let (mut named, mut published) = (BTreeSet::new(), Vec::new());
    for (name, service) in services {
        for (variable, value) in service["environment"].as_object().into_iter().flatten() {
            let value = value.as_str().unwrap();
            if variable.ends_with("_LISTEN") {
                open.insert(value.replace("0.0.0.0", name));
            } else if let Some((_, rest)) = value.split_once("://") {
                named.insert(rest.split('/').next().unwrap().to_owned());
            }
        }
        for port in list(&service["ports"]) {
            published
                .push(format!("{name}:{}", port.as_str().unwrap().rsplit(':').next().unwrap()));
        }
        let depended = &service["depends_on"];
        let depended = list(depended)
            .iter()
            .filter_map(Value::as_str)
            .chain(depended.as_object().into_iter().flat_map(|map| map.keys().map(String::as_str)));
        for other in depended {
            assert!(services.contains_key(other), "{name} depends on {other}");
        }
    }
    for job in list(&files::yaml("prometheus/prometheus.yaml")["scrape_configs"]) {
        let target = job["static_configs"][0]["targets"][0].as_str().unwrap();
        let job = job["job_name"].as_str().unwrap();
        named.insert(target.replace("localhost", job));
        assert!(target.starts_with(&format!("{job}:")) || job == "prometheus", "{target}");
    }
    for source in list(&files::yaml("grafana/datasources.yaml")["datasources"]) {
        named.insert(source["url"].as_str().unwrap().trim_start_matches("http://").to_owned());
    }
    let exporter = &collector["exporters"]["otlp/jaeger"]["endpoint"];
    named.insert(exporter.as_str().unwrap().to_owned());
    named.extend(published.into_iter().filter(|it| !it.starts_with("grafana:")));
    assert!(named.len() >= 10, "{named:?}");
    for address in &named {
        assert!(open.contains(address), "nobody listens on {address}: {open:?}");
    }
}

/// Grafana shows the dashboard at once if it finds it where it is told to look.
#[test]
fn grafana_is_told_where_dashboard_and_data_are() {
    let compose = files::compose();
    let grafana = &compose["services"]["grafana"];
    let home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].as_str();
    let home = home.unwrap();
    let volumes = list(&grafana["volumes"]);
    let mounted = |at: &str| {
        let mounts = |volume: &&Value| volume.as_str().unwrap().split(':').nth(1) == Some(at);
        volumes.iter().find(mounts).unwrap().as_str().unwrap().split(':').next().unwrap()
    };
    assert_eq!(mounted(home), "./runtime/ops/grafana/vitalog.json");
    let provider = &files::yaml("grafana/dashboards.yaml")["providers"][0];
    let looked_at = provider["options"]["path"].as_str().unwrap();
    assert_eq!(Path::new(home).parent(), Some(Path::new(looked_at)));
    for (kind, file) in [("dashboards", "dashboards.yaml"), ("datasources", "datasources.yaml")] {
        let at = format!("/etc/grafana/provisioning/{kind}/vitalog.yaml");
        assert_eq!(mounted(&at), format!("./runtime/ops/grafana/{file}"));
    }
}
