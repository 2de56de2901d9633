//! The whole system, told by Terraform: what it sets is what starts it. The vault is a local one
//! that holds for each service the secrets that its identity may read and no others; databases are
//! on a local MongoDB, the anchor is a folder, and addresses of Azure are replaced by local ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use audit_verify::checkpoint::LedgerSecret;
use runtime::secrets::random_key_hex;
use tests::{
    http::Api,
    mongod,
    programs::{self, POLL_PAUSE, Program},
    samples,
    system::{free_address, wait_for_ready},
};

use super::{
    super::{fake_vault::FakeVault, ledger_processes::ledger_secret},
    settings::{NO_OIDC, Service, Settings, evaluated},
};

const VAULT: &str = "keyvault:https://vitalog-test.vault.azure.net/secrets/";
const DOMAIN: &str = ".internal.calm.westeurope.azurecontainerapps.io";
const PATIENCE: Duration = Duration::from_mins(1);

/// A value for each secret, as the job would make them.
fn values(names: &[String], mongo: &str) -> BTreeMap<String, String> {
    let ledger: LedgerSecret = ledger_secret();
    let mut values = BTreeMap::new();
    for name in names {
        // A service key stands in three places.
        let what = name.trim_end_matches("-current").trim_end_matches("-next").to_owned();
        let value = match name.as_str() {
            "ledger-key" => ledger.to_text().to_string(),
            _ if name.ends_with("-store") => mongo.to_owned(),
            _ => values.get(&what).cloned().unwrap_or_else(random_key_hex),
        };
        values.entry(what).or_insert_with(|| value.clone());
        values.insert(name.clone(), value);
    }
    values
}

/// A program's environment, with addresses that exist here.
fn local(
    env: &BTreeMap<String, String>,
    vault: &FakeVault,
    urls: &BTreeMap<String, (String, String)>,
    prefix: &str,
    anchor: &Path,
) -> BTreeMap<String, String> {
    let mut env = env.clone();
    for (name, value) in &mut env {
        *value = value.replace(VAULT, &vault.reference(""));
        for (service, (_, url)) in urls {
            *value = value.replace(&format!("https://{service}{DOMAIN}"), url);
        }
        if name == "VITALOG_ANCHORS" {
            *value = format!("dir:{}", anchor.display());
        }
    }
    env.insert("VITALOG_DATABASE_PREFIX".to_owned(), prefix.to_owned());
    env
}

fn environment(service: &Service, name: &str, listen: &str) -> BTreeMap<String, String> {
    let mut env = service.env.clone();
    let own: Vec<String> = env
        .iter()
        .filter(|(variable, value)| {
            variable.ends_with("_LISTEN") && **value == format!("0.0.0.0:{}", service.port)
        })
        .map(|(variable, _)| variable.clone())
        .collect();
    assert_eq!(own.len(), 1, "{name} listens on another port than its probes ask: {env:?}");
    env.insert(own[0].clone(), listen.to_owned());
    if env.contains_key("VITALOG_GATEWAY_METRICS_LISTEN") {
        let (metrics, _) = free_address().unwrap();
        env.insert("VITALOG_GATEWAY_METRICS_LISTEN".to_owned(), metrics);
    }
    env
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_terraform_sets_starts_the_whole_system_with_each_services_own_secrets_alone() {
    let _place = samples::a_place().await;
    let Settings { services, secrets, all_secrets, jobs } = evaluated("vcore", NO_OIDC);
    let external: Vec<&str> =
        services.iter().filter(|it| it.1.ingress == "external").map(|it| it.0.as_str()).collect();
    assert_eq!(external, ["gateway"]);

    let (folder, prefix) = (tempfile::tempdir().unwrap(), mongod::database("terraform"));
    let anchor = folder.path().join("anchor");
    std::fs::create_dir(&anchor).unwrap();
    let values = values(&all_secrets, mongod::uri().await);
    let urls: BTreeMap<String, (String, String)> =
        services.keys().map(|name| (name.clone(), free_address().unwrap())).collect();

    let mut running = Vec::new();
    for name in ["audit-service", "patient-service", "projections", "gateway"] {
        let (service, vault) = (&services[name], FakeVault::start());
        for secret in &secrets[name] {
            vault.set(secret, "v1", &values[secret]);
        }
        let home = folder.path().join(name);
        std::fs::create_dir(&home).unwrap();
        let (listen, url) = &urls[name];
        let mut env = local(&environment(service, name, listen), &vault, &urls, &prefix, &anchor);
        for mounted in &service.folders {
            let here = home.join(mounted.trim_start_matches('/'));
            std::fs::create_dir_all(&here).unwrap();
            for value in env.values_mut() {
                *value = value.replace(mounted, here.to_str().unwrap());
            }
        }
        env.extend(vault.environment(&home));
        let program = programs::built(name).unwrap();
        let program = Program::start_in(&program, &service.args, env, &home.join("log")).unwrap();
        let ready = wait_for_ready(url, PATIENCE).await;
        ready.unwrap_or_else(|error| panic!("{name}: {error} {}", program.last_words()));
        for (probe, path) in &service.probes {
            let answer = reqwest::get(format!("{url}{path}")).await.unwrap();
            assert_eq!(answer.status(), 200, "{name}: {probe} probe at {path}");
        }
        let asked = vault.now().asked.clone();
        let may: BTreeSet<String> = secrets[name].iter().cloned().collect();
        assert_eq!(asked, may, "{name}: secrets that it asked for, and that it may read");
        running.push((program, vault));
    }

    // A client is added by the job, and creates a patient through the gateway.
    let job = &jobs["subscriptions"];
    let vault = FakeVault::start();
    for (name, value) in &values {
        vault.set(name, "v1", value);
    }
    let mut env = local(&job.env, &vault, &urls, &prefix, &anchor);
    env.extend(vault.environment(folder.path()));
    let added = Command::new(programs::built(&job.command[0]).unwrap())
        .args(["subscriptions", "add", "clinic", "--scope=patient:read", "--scope=patient:write"])
        .env_clear()
        .envs(env)
        .output()
        .unwrap();
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let key = String::from_utf8(added.stdout).unwrap();
    let clinic = Api::new(&urls["gateway"].1).with_key(key.trim());
    // Changes count within a second.
    let deadline = Instant::now() + PATIENCE;
    while clinic.get("/echo/resource").await.status != 200 {
        assert!(Instant::now() < deadline, "the gateway does not know the new subscription");
        tokio::time::sleep(POLL_PAUSE).await;
    }
    let created = clinic.post("/patient", &samples::patient("JANE")).await.expect(201);
    assert_eq!(created.receipt().seq, 1, "after the record of the subscription");
    mongod::drop_databases(&prefix).await;
}
