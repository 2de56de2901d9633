//! The jobs that make and rotate the secrets of a deployment on Azure, against a local vault and a
//! local resource manager. Nothing here ran against Azure.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use audit_verify::checkpoint::LedgerSecret;
use tests::programs;

use super::fake_vault::FakeVault;

const STORES: [&str; 4] = ["ledger", "patients", "keys", "gateway"];

/// A deployment whose databases have a password that Terraform knows.
struct Deployment {
    vault: FakeVault,
    folder: tempfile::TempDir,
    kind: &'static str,
    has_copies: bool,
}

fn ids(end: &str) -> String {
    STORES.map(|store| format!("{store}={}", id(store, end))).join(" ")
}

fn id(store: &str, end: &str) -> String {
    format!("/subscriptions/0/resourceGroups/g/providers/Microsoft.DocumentDB/x/{store}{end}")
}

impl Deployment {
    fn new(kind: &'static str) -> Self {
        let vault = FakeVault::start();
        for store in STORES {
            for end in ["", "-r"] {
                let password = "canary-password-of-terraform".to_owned();
                vault.now().clusters.insert(id(store, end), password);
            }
            let keys = [1, 2].map(|number| format!("canary-{store}-key-{number}"));
            vault.now().accounts.insert(id(store, "-a"), keys);
        }
        Self { vault, folder: tempfile::tempdir().unwrap(), kind, has_copies: false }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(programs::built(program).unwrap());
        command
            .env_clear()
            .envs(self.vault.environment(self.folder.path()))
            .env("AZURE_CLIENT_ID", "id-of-secrets")
            .env("VITALOG_VAULT", self.vault.address())
            .env("VITALOG_RESOURCE_MANAGER", self.vault.address())
            .env("VITALOG_LEDGER_ORIGIN", "clinic-records")
            .env("VITALOG_STORE_KIND", self.kind)
            .env("VITALOG_STORES", ids(if self.kind == "ru" { "-a" } else { "" }));
        if self.has_copies {
            command.env("VITALOG_REPLICAS", ids("-r"));
        }
        command
    }

    fn secrets(&self, arguments: &[&str]) -> Output {
        let output = self.command("azure-secrets").args(arguments).output().unwrap();
        self.assert_nothing_shown(&output);
        output
    }

