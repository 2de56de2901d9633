//! Variables and secrets from both sides.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use tests::programs;

use super::settings::{NO_OIDC, OIDC, Settings, evaluated};

/// Variables that no option of a program stands for, and the file that reads them.
const READ_BESIDE_OPTIONS: [(&str, &str); 2] = [
    ("RUST_LOG", "runtime/src/telemetry/logs.rs"),
    ("AZURE_CLIENT_ID", "runtime/src/secrets/vault/store.rs"),
];

/// What the jobs are started with besides their own command (terraform/README.md).
const ALSO_RUN: [(&str, &str, &str); 5] = [
    ("read-models", "projections", "rebuild"),
    ("read-models", "projections", "digest"),
    ("subscriptions", "gateway", "subscriptions add"),
    ("subscriptions", "azure-subscription", "add"),
    ("subscriptions", "audit-service", "rotate-key"),
];

/// Columns in which no help is broken into lines.
const WIDE: &str = "100000";

fn source(path: &str) -> String {
    fs::read_to_string(super::root().join(path)).unwrap()
}

/// The variables that a program knows under these arguments, and those that it cannot do without.
fn known(program: &str, arguments: &[String]) -> BTreeSet<String> {
    let built = programs::built(program).unwrap();
    let help = Command::new(built)
        .args(arguments)
        .arg("--help")
        .env_clear()
        .env("COLUMNS", WIDE)
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    help.split("[env: ")
        .skip(1)
        .filter_map(|rest| rest.split(['=', ']']).next())
        .map(|name| name.split_whitespace().collect())
        .collect()
}

/// Fails where a variable is set that nobody reads.
fn check(who: &str, env: &BTreeMap<String, String>, known: &BTreeSet<String>) {
    let read_beside: BTreeSet<&str> = READ_BESIDE_OPTIONS.map(|(name, _)| name).into();
    for name in env.keys() {
        let is_referred_to = env.values().any(|value| *value == format!("env:{name}"));
        let is_read = known.contains(name) || read_beside.contains(name.as_str());
        assert!(is_read || is_referred_to, "{who} is told {name}, which it does not read");
    }
}

#[test]
fn every_variable_that_terraform_sets_is_read_by_the_program_that_it_is_set_for() {
    for (name, file) in READ_BESIDE_OPTIONS {
        assert!(source(file).contains(&format!("\"{name}\"")), "{file} does not read {name}");
    }
    for (kind, oidc) in [("vcore", NO_OIDC), ("ru", OIDC)] {
        let Settings { services, jobs, .. } = evaluated(kind, oidc);
        assert_eq!(services.len(), 4);
        for (name, service) in &services {
            check(name, &service.env, &known(name, &service.args));
        }
        assert!(jobs.len() >= 4);
        for (name, job) in &jobs {
            let mut known = known(&job.command[0], &job.command[1..]);
            for (_, program, arguments) in ALSO_RUN.iter().filter(|it| it.0 == name) {
                let words: Vec<String> = arguments.split(' ').map(ToOwned::to_owned).collect();
                known.extend(self::known(program, &words));
            }
            check(name, &job.env, &known);
        }
    }
}

/// Without any variable a program names those that it cannot do without; with those that Terraform
/// sets it names none (the whole system starts in another test).
#[test]
fn every_variable_that_a_program_cannot_do_without_is_set() {
    let Settings { services, jobs, .. } = evaluated("vcore", NO_OIDC);
    let services = services.iter().map(|(name, it)| (name.clone(), it.args.clone(), &it.env));
    let jobs =
        jobs.values().map(|job| (job.command[0].clone(), job.command[1..].to_vec(), &job.env));
    let mut with_demands = 0;
    for (program, args, env) in services.chain(jobs) {
        let built = programs::built(&program).unwrap();
        let output = Command::new(built).args(&args).env_clear().output().unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        let options: BTreeSet<&str> = complaint
            .lines()
            .filter_map(|line| line.strip_prefix("  --")?.split([' ', '=']).next())
            .collect();
        let help = Command::new(programs::built(&program).unwrap());
        let variables = variables(help, &args);
        for option in &options {
            let variable = variables.get(*option);
            let variable = variable.unwrap_or_else(|| panic!("{program} {args:?}: --{option}"));
            assert!(env.contains_key(variable), "{program} needs {variable} (--{option})");
        }
        with_demands += usize::from(!options.is_empty());
    }
    assert!(with_demands >= 6, "only {with_demands} programs need anything");
}

/// The variable of each option.
fn variables(mut program: Command, arguments: &[String]) -> BTreeMap<String, String> {
    let help =
        program.args(arguments).arg("--help").env_clear().env("COLUMNS", WIDE).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let mut variables = BTreeMap::new();
    let mut option = "";
    for line in help.lines() {
        if let Some(rest) = line.trim_start().strip_prefix("--") {
            option = rest.split([' ', '=']).next().unwrap();
        }
        if let Some((_, rest)) = line.split_once("[env: ") {
            let name = rest.split(['=', ']']).next().unwrap();
            variables.insert(option.to_owned(), name.to_owned());
        }
    }
    variables
}

#[test]
fn the_job_makes_every_secret_that_a_service_reads_and_no_others() {
    let Settings { all_secrets, .. } = evaluated("vcore", NO_OIDC);
    let names =
        Command::new(programs::built("azure-secrets").unwrap()).arg("names").output().unwrap();
    let names = String::from_utf8(names.stdout).unwrap();
    let made: BTreeSet<&str> = names.lines().collect();
    assert_eq!(made, all_secrets.iter().map(String::as_str).collect());
}

/// An alert on words that no service says would never fire.
#[test]
fn the_words_that_alerts_look_for_are_said() {
    let alerts = source("terraform/modules/alerts/main.tf");
    let words: Vec<&str> =
        alerts.split("{ text = \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(words.len(), 3, "{words:?}");
    let files =
        ["audit-service/src/anchor/keeper.rs", "gateway/src/config/subscriptions/command.rs"];
    let said = files.map(source).concat();
    for word in words {
        assert!(said.contains(word), "nobody says {word}");
    }
}
