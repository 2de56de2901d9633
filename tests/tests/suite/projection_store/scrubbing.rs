//! What the embedded file keeps of erased patients beside its rows: asked for with the erasure,
//! overwritten afterwards, and never waited for.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use projections::{
    change::StreamChange,
    documents::Generation,
    store::{
        Applied, Generations, Upkeep, WriteModels,
        sqlite::{Scrubbing, SqliteStore},
    },
};
use rusqlite::Connection;
use tempfile::TempDir;
use uuid::Uuid;

use super::fixtures::{KID, history, patient_id, registered, run, test_id, test_recorded};

/// Patients of a store, so many that its pages were split often.
const PATIENTS: u128 = 400;

/// How long a thread may take to come to what is due.
const PATIENCE: Duration = Duration::from_mins(1);

/// As if every file were large and had been scrubbed just now.
const LARGE: Scrubbing = Scrubbing { at_once: 0, pause: Duration::from_hours(1) };

const GENERATION: Generation = Generation(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_erasures_are_scrubbed_together_and_nothing_is_left_in_the_files() {
    let folder = TempDir::new().unwrap();
    let store = filled(folder.path(), Scrubbing::default()).await;
    assert!(!store.scrub_due().await.unwrap());
    assert_eq!(counters(folder.path()), (0, 0));
    let doomed: Vec<_> = (0..PATIENTS).step_by(2).collect();
    for &number in &doomed {
        erase(&store, number).await;
    }
    let begun = Instant::now();
    while store.scrub_due().await.unwrap() {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(traces(folder.path(), &doomed), 0);
    assert_eq!(traces(folder.path(), &[1, 3]), 2);
    assert_eq!(counters(folder.path()), (200, 200));
    // Again, as the follower does, and where nothing of her ever was: nothing is due.
    assert_eq!(store.apply(GENERATION, &[erasure(0)]).await.unwrap(), [Applied::Already]);
    assert_eq!(store.apply(GENERATION, &[erasure(PATIENTS)]).await.unwrap(), [Applied::Done]);
    assert!(!store.scrub_due().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_in_a_large_file_does_not_wait_and_is_remembered_over_a_crash() {
    let folder = TempDir::new().unwrap();
    let store = filled(folder.path(), LARGE).await;
    let doomed: Vec<_> = (0..PATIENTS).step_by(2).collect();
    for &number in &doomed {
        erase(&store, number).await;
        // Its rows are gone from the tables and from the log when it is answered.
        assert_eq!(fs::metadata(folder.path().join("patients.db-wal")).unwrap().len(), 0);
    }
    assert!(store.scrub_due().await.unwrap());
    assert!(traces(folder.path(), &doomed) > 0, "there is nothing to scrub");

    // What a crash in this moment leaves is what the files hold now.
    let crashed = TempDir::new().unwrap();
    for file in fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), crashed.path().join(file.file_name())).unwrap();
    }
    let large = SqliteStore::open_scrubbing(&file(crashed.path()), LARGE).unwrap();
    assert!(large.scrub_due().await.unwrap());
    drop(large);
    let small = SqliteStore::open(&file(crashed.path())).unwrap();
    let begun = Instant::now();
    while small.scrub_due().await.unwrap() {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(traces(crashed.path(), &doomed), 0);
    assert!(store.scrub_due().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_another_process_fails_no_erasure_and_the_file_is_scrubbed_after_it() {
    let folder = TempDir::new().unwrap();
    let store = filled(folder.path(), Scrubbing::default()).await;
    let reader = Connection::open(file(folder.path())).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    reader.query_row("SELECT count(*) FROM patients_g1", (), |_| Ok(())).unwrap();
    erase(&store, 7).await;
    assert!(store.scrub_due().await.unwrap());
    reader.execute_batch("COMMIT").unwrap();
    let begun = Instant::now();
    while store.scrub_due().await.unwrap() {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(traces(folder.path(), &[7]), 0);
}

async fn filled(folder: &Path, scrubbing: Scrubbing) -> SqliteStore {
    drop(SqliteStore::open(&file(folder)).unwrap());
    let now = "UPDATE scrub SET at = unixepoch()";
    Connection::open(file(folder)).unwrap().execute(now, ()).unwrap();
    let store = SqliteStore::open_scrubbing(&file(folder), scrubbing).unwrap();
    assert_eq!(store.serving().await.unwrap(), GENERATION);
    for number in 0..PATIENTS {
        // Of many lengths, and changed once, so that rows are moved about.
        let text = |length: usize| format!("{}{}", canary(number), "x".repeat(length));
        let length = usize::try_from(number % 90).unwrap();
        let id = number + 1;
        let events = history([registered(&text(length)), test_recorded(id, &text(2 * length))]);
        for version in 0..2 {
            let change = run(patient(number), &events, version, version + 1);
            assert_eq!(store.apply(GENERATION, &[change]).await.unwrap(), [Applied::Done]);
        }
    }
    store
}

async fn erase(store: &SqliteStore, number: u128) {
    let begun = Instant::now();
    assert_eq!(store.apply(GENERATION, &[erasure(number)]).await.unwrap(), [Applied::Done]);
    assert!(begun.elapsed() < projections::store::sqlite::DEADLINE);
}

fn erasure(number: u128) -> StreamChange {
    StreamChange::erasure(patient(number), KID, 3, [(test_id(number + 1), 2)])
}

/// At a random place, the same at every run.
fn patient(number: u128) -> domain::ids::PatientId {
    let id = Uuid::from_u128((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_0c1e_85eb_ca6b));
    patient_id(id.as_u128())
}

fn canary(number: u128) -> String {
    format!("CANARY-{number:04}-")
}

fn file(folder: &Path) -> std::path::PathBuf {
    folder.join("patients.db")
}

/// Of how many patients anything stands in the files of a folder.
fn traces(folder: &Path, patients: &[u128]) -> usize {
    let files = fs::read_dir(folder).unwrap();
    let bytes: Vec<u8> = files.flat_map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
    let found: std::collections::HashSet<&[u8]> =
        bytes.windows(canary(0).len()).filter(|it| it.starts_with(b"CANARY-")).collect();
    patients.iter().filter(|number| found.contains(canary(**number).as_bytes())).count()
}

/// How often it was asked for, and how much of that is done.
fn counters(folder: &Path) -> (u32, u32) {
    let connection = Connection::open(file(folder)).unwrap();
    let sql = "SELECT asked, done FROM scrub";
    connection.query_row(sql, (), |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}
