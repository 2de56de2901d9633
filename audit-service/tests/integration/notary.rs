//! The checkpoint file: what a notary does while it fails or hangs, and when it is back.

use std::{io::Write, path::PathBuf, sync::Arc};

use audit_service::{
    checkpoint::{CheckpointError, CheckpointFile, TreeHead},
    notary::{Notary, PATIENCE as WAIT},
    store::memory::MemoryLedger,
};
use domain::hash::Hash;
use runtime::health::Readiness;
use tokio::sync::watch;

use crate::fixture::{
    Hung, Machine, a_thread_is_left, event, eventually, keys, receipt, signer,
    with_two_blocking_threads,
};

struct Office {
    notary: Arc<Notary>,
    readiness: Readiness,
    file: CheckpointFile,
    _folder: tempfile::TempDir,
}

impl Office {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = CheckpointFile::new(folder.path().join("checkpoint"));
        let readiness = Readiness::default();
        let component = readiness.component("checkpoint file");
        let (signer, (_, keys)) = (Arc::new(signer()), watch::channel(keys()));
        let notary = Arc::new(Notary::new(signer, keys, file.clone(), component));
        Self { notary, readiness, file, _folder: folder }
    }

    async fn sign(&self, size: u64) -> Result<String, CheckpointError> {
        self.notary.sign(TreeHead { size, root: Hash::ZERO }).await
    }

    fn remembered(&self) -> u64 {
        self.file.load(&keys()).unwrap().unwrap().size
    }
}

/// Makes writing fail: the file beside its place cannot be made.
pub(crate) struct Failing(PathBuf);

impl Failing {
    pub(crate) fn begin(file: &CheckpointFile) -> Self {
        let mut beside = file.path().as_os_str().to_owned();
        beside.push(format!(".{}.new", std::process::id()));
        std::fs::create_dir(&beside).unwrap();
        Self(beside.into())
    }

    pub(crate) fn end(self) {
        std::fs::remove_dir(self.0).unwrap();
    }
}

#[tokio::test]
async fn a_notary_is_ready_once_there_is_nothing_to_write_or_it_is_written() {
    for size in [0, 7] {
        let office = Office::open();
        assert!(!office.readiness.is_ready());
        office.sign(size).await.unwrap();
        assert!(office.readiness.is_ready(), "{size}");
    }
}

#[tokio::test]
async fn what_needs_no_write_does_not_make_a_file_ready_that_failed() {
    let office = Office::open();
    office.sign(5).await.unwrap();
    let failing = Failing::begin(&office.file);
    assert!(matches!(office.sign(8).await, Err(CheckpointError::File { .. })));
    assert!(!office.readiness.is_ready());
    office.sign(3).await.unwrap();
    office.sign(5).await.unwrap();
    assert!(!office.readiness.is_ready());
    failing.end();
    office.sign(8).await.unwrap();
    assert!(office.readiness.is_ready());
    assert_eq!(office.remembered(), 8);
}

#[tokio::test]
async fn a_write_that_failed_is_tried_again_though_nothing_new_comes() {
    let machine = Machine::new();
    let running = machine.open(&MemoryLedger::new()).await;
    let failing = Failing::begin(&machine.checkpoint_file());
    receipt(running.append(event(1, 1)).await);
    eventually(|| !running.readiness.is_ready()).await;
    failing.end();
    eventually(|| running.readiness.is_ready()).await;
    assert_eq!(machine.checkpoint_file().load(&keys()).unwrap().unwrap().size, 1);
    running.stop().await;
}

#[test]
fn a_file_that_hangs_holds_one_thread_and_nobody_for_ever() {
    with_two_blocking_threads(async {
        let office = Office::open();
        let note = office.sign(5).await.unwrap();
        let hung = Hung::at(office.file.path());
        let mut waiting = tokio::task::JoinSet::new();
        for size in 6..60 {
            let notary = office.notary.clone();
            let head = TreeHead { size, root: Hash::ZERO };
            waiting.spawn(async move { notary.sign(head).await });
        }
        // All of them wait by then. What is remembered is signed without any thread.
        tokio::task::yield_now().await;
        for size in 0..=5 {
            tokio::time::timeout(WAIT / 5, office.sign(size)).await.unwrap().unwrap();
        }
        assert!(a_thread_is_left().await);
        assert!(office.readiness.is_ready());
        while let Some(signed) = tokio::time::timeout(WAIT * 2, waiting.join_next()).await.unwrap()
        {
            assert!(matches!(signed.unwrap(), Err(CheckpointError::Slow)));
        }
        office.sign(5).await.unwrap();
        assert!(!office.readiness.is_ready());
        // The write goes on where it hung.
        let answering = tokio::task::spawn_blocking(move || hung.answer(&note));
        tokio::time::timeout(WAIT, answering).await.unwrap().unwrap();
        office.sign(59).await.unwrap();
        assert!(office.readiness.is_ready());
        assert_eq!(office.remembered(), 59);
    });
}

#[tokio::test]
async fn one_write_covers_everybody_who_waits() {
    let office = Office::open();
    let note = office.sign(5).await.unwrap();
    let hung = Hung::at(office.file.path());
    let sign = |size| {
        let (notary, head) = (office.notary.clone(), TreeHead { size, root: Hash::ZERO });
        async move { notary.sign(head).await }
    };
    let first = tokio::spawn(sign(6));
    let mut reader = tokio::task::spawn_blocking(move || hung.reader()).await.unwrap();
    let mut waiting: tokio::task::JoinSet<_> = [9, 7, 20, 8].into_iter().map(sign).collect();
    // All of them wait by then.
    tokio::task::yield_now().await;
    reader.write_all(note.as_bytes()).unwrap();
    drop(reader);
    first.await.unwrap().unwrap();
    waiting.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(office.remembered(), 20);
    while let Some(signed) = waiting.join_next().await {
        signed.unwrap().unwrap();
    }
}
