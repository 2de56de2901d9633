//! Module `settings`, evaluated.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use serde::Deserialize;
use serde_json::Value;

/// What the module is given here, in places of values that only a deployment has.
const ROOT: &str = r#"
module "settings" {
  source               = "MODULE"
  vault_uri            = "https://vitalog-test.vault.azure.net"
  domain               = "calm.westeurope.azurecontainerapps.io"
  apps                 = { for it in ["gateway", "patient-service", "audit-service", "projections"] : it => it }
  client_ids           = { for it in ["gateway", "patient-service", "audit-service", "projections", "secrets"] : it => "id-of-${it}" }
  networks             = ["10.40.0.0/23", "100.100.0.0/17"]
  proxies              = ["10.40.2.0/24", "100.100.0.0/17"]
  store_kind           = "KIND"
  store_ids            = { for it in ["ledger", "patients", "keys", "gateway"] : it => "/subscriptions/0/${it}" }
  replica_ids          = { for it in ["ledger", "patients", "keys", "gateway"] : it => "/subscriptions/0/${it}-r" }
  ledger_origin        = "clinic-records"
  anchors              = ["https://vitalogtest.blob.core.windows.net/checkpoints"]
  application_insights = "InstrumentationKey=00000000-0000-0000-0000-000000000000;IngestionEndpoint=https://127.0.0.1:9/"
  otlp_endpoint        = "http://127.0.0.1:9"
  oidc                 = OIDC
  cors_origins         = ["https://portal.clinic.example"]
}

output "services" { value = module.settings.services }
output "secrets" { value = module.settings.secrets }
output "all_secrets" { value = module.settings.all_secrets }
output "jobs" { value = module.settings.jobs }
"#;

/// An issuer of tokens, and none.
pub(super) const OIDC: &str = r#"{ issuer = "https://login.microsoftonline.com/t/v2.0", audiences = ["vitalog"], scope_map = ["Patient.Read=patient:read"] }"#;
pub(super) const NO_OIDC: &str = "null";

/// What each part of a deployment is told.
#[derive(Debug, Deserialize)]
pub(super) struct Settings {
    pub(super) services: BTreeMap<String, Service>,
    pub(super) secrets: BTreeMap<String, Vec<String>>,
    pub(super) all_secrets: Vec<String>,
    pub(super) jobs: BTreeMap<String, Job>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Service {
    pub(super) port: u16,
    pub(super) ingress: String,
    pub(super) args: Vec<String>,
    pub(super) folders: Vec<String>,
    pub(super) probes: BTreeMap<String, String>,
    pub(super) env: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Job {
    pub(super) command: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
}

/// Has Terraform evaluate the module for stores of this kind.
pub(super) fn evaluated(kind: &str, oidc: &str) -> Settings {
    let folder = tempfile::tempdir().unwrap();
    let module = super::root().join("terraform/modules/settings");
    let root = ROOT.replace("MODULE", module.to_str().unwrap());
    let root = root.replace("KIND", kind).replace("OIDC", oidc);
    fs::write(folder.path().join("main.tf"), root).unwrap();
    terraform(folder.path(), &["init", "-backend=false", "-input=false"]);
    terraform(folder.path(), &["apply", "-auto-approve", "-input=false"]);
    let outputs: Value =
        serde_json::from_slice(&terraform(folder.path(), &["output", "-json"])).unwrap();
    let outputs: serde_json::Map<String, Value> = outputs
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, output)| (name.clone(), output["value"].clone()))
        .collect();
    serde_json::from_value(outputs.into()).unwrap()
}

fn terraform(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let program = runtime::settings::env("VITALOG_TERRAFORM").unwrap_or("terraform".to_owned());
    let output = Command::new(program)
        .args(arguments)
        .arg("-no-color")
        .current_dir(folder)
        .env("CHECKPOINT_DISABLE", "1")
        .env_remove("TF_CLI_CONFIG_FILE")
        .output()
        .expect("Terraform: tests/run looks for it, VITALOG_TERRAFORM names another");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
