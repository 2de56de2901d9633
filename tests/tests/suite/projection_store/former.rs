//! Stores that an older version made: they open, serve, and can do all that a new one can.

use std::{path::Path, time::Duration};

use domain::hash::Hash;
use mongodb::{
    Client,
    bson::{Document, doc, oid::ObjectId},
};
use projections::{
    change::StreamChange,
    documents::{ActivityFilter, Generation, Pointer, Position},
    store::{Generations, ProjectionStore, mongo::MongoStore, sqlite::SqliteStore},
};
use tempfile::TempDir;
use uuid::Uuid;

use super::fixtures::{KID, at, patient_id, test_id};

/// Long enough for a slow machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Format 1 of the file, as it was written.
const FILE: &str = include_str!("former.sql");

fn schema(path: &Path) -> Vec<(String, String)> {
    let connection = rusqlite::Connection::open(path).unwrap();
    let sql = "SELECT name, coalesce(sql, '') FROM sqlite_schema ORDER BY name";
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let squeeze = |sql: String| sql.split_whitespace().collect::<Vec<_>>().join(" ");
    rows.map(Result::unwrap).map(|(name, sql): (String, String)| (name, squeeze(sql))).collect()
}

/// What both stores hold: a patient in generation 1, which follows from seq 5 on, and an empty
/// generation 2, which serves.
async fn check(store: &dyn ProjectionStore) {
    let (first, second) = (Generation(1), Generation(2));
    assert_eq!(store.list().await.unwrap(), [first, second]);
    assert_eq!(store.pointer().await.unwrap(), Pointer { serving: second, also: None });
    assert_eq!(store.patient(first, patient_id(1)).await.unwrap().unwrap().version, 3);
    let of = |actor: &str| {
        let actor = Some(actor.parse().unwrap());
        ActivityFilter { actor, from: Some(at(0)), until: Some(at(5)), ..ActivityFilter::default() }
    };
    let page = store.activity(first, &of("clinic"), None, 10).await.unwrap();
    assert_eq!(page.documents.iter().map(|it| it.seq).collect::<Vec<_>>(), [4]);
    assert_eq!(store.activity(first, &of("other"), None, 10).await.unwrap().documents, []);

    let position = |next_seq| Position { next_seq, hash: Hash([1; 32]), at: at(4) };
    assert_eq!(store.position(first).await.unwrap(), Some(position(5)));
    for (generation, note) in [(first, "first"), (second, "second")] {
        assert_eq!(store.office(generation).await.unwrap(), None);
        assert_eq!(store.note(generation).await.unwrap(), None);
        let office = store.take_office(generation, None, Uuid::new_v4()).await.unwrap().unwrap();
        store.set_position(generation, &position(6), &office).await.unwrap();
        store.set_note(generation, note, &office).await.unwrap();
        assert_eq!(store.position(generation).await.unwrap(), Some(position(6)));
        assert_eq!(store.note(generation).await.unwrap().as_deref(), Some(note));
        assert_eq!(store.parked(generation, None, 10).await.unwrap(), []);
        assert_eq!(store.erasures(generation, None, 10).await.unwrap(), []);
        let erasure = StreamChange::erasure(patient_id(1), KID, 4, [(test_id(1), 2)]);
        store.apply(generation, &[erasure]).await.unwrap();
        assert_eq!(store.erasures(generation, None, 10).await.unwrap().len(), 1);
    }
    store.join(first).await.unwrap();
    let joined = Pointer { serving: second, also: Some(first) };
    assert!(store.activate(first, joined).await.unwrap());
    store.settle(second).await.unwrap();
    store.drop_generation(second).await.unwrap();
    assert_eq!(store.create().await.unwrap(), Generation(3));
}

