//! A process that remembers nothing, as in a container without a disk: its anchors say what was signed.

use std::{path::Path, sync::Arc, time::Duration};

use audit_service::{
    OpenError, Parts,
    anchor::{Anchor, AnchorError, directory::DirectoryAnchor},
    outside::Outside,
    start::StartError,
    store::memory::MemoryLedger,
};

use crate::fixture::{Machine, ORIGIN, PATIENCE, Running, event, name, receipt};

const OFTEN: Duration = Duration::from_millis(20);

fn outside(folders: &[&Path]) -> Outside {
    let anchor = |folder: &&Path| {
        let anchor: Arc<dyn Anchor> = Arc::new(DirectoryAnchor::new(*folder));
        (folder.display().to_string(), anchor)
    };
    let anchors = folders.iter().map(anchor).collect();
    Outside { anchors, anchor_every: OFTEN, ..Outside::default() }
}

fn parts(machine: &Machine, store: &MemoryLedger, folders: &[&Path]) -> Parts {
    Parts { outside: outside(folders), ..machine.parts(store.clone()) }
}

/// A ledger of so many records, all of which are anchored.
async fn anchored(store: &MemoryLedger, records: u64, folder: &Path) {
    let machine = Machine::new();
    let running = machine.running(parts(&machine, store, &[folder])).await;
    for patient in 0..records {
        receipt(running.append(event(patient, 1)).await);
    }
    let anchor = DirectoryAnchor::new(folder);
    let newest = async || anchor.newest(&name(ORIGIN)).await.unwrap();
    let all = async {
        while newest().await != Some(records) {
            tokio::time::sleep(OFTEN).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("it is anchored");
    running.stop().await;
}

async fn refused(store: &MemoryLedger, folders: &[&Path]) -> OpenError {
    let machine = Machine::new();
    match Running::open(parts(&machine, store, folders)).await {
        Err(error) => error,
        Ok(_) => panic!("it was opened"),
    }
}

#[tokio::test]
async fn a_store_that_was_cut_back_is_refused_by_a_process_that_remembers_nothing() {
    let (store, folder) = (MemoryLedger::new(), tempfile::tempdir().unwrap());
    anchored(&store, 4, folder.path()).await;
    // As it is, it opens, and goes on.
    let machine = Machine::new();
    let running = machine.running(parts(&machine, &store, &[folder.path()])).await;
    assert_eq!(running.size(), 4);
    running.stop().await;
    for size in [3, 1, 0] {
        store.truncate(size);
        let error = refused(&store, &[folder.path()]).await;
        let OpenError::Start(StartError::CutBack { stored, signed: 4 }) = error else {
            panic!("{error}")
        };
        assert_eq!(stored, size);
        // Without an anchor nothing is known of it: the seals are genuine.
        let alone = Machine::new();
        alone.running(parts(&alone, &store, &[])).await.stop().await;
    }
}

#[tokio::test]
async fn another_history_than_the_anchored_one_is_refused() {
    let (store, folder) = (MemoryLedger::new(), tempfile::tempdir().unwrap());
    anchored(&store, 4, folder.path()).await;
    let (other, elsewhere) = (MemoryLedger::new(), tempfile::tempdir().unwrap());
    anchored(&other, 9, elsewhere.path()).await;
    // The clock differs, so the records do.
    let error = refused(&other, &[folder.path()]).await;
    assert!(matches!(error, OpenError::Start(StartError::Differs { .. })), "{error}");
}

#[tokio::test]
async fn of_several_anchors_the_one_that_knows_most_counts() {
    let store = MemoryLedger::new();
    let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    anchored(&store, 4, first.path()).await;
    for folders in [[first.path(), second.path()], [second.path(), first.path()]] {
        store.truncate(2);
        let error = refused(&store, &folders).await;
        assert!(matches!(error, OpenError::Start(StartError::CutBack { .. })), "{error}");
    }
}

#[tokio::test]
async fn what_is_no_checkpoint_of_this_ledger_is_refused_and_not_passed_over() {
    let (store, folder) = (MemoryLedger::new(), tempfile::tempdir().unwrap());
    anchored(&store, 2, folder.path()).await;
    let place = |size: u64| folder.path().join(format!("{size:020}.checkpoint"));
    let genuine = std::fs::read_to_string(place(2)).unwrap();
    for wrong in ["nothing", &genuine, &genuine.replace(ORIGIN, "other")] {
        std::fs::write(place(9), wrong).unwrap();
        let error = refused(&store, &[folder.path()]).await;
        let OpenError::Anchored { why: AnchorError::NotACheckpoint(_), .. } = &error else {
            panic!("{error}")
        };
        assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
        std::fs::remove_file(place(9)).unwrap();
    }
}

#[tokio::test]
async fn an_anchor_that_cannot_be_reached_is_waited_for_unless_the_process_remembers() {
    let (store, folder) = (MemoryLedger::new(), tempfile::tempdir().unwrap());
    let mount = folder.path().join("mount");
    std::fs::create_dir(&mount).unwrap();
    anchored(&store, 2, &mount).await;
    let away = folder.path().join("away");
    std::fs::rename(&mount, &away).unwrap();
    let machine = Machine::new();
    let opening = machine.running(parts(&machine, &store, &[&mount]));
    let (running, ()) = tokio::join!(opening, async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let is_open = machine.checkpoint_file().path().exists();
        assert!(!is_open, "it was opened without its anchor");
        std::fs::rename(&away, &mount).unwrap();
    });
    running.stop().await;
    // It remembers now, and does not need the anchor to start.
    std::fs::rename(&mount, &away).unwrap();
    machine.running(parts(&machine, &store, &[&mount])).await.stop().await;
}