    /// What it said, where it succeeded.
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.secrets(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it complained of.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.secrets(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn assert_nothing_shown(&self, output: &Output) {
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        let said = String::from_utf8(said).unwrap();
        let vault = self.vault.now();
        let values = vault.secrets.iter().filter(|it| !it.0.starts_with("ledger-pub"));
        for value in values.flat_map(|it| it.1).map(|it| &it.1).chain(vault.clusters.values()) {
            assert!(!said.contains(value.as_str()), "a secret is shown: {said}");
        }
        for token in ["the-right-token", "the-managers-token", "canary-"] {
            assert!(!said.contains(token), "{said}");
        }
    }

    fn value(&self, name: &str) -> String {
        self.vault.value(name).unwrap_or_else(|| panic!("no secret {name}"))
    }

    fn names(&self) -> BTreeSet<String> {
        self.vault.now().secrets.keys().cloned().collect()
    }
}

#[test]
fn what_is_missing_is_made_and_what_is_there_stays() {
    let deployment = Deployment::new("vcore");
    deployment.done(&["ensure"]);
    let expected = deployment.done(&["names"]);
    assert_eq!(deployment.names(), expected.lines().map(ToOwned::to_owned).collect());

    let key = LedgerSecret::parse(&deployment.value("ledger-key")).unwrap();
    assert_eq!(key.origin().as_str(), "clinic-records");
    assert_eq!(deployment.value("ledger-pub"), key.public().to_string());
    for key in ["gateway-to-audit", "operator-to-audit"] {
        for end in ["-current", "-next"] {
            assert_eq!(deployment.value(key), deployment.value(&format!("{key}{end}")));
        }
    }
    let own: BTreeSet<String> = ["seal-key", "kek", "command-key", "pepper", "gateway-to-patient"]
        .map(|name| deployment.value(name))
        .into();
    assert_eq!(own.len(), 5, "each has its own value");
    for store in STORES {
        let password = deployment.vault.now().clusters[&id(store, "")].clone();
        assert_ne!(password, "canary-password-of-terraform");
        assert_eq!(
            deployment.value(&format!("{store}-store")),
            format!(
                "mongodb+srv://vitalog:{password}@{store}.mongocluster.cosmos.azure.com/?tls=true&authMechanism=SCRAM-SHA-256&retrywrites=false&maxIdleTimeMS=120000"
            )
        );
    }
    let year = 31_536_000;
    let expiries = deployment.vault.now().expiries.clone();
    assert!(expiries["kek"].unwrap() > 1_700_000_000 + year);
    assert_eq!(expiries["ledger-pub"], None);

    let before = deployment.vault.now().secrets.clone();
    let again = deployment.done(&["ensure"]);
    assert_eq!(again, "0 made, the others were there\n");
    assert_eq!(deployment.vault.now().secrets, before);
    let listed = deployment.done(&["list"]);
    assert_eq!(listed.lines().count(), before.len());
    assert!(listed.contains("kek\tenabled\t20"), "{listed}");
}

#[test]
fn an_interrupted_run_is_finished_by_the_next_one() {
    let mut deployment = Deployment::new("vcore");
    deployment.done(&["ensure"]);
    let (public, shown) = (deployment.value("ledger-pub"), deployment.value("gateway-to-audit"));
    for name in ["ledger-pub", "gateway-to-audit-next", "gateway-to-audit", "keys-store"] {
        deployment.vault.now().secrets.remove(name);
    }
    deployment.has_copies = true;
    let said = deployment.done(&["ensure"]);
    assert!(said.ends_with("8 made, the others were there\n"), "{said}");
    assert_eq!(deployment.value("ledger-pub"), public);
    assert_eq!(deployment.value("gateway-to-audit"), shown);
    assert_eq!(deployment.value("gateway-to-audit-next"), shown);
    let password = deployment.vault.now().clusters[&id("keys", "")].clone();
    for name in ["keys-store", "keys-store-b"] {
        assert!(deployment.value(name).contains(&format!(":{password}@")), "{name}");
    }
    assert!(deployment.value("keys-store-b").contains("@keys-r.mongocluster"));
}

#[test]
fn a_service_key_is_replaced_in_an_order_that_refuses_nothing() {
    let deployment = Deployment::new("vcore");
    deployment.done(&["ensure"]);
    let old = deployment.value("patient-to-audit");
    let said = deployment.done(&["rotate", "patient-to-audit", "--pause=0"]);
    let names = ["patient-to-audit-next", "patient-to-audit", "patient-to-audit-current"];
    assert_eq!(said, names.map(|name| format!("wrote {name}\n")).concat());
    let new = deployment.value("patient-to-audit");
    assert_ne!(new, old);
    assert!(names.iter().all(|name| deployment.value(name) == new));

    // One that stopped half-way goes on with the key that it had begun with.
    deployment.vault.set("patient-to-audit-next", "v", "begun");
    deployment.done(&["rotate", "patient-to-audit", "--pause=0"]);
    assert!(names.iter().all(|name| deployment.value(name) == "begun"));
    // A key that nobody takes is nothing to begin with.
    deployment.vault.set("patient-to-audit", "v", "astray");
    let complaint = deployment.refused(&["rotate", "patient-to-audit", "--pause=0"]);
    assert!(complaint.contains("none of the two keys that the callee takes"), "{complaint}");
}

#[test]
fn a_clusters_password_is_replaced_and_its_copys_uri_with_it() {
    let mut deployment = Deployment::new("vcore");
    deployment.has_copies = true;
    deployment.done(&["ensure"]);
    let old = deployment.value("ledger-store");
    deployment.done(&["rotate", "ledger-store"]);
    let password = deployment.vault.now().clusters[&id("ledger", "")].clone();
    assert_ne!(deployment.value("ledger-store"), old);
    for name in ["ledger-store", "ledger-store-b"] {
        assert!(deployment.value(name).contains(&format!(":{password}@")), "{name}");
    }
    // A change that Azure takes on and then gives up changes nothing in the vault, whether the job may
    // look at the operation or at the resource alone.
    let before = deployment.value("keys-store");
    for refused in [false, true] {
        deployment.vault.now().operations_refused = refused;
        deployment.vault.now().change_fails = true;
        let complaint = deployment.refused(&["rotate", "keys-store"]);
        assert!(complaint.contains("ended as Failed"), "{complaint}");
        assert_eq!(deployment.value("keys-store"), before);
        deployment.vault.now().change_fails = false;
    }
    deployment.done(&["rotate", "keys-store"]);
    let password = deployment.vault.now().clusters[&id("keys", "")].clone();
    assert!(deployment.value("keys-store").contains(&format!(":{password}@")));
}

#[test]
fn an_accounts_two_keys_take_turns_and_the_older_one_ends() {
    let deployment = Deployment::new("ru");
    deployment.done(&["ensure"]);
    let uri = deployment.value("gateway-store");
    assert!(
        uri.contains("canary-gateway-key-1@") || uri.contains(":canary-gateway-key-1"),
        "{uri}"
    );
    assert!(uri.contains("tls=true") && !uri.contains("ssl="), "{uri}");
    deployment.done(&["rotate", "gateway-store", "--pause=0"]);
    assert!(deployment.value("gateway-store").contains(":canary-gateway-key-2x@"));
    let keys = deployment.vault.now().accounts[&id("gateway", "-a")].clone();
    assert_eq!(keys, ["canary-gateway-key-1x", "canary-gateway-key-2x"]);
    // A key that is not yet another one is waited for.
    deployment.vault.now().keys_change_late = true;
    deployment.done(&["rotate", "gateway-store", "--pause=0"]);
    assert!(deployment.value("gateway-store").contains(":canary-gateway-key-1xx@"));
}

#[test]
fn successors_are_made_once_and_other_names_are_refused() {
    let deployment = Deployment::new("vcore");
    deployment.done(&["ensure"]);
    for key in ["kek", "seal-key", "command-key", "pepper"] {
        deployment.done(&["make", &format!("{key}-2")]);
        assert_ne!(deployment.value(&format!("{key}-2")), deployment.value(key));
    }
    deployment.done(&["make", "ledger-key-2"]);
    let key = LedgerSecret::parse(&deployment.value("ledger-key-2")).unwrap();
    assert_eq!(deployment.value("ledger-pub-2"), key.public().to_string());
    let complaint = deployment.refused(&["make", "kek-2"]);
    assert!(complaint.contains("there is a secret kek-2 already"), "{complaint}");
    for wrong in [["make", "kek"], ["make", "pepper"], ["rotate", "kek"], ["rotate", "pepper"]] {
        deployment.refused(&wrong);
    }
}

#[test]
fn what_stands_in_the_way_is_said() {
    let deployment = Deployment::new("vcore");
    let no_identity = |yes| deployment.vault.now().no_identity = yes;
    no_identity(true);
    let complaint = deployment.refused(&["ensure"]);
    assert!(complaint.contains("there is no token of a managed identity"), "{complaint}");
    no_identity(false);
    deployment.vault.now().refusals = vec![(403, None)];
    let complaint = deployment.refused(&["ensure"]);
    assert!(complaint.contains("reading the secret seal-key is answered 403"), "{complaint}");
    // A token goes to Azure and this machine alone.
    for variable in ["VITALOG_VAULT", "VITALOG_RESOURCE_MANAGER"] {
        for wrong in ["https://elsewhere.example", "http://127.0.0.1:1", "nothing"] {
            let mut command = deployment.command("azure-secrets");
            let output = command.arg("ensure").env(variable, wrong).output().unwrap();
            let complaint = String::from_utf8(output.stderr).unwrap();
            assert!(complaint.contains(variable), "{wrong}: {complaint}");
        }
    }
    deployment.done(&["ensure"]);
    let mut other = deployment.command("azure-secrets");
    let output = other.arg("ensure").env("VITALOG_LEDGER_ORIGIN", "other").output().unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.contains("of another ledger"), "{complaint}");
}

/// A program that stands for `gateway`: it writes what it was told, and a key.
fn stand_in(folder: &Path, status: u8) {
    let script = format!(
        "#!/bin/sh\necho \"$@\" >>{}/told\necho canary-client-key\nexit {status}\n",
        folder.display()
    );
    let file = folder.join("gateway");
    fs::write(&file, script).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_clients_key_goes_from_the_program_that_makes_it_into_the_vault() {
    let deployment = Deployment::new("vcore");
    let folder = deployment.folder.path();
    let run = |arguments: &[&str]| {
        let mut command = deployment.command("azure-subscription");
        let path = format!("{}:/usr/bin:/bin", folder.display());
        let output = command.args(arguments).env("PATH", path).output().unwrap();
        deployment.assert_nothing_shown(&output);
        output
    };
    stand_in(folder, 0);
    let added = run(&["add", "clinic", "--", "--scope", "patient:read"]);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    assert_eq!(deployment.value("subscription-clinic"), "canary-client-key");
    assert!(!run(&["add", "clinic"]).status.success(), "a key in use is not replaced");
    assert!(run(&["rotate", "clinic"]).status.success());
    let told = fs::read_to_string(folder.join("told")).unwrap();
    assert_eq!(
        told,
        "subscriptions add clinic --scope patient:read\nsubscriptions rotate clinic\n"
    );
    stand_in(folder, 3);
    assert!(!run(&["add", "other"]).status.success());
    assert!(!deployment.names().contains("subscription-other"));
}