#[tokio::test]
async fn a_file_of_the_former_format_opens_and_serves() {
    let folder = TempDir::new().unwrap();
    let (old, new) = (folder.path().join("old.db"), folder.path().join("new.db"));
    rusqlite::Connection::open(&old).unwrap().execute_batch(FILE).unwrap();
    let of_new = SqliteStore::open(&new).unwrap();
    of_new.serving().await.unwrap();
    of_new.create().await.unwrap();
    // Twice, and by two at once: the second finds nothing to do.
    let open = || {
        std::thread::spawn({
            let old = old.clone();
            move || SqliteStore::open(&old)
        })
    };
    let both = [open(), open()];
    let stores = both.map(|opening| opening.join().unwrap().unwrap());
    assert_eq!(schema(&old), schema(&new));
    check(&stores[0]).await;
    drop(stores);
    assert_eq!(SqliteStore::open(&old).unwrap().list().await.unwrap().len(), 2);
}

#[tokio::test]
async fn the_program_says_that_it_updates_a_file_and_how_long_that_took() {
    let folder = TempDir::new().unwrap();
    let old = folder.path().join("old.db");
    rusqlite::Connection::open(&old).unwrap().execute_batch(FILE).unwrap();
    let arguments =
        ["generations", "list", "--store", &format!("sqlite:{}", old.display())].map(str::to_owned);
    for updates in [true, false] {
        let run = tests::programs::run("projections", &arguments, folder.path(), PATIENCE).await;
        let output = run.unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        // No ledger is asked for.
        assert!(output.status.success(), "{log}");
        assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 2, "{log}");
        for (line, value) in [("updating the file", "bytes"), ("is updated", "seconds")] {
            let found = log.lines().any(|it| it.contains(line) && it.contains(value));
            assert_eq!(found, updates, "{log}");
        }
    }
}

#[tokio::test]
async fn status_shows_what_the_store_says_though_the_ledger_is_not_there() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("patients.db");
    SqliteStore::open(&file).unwrap().serving().await.unwrap();
    let key = folder.path().join("audit.key");
    std::fs::write(&key, runtime::secrets::random_key_hex()).unwrap();
    let arguments = [
        "status".to_owned(),
        format!("--store=sqlite:{}", file.display()),
        "--audit-url=http://127.0.0.1:1".to_owned(),
        format!("--audit-key=file:{}", key.display()),
    ];
    let run = tests::programs::run("projections", &arguments, folder.path(), PATIENCE).await;
    let output = run.unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{log}");
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).expect(&log);
    assert_eq!((&status["generation"], &status["nextSeq"]), (&1.into(), &0.into()));
    assert_eq!((status.get("ledgerSize"), status.get("lagRecords")), (None, None));
}

#[tokio::test]
async fn a_database_of_the_former_format_opens_and_serves() {
    let (uri, name) = (tests::mongod::uri().await, tests::mongod::database("former"));
    let database = Client::with_uri_str(uri).await.unwrap().database(&name);
    let date = |seq| mongodb::bson::DateTime::from_millis(at(seq).millis());
    let documents = [
        ("meta", doc! { "_id": "generations", "serving": 2_i64, "highest": 2_i64, "list": [1, 2] }),
        (
            "meta",
            doc! {
                "_id": "position_g1", "nextSeq": 5_i64, "hash": "01".repeat(32), "at": date(4),
            },
        ),
        (
            "patients_g1",
            doc! {
                "_id": patient_id(1).to_string(), "version": 3_i64, "write": ObjectId::new(),
                "status": "active", "kid": KID.to_string(), "revision": 1_i64,
                "lastUpdated": date(1), "birthDay": "1980-07-01", "firstName": "ANN",
                "gender": "female", "dateOfBirth": "1980-07", "postCode": "1234",
            },
        ),
        (
            "activity_g1",
            doc! {
                "_id": 4_i64, "at": date(4), "type": "PatientRead", "outcome": "success",
                "purpose": "TREAT", "source": "patient-service",
                "actor": { "id": "clinic", "kind": "subscription", "roles": [] },
                "patients": [patient_id(1).to_string()],
            },
        ),
    ];
    for (collection, document) in documents {
        database.collection::<Document>(collection).insert_one(document).await.unwrap();
    }
    check(&MongoStore::connect(uri, &name).await.unwrap()).await;
}
