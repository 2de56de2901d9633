//! The script that starts a job, and what `terraform/README.md` says to start with it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    thread,
    time::Instant,
};

use serde_json::{Value, json};
use tests::{
    programs::{self, POLL_PAUSE},
    system::PATIENCE,
};

use super::settings::{NO_OIDC, Settings, evaluated};

/// As Azure shows a job, with fields that a start does not take.
const JOB: &str = r#"{"id": "/subscriptions/0/j", "properties": {"template": {
    "initContainers": null, "volumes": null, "containers": [{
    "name": "secrets", "image": "r.azurecr.io/vitalog/operator@sha256:1", "imageType": "ContainerImage",
    "command": ["azure-secrets", "ensure"], "env": [{"name": "VITALOG_VAULT", "value": "https://v.vault.azure.net"}],
    "probes": [], "resources": {"cpu": 0.5, "memory": "1Gi", "ephemeralStorage": "2Gi"}}]}}}"#;

/// A program that stands for the Azure CLI: it writes what it was asked, keeps the body that it is to
/// send, and says at each look the next of `states`. (The script was run once with the real one.)
const AZ: &str = r#"#!/bin/bash
printf '%s\n' "$*" >>"$FOLDER/asked"
case "$*" in
'group show --name vitalog-dev-a '*) echo /subscriptions/0/resourceGroups/vitalog-dev-a ;;
*'/jobs/secrets?'*) cat "$FOLDER/job" ;;
*'--method post '*'/jobs/secrets/start?'*)
    while [ "$1" != --body ]; do shift; done
    printf '%s' "$2" >"$FOLDER/body"
    echo secrets-abc ;;
*'/jobs/secrets/executions/secrets-abc?'*) head -n 1 "$FOLDER/states"; sed -i 1d "$FOLDER/states" ;;
*) echo "ERROR: (ResourceNotFound)" >&2; exit 3 ;;
esac
"#;

/// Runs the script where a job goes through these states.
fn job(folder: &Path, states: &[&str], arguments: &[&str]) -> Output {
    let az = folder.join("az");
    fs::write(&az, AZ).unwrap();
    fs::set_permissions(&az, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(folder.join("job"), JOB).unwrap();
    fs::write(folder.join("states"), states.join("\n")).unwrap();
    let path = runtime::settings::env("PATH").unwrap();
    Command::new(super::root().join("terraform/job"))
        .args(arguments)
        .env("PATH", format!("{}:{path}", folder.display()))
        .env("FOLDER", folder)
        .env("VITALOG_JOB_POLL", "0")
        .output()
        .unwrap()
}

fn body(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("body")).unwrap()).unwrap()
}

#[test]
fn a_job_is_started_with_its_environment_and_other_words() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let states = ["Running", "Processing", "Succeeded"];
    let words = ["rotate", "gateway-to-audit", "--pause", "300", "--", "two words", "*"];
    let output = job(
        folder,
        &states,
        &[&["vitalog-dev-a", "secrets", "azure-secrets"], &words[..]].concat(),
    );
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "started secrets-abc\nsecrets-abc succeeded\n");
    assert!(output.status.success());
    let expected = |command: Value| {
        json!({"containers": [{
            "name": "secrets",
            "image": "r.azurecr.io/vitalog/operator@sha256:1",
            "command": command,
            "env": [{"name": "VITALOG_VAULT", "value": "https://v.vault.azure.net"}],
            "resources": {"cpu": 0.5, "memory": "1Gi"},
        }]})
    };
    let mut with_words = expected(json!(["azure-secrets"]));
    with_words["containers"][0]["args"] = json!(words);
    assert_eq!(body(folder), with_words);

    assert!(job(folder, &["Succeeded"], &["vitalog-dev-a", "secrets"]).status.success());
    assert_eq!(body(folder), expected(json!(["azure-secrets", "ensure"])));
}

#[test]
fn a_job_that_fails_or_is_not_there_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    for state in ["Failed", "Degraded", "Stopped", ""] {
        let output = job(folder.path(), &["Running", state], &["vitalog-dev-a", "secrets"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains("ContainerAppConsoleLogs"), "{said}");
    }
    for arguments in [&["vitalog-dev-a", "nothing"][..], &["elsewhere", "secrets"], &["secrets"]] {
        assert!(!job(folder.path(), &["Succeeded"], arguments).status.success());
    }
}

/// What the README says to start: the job, and the program with its arguments.
fn told() -> Vec<(String, Vec<String>)> {
    let text = fs::read_to_string(super::root().join("terraform/README.md")).unwrap();
    let lines =
        text.lines().filter_map(|line| line.trim().strip_prefix("../../job vitalog-dev-a "));
    let spans = text.split('`').skip(1).step_by(2).filter_map(|span| {
        span.strip_prefix("job ").or_else(|| span.strip_prefix("terraform/job GROUP "))
    });
    let mut told = Vec::new();
    for command in lines.chain(spans).filter(|it| !it.contains("JOB")) {
        let command = command.split(" # ").next().unwrap();
        let command = command.replace("VAULT", "https://vitalog-test.vault.azure.net");
        let mut words = command.split_whitespace().map(str::to_owned);
        told.push((words.next().unwrap(), words.collect()));
    }
    told
}

#[test]
fn each_job_that_the_readme_starts_understands_what_it_is_told() {
    let Settings { jobs, .. } = evaluated("vcore", NO_OIDC);
    let told = told();
    assert!(told.len() >= 12, "{told:?}");
    let folder = tempfile::tempdir().unwrap();
    for (place, (name, mut words)) in told.into_iter().enumerate() {
        let job = jobs.get(&name).unwrap_or_else(|| panic!("there is no job {name}"));
        if words.is_empty() {
            words.clone_from(&job.command);
        }
        let said = folder.path().join(place.to_string());
        let mut running = Command::new(programs::built(&words[0]).unwrap())
            .args(&words[1..])
            .env_clear()
            .envs(&job.env)
            .env("VITALOG_VAULT", "nowhere")
            .env("IDENTITY_ENDPOINT", "http://127.0.0.1:9/msi/token")
            .env("IDENTITY_HEADER", "nobody")
            .stderr(fs::File::create(&said).unwrap())
            .spawn()
            .unwrap();
        // There is no vault: it has understood what it is told when it misses that.
        let deadline = Instant::now() + PATIENCE;
        let (complaint, misses_it) = loop {
            let complaint = fs::read_to_string(&said).unwrap();
            let misses_it =
                complaint.contains("VITALOG_VAULT: ") || complaint.contains("the vault");
            if misses_it || running.try_wait().unwrap().is_some() || Instant::now() > deadline {
                break (complaint, misses_it);
            }
            thread::sleep(POLL_PAUSE);
        };
        let _ = running.kill();
        running.wait().unwrap();
        assert!(misses_it && !complaint.contains("Usage:"), "{words:?}: {complaint}");
    }
}
