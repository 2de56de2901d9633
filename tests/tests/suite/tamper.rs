//! A store's administrator changes what is stored: every field of every document and row, and
//! what stands beside them. `audit verify` finds each, and names the block.

use std::{fs, path::PathBuf, time::Duration};

use futures::future::join_all;
use serde_json::Value;
use tests::{
    mongod,
    programs::{Program, run},
    samples::{a_place, id_of, plain_patient, test},
    system::{PATIENCE, Store, System},
};

mod mongo;
mod rows;

/// Records at least; a few blocks with several records each.
const RECORDS: u64 = 64;

/// A ledger that a whole system wrote, with what an auditor saved of it.
struct Saved {
    system: System,
    store: String,
    checkpoint: PathBuf,
}

impl Saved {
    /// Writes records of several kinds, many at once, and stops the system.
    async fn new(store: Store) -> Self {
        let mut system = System::standalone(store.clone()).await;
        let clinic = system.clinic();
        for _ in 0..2 {
            let creating = (0..12).map(|_| async {
                let created = clinic.post("/patient", &plain_patient()).await.expect(201).json();
                let path = format!("/patient/{}", id_of(&created));
                let _ = clinic.post(&format!("{path}/tests"), &test(1)).await.expect(201);
                let _ = clinic.get(&path).await.expect(200);
            });
            join_all(creating).await;
        }
        let checkpoint = system.folder().join("checkpoint");
        let compliance = system.compliance();
        let note = compliance.get("/audit/checkpoint").await.expect(200);
        fs::write(&checkpoint, note.text()).unwrap();
        let program: &mut Program = system.program("standalone");
        program.signal("TERM").unwrap();
        assert!(program.wait(PATIENCE).await.unwrap().success());
        let store = match store {
            Store::Sqlite => format!("sqlite:{}", system.data().join("ledger.db").display()),
            Store::Mongo(uri) => uri,
        };
        let saved = Self { system, store, checkpoint };
        let verdict = saved.verify(&[]).await;
        assert_eq!(verdict.code, 0, "{}", verdict.json);
        assert!(verdict.json["size"].as_u64().unwrap() >= RECORDS);
        saved
    }

    async fn verify(&self, more: &[&str]) -> Verdict {
        let data = self.system.data();
        let mut arguments: Vec<String> = vec!["--json".into(), "verify".into()];
        for (name, value) in [
            ("--store", self.store.clone()),
            ("--database-prefix", self.system.prefix().to_owned()),
            ("--checkpoint", self.checkpoint.display().to_string()),
            ("--verifier-key", data.join("ledger.pub").display().to_string()),
            ("--seal-key", format!("file:{}", data.join("secrets/seal.key").display())),
            ("--threads", "1".to_owned()),
        ] {
            arguments.extend([name.to_owned(), value]);
        }
        arguments.extend(more.iter().map(|text| (*text).to_owned()));
        let output =
            run("audit", &arguments, self.system.folder(), Duration::from_mins(1)).await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Verdict { code: output.status.code().unwrap(), json, errors }
    }

    /// Verifies, and demands that one of the records `first .. end` is named.
    async fn expect_found(&self, first: u64, end: u64, what: &str) {
        let verdict = self.verify(&[]).await;
        let json = &verdict.json;
        assert_eq!(verdict.code, 1, "{what}: {json} {}", verdict.errors);
        let number = |name: &str| json["findings"][0][name].as_u64().unwrap();
        let (from, to) = (number("first"), number("last"));
        assert!(
            from < end && to >= first,
            "{what}: {first}..{end} is bad, and {from}..={to} named: {json}"
        );
    }

    async fn expect_intact(&self) {
        let verdict = self.verify(&[]).await;
        assert_eq!(verdict.code, 0, "{} {}", verdict.json, verdict.errors);
    }
}

struct Verdict {
    code: i32,
    json: Value,
    errors: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_changed_field_of_every_stored_mongodb_document_is_found() {
    let _place = a_place().await;
    let uri = mongod::uri().await.to_owned();
    let saved = Saved::new(Store::Mongo(uri.clone())).await;
    mongo::tamper(&saved, &uri).await;
    saved.system.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_changed_column_of_every_stored_sqlite_row_is_found() {
    let _place = a_place().await;
    let saved = Saved::new(Store::Sqlite).await;
    rows::tamper(&saved).await;
    saved.system.finish().await;
}
