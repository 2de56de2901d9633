//! What only one of the backends can show.

use std::{os::unix::fs::PermissionsExt, time::Instant};

use domain::{search::SearchCriteria, time::first_day};
use projections::{
    documents::ActivityFilter,
    store::{
        Applied, Generations, ReadModels, StoreError, Upkeep, WriteModels,
        memory::{Fault, MemoryStore},
        mongo::{DEADLINE, MongoStore},
        sqlite::SqliteStore,
    },
};

use super::{
    fixtures::{at, full_history, history, patient_id, registered, test_recorded, whole},
    interleavings::check_documents,
};

#[tokio::test]
async fn a_change_that_was_applied_in_part_is_completed_by_applying_it_again() {
    for (fault, then) in [
        (Fault::Before, Applied::Done),
        (Fault::TestsOnly, Applied::Done),
        (Fault::After, Applied::Already),
    ] {
        let store = MemoryStore::default();
        let generation = store.serving().await.unwrap();
        let (patient, events) = (patient_id(1), full_history());
        let change = [whole(patient, &events)];
        store.fail_applies(fault, 2);
        for _ in 0..2 {
            let failed = store.apply(generation, &change).await;
            assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{fault:?}");
        }
        let tests = store.scan_tests(generation, None, 10).await.unwrap().len();
        assert_eq!(tests, if fault == Fault::Before { 0 } else { 2 }, "{fault:?}");
        assert_eq!(store.apply(generation, &change).await.unwrap(), [then], "{fault:?}");
        check_documents(&store, generation, patient, &events).await;
    }
}

#[tokio::test]
async fn reads_of_the_memory_store_fail_as_often_as_asked() {
    let store = MemoryStore::default();
    let generation = store.serving().await.unwrap();
    store.fail_reads(1);
    assert!(store.patient(generation, patient_id(1)).await.is_err());
    assert!(store.patient(generation, patient_id(1)).await.is_ok());
}

#[tokio::test]
async fn the_embedded_store_is_its_owners_alone_and_stays_over_a_restart() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("patients.db");
    let events = history([registered("ANN"), test_recorded(1, "lab")]);
    for round in 0..2 {
        let store = SqliteStore::open(&path).unwrap();
        let generation = store.serving().await.unwrap();
        let result = store.apply(generation, &[whole(patient_id(1), &events)]).await.unwrap();
        assert_eq!(result, [if round == 0 { Applied::Done } else { Applied::Already }]);
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let mode = file.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}

/// Its connections remember the tables, and find them gone only while they read.
#[tokio::test]
async fn readers_that_knew_a_dropped_generation_are_refused() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("patients.db");
    let stores = [SqliteStore::open(&path).unwrap(), SqliteStore::open(&path).unwrap()];
    let generation = stores[0].create().await.unwrap();
    let timed = ActivityFilter { from: Some(at(1)), ..ActivityFilter::default() };
    let criteria =
        SearchCriteria { date_of_birth_from: first_day("1980"), ..SearchCriteria::default() };
    let all = async |store: &SqliteStore| {
        [
            store.parked(generation, None, 1).await.map(|_| ()),
            store.erasures(generation, None, 1).await.map(|_| ()),
            store.activity(generation, &timed, None, 1).await.map(|_| ()),
            store.activity(generation, &ActivityFilter::default(), None, 1).await.map(|_| ()),
            store.search(generation, &criteria, None, 1).await.map(|_| ()),
            store.search(generation, &SearchCriteria::default(), None, 1).await.map(|_| ()),
            store.patient(generation, patient_id(1)).await.map(|_| ()),
            store.cursors(generation, &[patient_id(1)]).await.map(|_| ()),
        ]
    };
    // Often enough that each of the readers had its turn.
    for _ in 0..40 {
        for store in &stores {
            for answer in all(store).await {
                answer.unwrap();
            }
        }
    }
    stores[0].drop_generation(generation).await.unwrap();
    for _ in 0..40 {
        for store in &stores {
            for answer in all(store).await {
                assert!(matches!(answer, Err(StoreError::Generation(2))), "{answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_file_that_is_no_store_of_ours_is_refused() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("patients.db");
    std::fs::write(&path, "not a database, but long enough to be looked at as one".repeat(20))
        .unwrap();
    assert!(matches!(SqliteStore::open(&path), Err(StoreError::Unavailable(_))));
    let newer = folder.path().join("newer.db");
    drop(SqliteStore::open(&newer).unwrap());
    let connection = rusqlite::Connection::open(&newer).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    let Err(error) = SqliteStore::open(&newer) else { panic!("it is opened") };
    assert!(matches!(error, StoreError::Layout(99)), "{error}");
    assert!(error.to_string().contains("layout 99"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_in_time_and_without_personal_data() {
    let uri = "mongodb://user:SECRETKEY@127.0.0.1:1/?directConnection=true";
    let store = MongoStore::connect(uri, "nowhere").await.unwrap();
    let generation = projections::documents::Generation(1);
    let criteria =
        SearchCriteria { first_name: Some("SECRETNAME".to_owned()), ..SearchCriteria::default() };
    let begun = Instant::now();
    let error = store.search(generation, &criteria, None, 10).await.unwrap_err();
    assert!(begun.elapsed() < DEADLINE + DEADLINE / 2);
    assert!(matches!(error, StoreError::Unavailable(_)));
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("127.0.0.1:1") && !shown.contains("SECRET"), "{shown}");
}
