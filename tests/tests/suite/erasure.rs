//! After an erasure nothing of the patient is readable anywhere, and the ledger is as provable as
//! before: canaries searched in the embedded stores' files, and by query on MongoDB.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use audit_verify::{checkpoint::LedgerKey, proof_file::ProofFile};
use domain::{hash::Hash, record::RecordType, sealed::parse_compact};
use futures::TryStreamExt;
use mongodb::{
    Client,
    bson::{RawDocumentBuf, doc},
};
use projections::{
    key_ring::{kek::WrappedKey, store::Rewrap},
    open::open_key_store,
};
use runtime::store_location::StoreLocation;
use serde_json::{Value, json};
use tests::{
    http::{Api, Receipt},
    ledger::Ledger,
    mongod,
    samples::{a_place, id_of, patient, random_name, test},
    system::{PATIENCE, Store, System},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// In every value that must be gone begins with this word.
const CANARY: &str = "CANARY";

/// Patients beside those who are erased, so that their rows and keys share pages.
const OTHERS: usize = 60;

/// Patients who are erased.
const ERASED: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_an_erased_patient_is_left_in_the_embedded_files() {
    let _place = a_place().await;
    walk_through(System::standalone(Store::Sqlite).await, &|system| {
        Box::pin(async move { files(&system.data()) })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_an_erased_patient_is_left_in_mongodb() {
    let _place = a_place().await;
    walk_through(System::standalone(Store::shared_mongo().await).await, &|system| {
        Box::pin(collections(system))
    })
    .await;
}

/// Everything that a system stores, by where it is.
type Stored = BTreeMap<String, Vec<u8>>;
type Look = dyn for<'a> Fn(&'a System) -> futures::future::BoxFuture<'a, Stored> + Sync;

async fn walk_through(mut system: System, look: &Look) {
    let (clinic, privacy) = (system.clinic(), system.privacy());
    let (doomed, others) = populate(&clinic).await;
    let found = clinic.post("/patient/search", &json!({"firstName": "CANARYAGAIN"})).await;
    assert_eq!(found.expect(200).json().as_array().unwrap().len(), ERASED);
    system.followed().await.unwrap();
    let before = Ledger::read(&system.compliance()).await;
    let proof = proof_of(&clinic, &doomed[0].1).await;
    let keys = keys(&system).await;
    let wrapped = wrapped(&keys, &before, &doomed).await;
    let stored = look(&system).await;
    assert!(!places_of(&stored, CANARY.as_bytes()).is_empty(), "{:?}", stored.keys());
    for key in &wrapped {
        assert_eq!(places_of(&stored, &key.wrapped).len(), 1);
    }

    let traffic = Traffic::start(&clinic, &others);
    for (path, _) in &doomed {
        let body = json!({"reason": "consentWithdrawn"});
        clinic.post(&format!("{path}/erase"), &body).await.problem(403);
        let erased = privacy.post(&format!("{path}/erase"), &body).await;
        assert!(erased.expect(204).body.is_empty());
    }
    gone(&system, &wrapped, look).await;
    traffic.end().await;
    for (path, _) in &doomed {
        for path in [path.clone(), format!("{path}/tests")] {
            assert!(!clinic.get(&path).await.problem(404).to_string().contains(CANARY));
        }
    }
    clinic.post("/patient/search", &json!({"firstName": "CANARYAGAIN"})).await.problem(404);
    let all = clinic.post("/patient/search", &json!({})).await.expect(200);
    assert_eq!(all.json().as_array().unwrap().len(), OTHERS);

    // The chain is whole, what was proved before is proved still, and rebuilding shows stubs.
    let mut ledger = Ledger::read(&system.compliance()).await;
    ledger.check_checkpoint(&system.compliance()).await;
    assert_eq!(ledger.lines[..before.lines.len()], before.lines[..]);
    let erasures = ledger.records.iter().filter(|it| it.record_type == RecordType::PatientErased);
    assert_eq!(erasures.count(), ERASED);
    check_proof(&system, &doomed[0].1, &proof);
    system.equals_its_rebuild().await;
    gone(&system, &wrapped, look).await;
    clinic.get(&doomed[0].0).await.problem(404);

    // Neither a crash nor a backup of the key ring brings anybody back.
    system.program("standalone").kill().unwrap();
    keys.insert_batch(&wrapped).await.unwrap();
    assert_eq!(places_of(&look(&system).await, &wrapped[0].wrapped).len(), 1);
    drop(keys);
    system.start("standalone").await.unwrap();
    gone(&system, &wrapped, look).await;
    system.clinic().get(&doomed[0].0).await.problem(404);
    for (path, content) in &others {
        let mut loaded = system.clinic().get(path).await.expect(200).json();
        // The traffic wrote the same content again.
        loaded["lastUpdated"] = content["lastUpdated"].clone();
        assert_eq!(loaded, *content);
    }
    system.finish().await;
}

/// Reads and writes of other patients, so that a store is never idle.
struct Traffic {
    stop: CancellationToken,
    clients: JoinSet<()>,
}

impl Traffic {
    fn start(clinic: &Api, patients: &[(String, Value)]) -> Self {
        let (stop, mut clients) = (CancellationToken::new(), JoinSet::new());
        for (path, content) in patients.iter().take(4) {
            let (path, content) = (path.clone(), content.clone());
            let (clinic, stop) = (clinic.clone(), stop.clone());
            clients.spawn(async move {
                while !stop.is_cancelled() {
                    let _ = clinic.put(&path, &content).await.expect(200);
                    let _ = clinic.get(&format!("{path}/tests")).await.expect(200);
                    let _ = clinic.post("/patient/search", &json!({})).await.expect(200);
                }
            });
        }
        Self { stop, clients }
    }

    async fn end(self) {
        self.stop.cancel();
        self.clients.join_all().await;
    }
}

/// Waits until nothing is left to overwrite of what erasures removed.
async fn scrubbed(system: &System) {
    let begun = Instant::now();
    while system.projections("status").await.unwrap()["scrubDue"] != false {
        assert!(begun.elapsed() < PATIENCE, "the file is not scrubbed");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Nothing of the erased patients is stored, neither their content nor their keys.
async fn gone(system: &System, wrapped: &[WrappedKey], look: &Look) {
    scrubbed(system).await;
    let stored = look(system).await;
    assert_eq!(places_of(&stored, CANARY.as_bytes()), [] as [&str; 0]);
    for key in wrapped {
        assert_eq!(places_of(&stored, &key.wrapped), [] as [&str; 0]);
    }
}

fn places_of<'a>(stored: &'a Stored, needle: &[u8]) -> Vec<&'a str> {
    let holds = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    stored.iter().filter(|(_, bytes)| holds(bytes)).map(|(place, _)| place.as_str()).collect()
}

/// Patients who will be erased, by path and the receipt of their registration, and others, by
/// path and content; each with tests and changed once.
async fn populate(clinic: &Api) -> (Vec<(String, Receipt)>, Vec<(String, Value)>) {
    let (mut doomed, mut others) = (Vec::new(), Vec::new());
    for number in 0..ERASED + OTHERS {
        let erased = number % (OTHERS / ERASED + 1) == 3;
        let name = if erased { format!("{CANARY}FIRST") } else { random_name() };
        let mut body = patient(&name);
        let mut results = test(3);
        if erased {
            body["lastName"] = format!("{CANARY}LAST").into();
            body["insuranceNumber"] = format!("{CANARY}-{number}").into();
            results["performer"] = format!("{CANARY}PERFORMER").into();
            results["observations"][1]["measurement"] = format!("{CANARY} mmol/l").into();
        }
        let made = clinic.post("/patient", &body).await.expect(201);
        let path = format!("/patient/{}", id_of(&made.json()));
        for _ in 0..2 {
            let _ = clinic.post(&format!("{path}/tests"), &results).await.expect(201);
        }
        let mut changed = made.json();
        changed["firstName"] = if erased { "CANARYAGAIN".into() } else { random_name().into() };
        let changed = clinic.put(&path, &changed).await.expect(200).json();
        if erased { doomed.push((path, made.receipt())) } else { others.push((path, changed)) }
    }
    assert_eq!((doomed.len(), others.len()), (ERASED, OTHERS));
    (doomed, others)
}

async fn keys(system: &System) -> Arc<dyn Rewrap> {
    let location = match system.store() {
        Store::Sqlite => StoreLocation::Sqlite(system.data().join("keys.db")),
        Store::Mongo(uri) => uri.parse().unwrap(),
    };
    open_key_store(&location, &system.prefix().parse().unwrap()).await.unwrap()
}

/// The keys of patients as they are stored.
async fn wrapped(
    keys: &Arc<dyn Rewrap>,
    ledger: &Ledger,
    patients: &[(String, Receipt)],
) -> Vec<WrappedKey> {
    let kid = |(path, receipt): &(String, Receipt)| {
        let record = ledger.record(receipt);
        let patient = record.patient().unwrap();
        assert!(path.ends_with(&patient.to_string()));
        parse_compact(record.data.as_deref().unwrap()).unwrap().header.kid
    };
    let kids: Vec<_> = patients.iter().map(kid).collect();
    let stored = keys.get(&kids).await.unwrap();
    assert_eq!(stored.len(), patients.len());
    stored
}

async fn proof_of(clinic: &Api, receipt: &Receipt) -> String {
    let path = format!("/audit/records/{}/proof", receipt.seq);
    clinic.get(&path).await.expect(200).text().to_owned()
}

fn check_proof(system: &System, receipt: &Receipt, proof: &str) {
    let key = fs::read_to_string(system.data().join("ledger.pub")).unwrap();
    let key: LedgerKey = key.trim().parse().unwrap();
    let file = ProofFile::parse(proof).unwrap();
    file.check(&key, receipt.hash.parse::<Hash>().unwrap()).unwrap();
}

/// The files of a data directory, those of the embedded stores and their logs among them.
fn files(folder: &Path) -> Stored {
    let mut stored = Stored::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            stored.extend(files(&path));
        } else if let Ok(bytes) = fs::read(&path) {
            stored.insert(path.display().to_string(), bytes);
        }
    }
    stored
}

/// Every document of every collection of the system's databases.
async fn collections(system: &System) -> Stored {
    let client = Client::with_uri_str(mongod::uri().await).await.unwrap();
    let mut stored = Stored::new();
    for name in client.list_database_names().await.unwrap() {
        if !name.starts_with(system.prefix()) {
            continue;
        }
        let database = client.database(&name);
        for collection in database.list_collection_names().await.unwrap() {
            let documents = database.collection::<RawDocumentBuf>(&collection);
            let found = documents.find(doc! {}).await.unwrap();
            let documents: Vec<_> = found.try_collect().await.unwrap();
            let bytes = documents.iter().flat_map(|it| it.as_bytes()).copied().collect();
            stored.insert(format!("{name}.{collection}"), bytes);
        }
    }
    stored
}
