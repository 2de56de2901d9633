//! Anchors: what every kind promises, what each does with its own troubles, and the service that
//! writes to them.

use std::{os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use audit_service::{
    anchor::{
        Anchor, AnchorError,
        azure::{
            Access, AzureBlobAnchor,
            token::{Endpoint, Identity},
        },
        directory::DirectoryAnchor,
        read_all,
    },
    outside::Outside,
    service::system_clock,
    store::memory::MemoryLedger,
};
use runtime::secrets::{Secret, SecretRef};
use tempfile::TempDir;

use crate::{
    blob_store::{BlobStore, SAS},
    fixture::{
        Hung, Machine, ORIGIN, PATIENCE, Running, a_thread_is_left, event, eventually, name,
        receipt, remember_the_empty_ledger, with_two_blocking_threads,
    },
    witness_fixture::{Log, Witness, ledger_secret, witness_secret},
};

/// A file with a shared access signature.
fn sas(folder: &TempDir, sas: &str) -> SecretRef {
    let path = folder.path().join("sas");
    std::fs::write(&path, sas).unwrap();
    format!("file:{}", path.display()).parse().unwrap()
}

fn container(url: &str, access: Access) -> AzureBlobAnchor {
    AzureBlobAnchor::new(url.parse().unwrap(), access, system_clock())
}

async fn blob_anchor(folder: &TempDir) -> (BlobStore, AzureBlobAnchor) {
    let (store, url) = BlobStore::start().await;
    (store, container(&url, Access::Sas(sas(folder, SAS))))
}

/// What every anchor promises.
async fn check(anchor: &dyn Anchor) {
    let (origin, log, fork) = (name(ORIGIN), Log::new(), Log::forked_at(3));
    assert_eq!(read_all(anchor, &origin).await.unwrap(), []);
    assert!(matches!(anchor.read(&origin, 5).await, Err(AnchorError::Missing { size: 5 })));
    assert_eq!(anchor.newest(&origin).await.unwrap(), None);

    let sizes = [5, 1, 64, 9, 10, 33, 2];
    for size in sizes {
        anchor.keep(&origin, size, &log.note(size)).await.unwrap();
    }
    // The same again, and the same with a cosignature: the first one stays.
    let cosigned = log.note(5) + &witness_secret(1).cosign(&log.note(5), 7).unwrap();
    for note in [&log.note(5), &cosigned] {
        anchor.keep(&origin, 5, note).await.unwrap();
    }
    let differs = anchor.keep(&origin, 5, &fork.note(5)).await;
    assert!(matches!(differs, Err(AnchorError::Differs { size: 5 })), "{differs:?}");
    // Not a checkpoint of this size, and none of this ledger.
    let wrong = anchor.keep(&origin, 6, &log.note(5)).await;
    assert!(matches!(wrong, Err(AnchorError::NotACheckpoint(_))), "{wrong:?}");
    let wrong = anchor.keep(&name("other"), 5, &log.note(5)).await;
    assert!(matches!(wrong, Err(AnchorError::NotACheckpoint(_))), "{wrong:?}");

    let mut expected: Vec<_> = sizes.iter().map(|size| (*size, log.note(*size))).collect();
    expected.sort_unstable();
    assert_eq!(read_all(anchor, &origin).await.unwrap(), expected);
    assert_eq!(anchor.newest(&origin).await.unwrap(), Some(64));
}

#[tokio::test]
async fn a_directory_keeps_what_every_anchor_must() {
    let folder = tempfile::tempdir().unwrap();
    check(&DirectoryAnchor::new(folder.path())).await;
}

#[tokio::test]
async fn a_container_keeps_what_every_anchor_must() {
    let folder = tempfile::tempdir().unwrap();
    for policy in [true, false] {
        let (store, anchor) = blob_anchor(&folder).await;
        if !policy {
            store.without_policy();
        }
        store.put("other/00000000000000000003.checkpoint", "of another ledger");
        store.put("test-ledger/notes & so on", "something else");
        check(&anchor).await;
    }
}

#[tokio::test]
async fn files_are_named_by_size_and_read_only_and_none_is_left_unfinished() {
    let folder = tempfile::tempdir().unwrap();
    let anchor = DirectoryAnchor::new(folder.path());
    let log = Log::new();
    anchor.keep(&name(ORIGIN), 5, &log.note(5)).await.unwrap();
    anchor.keep(&name(ORIGIN), 5, &log.note(5)).await.unwrap();
    let entries: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap).collect();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].file_name(), "00000000000000000005.checkpoint");
    assert_eq!(entries[0].metadata().unwrap().permissions().mode() & 0o777, 0o444);

    let missing = DirectoryAnchor::new(folder.path().join("missing"));
    let kept = missing.keep(&name(ORIGIN), 5, &log.note(5)).await;
    assert!(matches!(kept, Err(AnchorError::Io(_))), "{kept:?}");
    assert!(matches!(missing.sizes(&name(ORIGIN)).await, Err(AnchorError::Io(_))));
}

#[tokio::test]
async fn what_is_no_note_is_an_error_and_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (store, blobs) = blob_anchor(&folder).await;
    let files = DirectoryAnchor::new(folder.path());
    for (size, content) in [(1, vec![0xff; 9]), (2, vec![b'x'; 200_000])] {
        store.put(&format!("{ORIGIN}/{size:020}.checkpoint"), content.clone());
        std::fs::write(folder.path().join(format!("{size:020}.checkpoint")), content).unwrap();
        for anchor in [&blobs as &dyn Anchor, &files] {
            let read = anchor.read(&name(ORIGIN), size).await;
            assert!(matches!(read, Err(AnchorError::NotANote { .. })), "{size}: {read:?}");
        }
    }
    let kept = blobs.keep(&name(ORIGIN), 1, &Log::new().note(1)).await;
    assert!(matches!(kept, Err(AnchorError::Differs { size: 1 })), "{kept:?}");
}

#[tokio::test]
async fn a_container_that_is_busy_is_asked_again_after_the_time_that_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let (store, anchor) = blob_anchor(&folder).await;
    let (origin, note) = (name(ORIGIN), Log::new().note(5));
    store.trouble(503, "ServerBusy", Some(1));
    store.trouble(429, "TooManyRequests", Some(0));
    let started = std::time::Instant::now();
    anchor.keep(&origin, 5, &note).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    // Tries are bounded, and the last answer is told.
    (0..4).for_each(|_| store.trouble(503, "ServerBusy", Some(0)));
    let before = store.requests().len();
    let error = anchor.keep(&origin, 6, &Log::new().note(6)).await.unwrap_err();
    assert!(matches!(&error, AnchorError::Status { status: 503, code } if code == "ServerBusy"));
    assert_eq!(store.requests().len(), before + 4);
}

#[tokio::test]
async fn an_upload_whose_answer_got_lost_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let (store, anchor) = blob_anchor(&folder).await;
    store.lose_answer();
    anchor.keep(&name(ORIGIN), 5, &Log::new().note(5)).await.unwrap();
    assert_eq!(store.names(), [format!("{ORIGIN}/{:020}.checkpoint", 5)]);
}

#[tokio::test]
async fn whatever_a_container_says_of_an_existing_blob_it_is_read_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let (store, anchor) = blob_anchor(&folder).await;
    let (origin, log) = (name(ORIGIN), Log::new());
    anchor.keep(&origin, 5, &log.note(5)).await.unwrap();
    for (status, code) in
        [(409, "BlobAlreadyExists"), (409, "BlobImmutableDueToPolicy"), (412, "ConditionNotMet")]
    {
        store.answer_conflicts_with(status, code);
        anchor.keep(&origin, 5, &log.note(5)).await.unwrap();
        let differs = anchor.keep(&origin, 5, &Log::forked_at(3).note(5)).await;
        assert!(matches!(differs, Err(AnchorError::Differs { size: 5 })), "{code}");
    }
    // A conflict without a blob is another trouble.
    store.trouble(409, "ContainerBeingDeleted", None);
    let error = anchor.keep(&origin, 6, &log.note(6)).await.unwrap_err();
    assert!(
        matches!(&error, AnchorError::Status { status: 409, code } if code == "ContainerBeingDeleted")
    );
}

#[tokio::test]
async fn a_refused_signature_is_told_without_showing_it() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, url) = BlobStore::start().await;
    let wrong = "sv=2021-12-02&sig=another-canary";
    let refused = container(&url, Access::Sas(sas(&folder, wrong)));
    let error = refused.keep(&name(ORIGIN), 5, &Log::new().note(5)).await.unwrap_err();
    assert!(
        matches!(&error, AnchorError::Status { status: 403, code } if code == "AuthenticationFailed")
    );
    assert!(matches!(
        refused.sizes(&name(ORIGIN)).await,
        Err(AnchorError::Status { status: 403, .. })
    ));

    // Read again for each request, with or without the question mark.
    sas(&folder, &format!("?{SAS}\n"));
    refused.keep(&name(ORIGIN), 5, &Log::new().note(5)).await.unwrap();

    // No answer at all: the URL, which has the signature, is in no error.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = format!("http://{}/account/ledger", listener.local_addr().unwrap());
    drop(listener);
    let gone = container(&gone, Access::Sas(sas(&folder, wrong)));
    let error = gone.read(&name(ORIGIN), 5).await.unwrap_err();
    let shown = format!("{error:?} {error} {:?}", std::error::Error::source(&error));
    assert!(!shown.contains("canary"), "{shown}");
}

#[tokio::test]
async fn a_managed_identity_has_one_token_until_it_is_refused() {
    for app in [true, false] {
        let (store, url) = BlobStore::start().await;
        let endpoint = url.replace("/account/ledger", "/token");
        let header = Secret::new("app-secret");
        let endpoint =
            if app { Endpoint::App { url: endpoint, header } } else { Endpoint::Machine(endpoint) };
        let anchor = container(&url, Access::Identity(Identity::new(endpoint, None)));
        for size in 1..=4 {
            anchor.keep(&name(ORIGIN), size, &Log::new().note(size)).await.unwrap();
        }
        assert_eq!(read_all(&anchor, &name(ORIGIN)).await.unwrap().len(), 4);
        assert_eq!(store.tokens_given(), 1);
        store.trouble(401, "InvalidAuthenticationInfo", None);
        anchor.keep(&name(ORIGIN), 5, &Log::new().note(5)).await.unwrap();
        assert_eq!(store.tokens_given(), 2, "app: {app}");
    }
    let (_, url) = BlobStore::start().await;
    let refusing =
        Endpoint::App { url: url.replace("/account/ledger", "/token"), header: Secret::new("x") };
    let anchor = container(&url, Access::Identity(Identity::new(refusing, None)));
    assert!(matches!(anchor.sizes(&name(ORIGIN)).await, Err(AnchorError::Token(_))));
}

#[tokio::test]
async fn a_listing_has_every_page() {
    let folder = tempfile::tempdir().unwrap();
    let (store, anchor) = blob_anchor(&folder).await;
    for size in 0..20_u64 {
        store.put(&format!("{ORIGIN}/{size:020}.checkpoint"), "note");
    }
    assert_eq!(anchor.sizes(&name(ORIGIN)).await.unwrap(), (0..20).collect::<Vec<_>>());
    assert_eq!(store.requests().len(), 7);
}

#[tokio::test]
async fn the_newest_of_many_is_found_without_listing_all_and_whatever_else_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let (store, anchor) = blob_anchor(&folder).await;
    let put = |size: u64| store.put(&format!("{ORIGIN}/{size:020}.checkpoint"), "note");
    (0..2_000).for_each(|number| put(number * 7));
    let before = store.requests().len();
    assert_eq!(anchor.newest(&name(ORIGIN)).await.unwrap(), Some(13_993));
    assert!(store.requests().len() - before <= 201, "{}", store.requests().len() - before);
    put(u64::MAX);
    assert_eq!(anchor.newest(&name(ORIGIN)).await.unwrap(), Some(u64::MAX));
    // Names that begin like a size and are none.
    for other in ["9-notes.txt", "99999999999999999999.checkpoint", "00000000000000099999.old"] {
        store.put(&format!("{ORIGIN}/{other}"), "note");
        assert_eq!(anchor.newest(&name(ORIGIN)).await.unwrap(), Some(u64::MAX), "{other}");
    }
}

#[test]
fn a_directory_that_hangs_holds_one_thread_and_is_used_again_when_it_is_back() {
    with_two_blocking_threads(async {
        let (folder, log) = (tempfile::tempdir().unwrap(), Log::new());
        let anchor = DirectoryAnchor::new(folder.path());
        let (origin, note) = (name(ORIGIN), log.note(5));
        let hung = Hung::at(folder.path().join(format!("{:020}.checkpoint", 5)));
        // Rounds of the keeper, each of which gives up.
        for _ in 0..5 {
            let kept = tokio::time::timeout(OFTEN, anchor.keep(&origin, 5, &note)).await;
            assert!(kept.is_err(), "{kept:?}");
        }
        assert!(a_thread_is_left().await);
        let answering = tokio::task::spawn_blocking({
            let note = note.clone();
            move || hung.answer(&note)
        });
        tokio::time::timeout(PATIENCE, answering).await.expect("one thread reads it").unwrap();
        let kept = tokio::time::timeout(PATIENCE, anchor.keep(&origin, 6, &log.note(6))).await;
        kept.expect("the directory is used again").unwrap();
    });
}

fn every(every: Duration, anchors: Vec<Arc<dyn Anchor>>) -> Outside {
    let anchors = anchors.into_iter().map(|anchor| ("test".to_owned(), anchor)).collect();
    Outside { anchors, anchor_every: every, ..Outside::default() }
}

async fn open(store: &MemoryLedger, outside: Outside) -> Running {
    let parts = Machine::new().parts(store.clone());
    // The machine's folder goes; the checkpoint file is not what is tested here.
    let file = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    std::fs::remove_file(&file).unwrap();
    let checkpoint_file = audit_service::checkpoint::CheckpointFile::new(file.to_path_buf());
    remember_the_empty_ledger(&checkpoint_file);
    Running::open(audit_service::Parts { outside, checkpoint_file, ..parts }).await.unwrap()
}

fn sizes_in(folder: &Path) -> Vec<u64> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut sizes: Vec<u64> = names
        .filter_map(|name| name.to_str().unwrap().strip_suffix(".checkpoint")?.parse().ok())
        .collect();
    sizes.sort_unstable();
    sizes
}

/// Checks that each anchored checkpoint is genuine and of the ledger.
async fn are_of(store: &MemoryLedger, anchor: &dyn Anchor) -> usize {
    let anchored = read_all(anchor, &name(ORIGIN)).await.unwrap();
    for (size, note) in &anchored {
        let head = ledger_secret().public().open(note).unwrap();
        let block = store.blocks().into_iter().find(|block| block.end() == *size).unwrap();
        assert_eq!((head.size, head.root), (*size, block.root));
    }
    anchored.len()
}

const OFTEN: Duration = Duration::from_millis(20);
const SELDOM: Duration = Duration::from_hours(1);

#[tokio::test]
async fn the_service_anchors_what_is_new_and_the_last_head_when_it_stops() {
    let (folder, store) = (tempfile::tempdir().unwrap(), MemoryLedger::new());
    let anchor = Arc::new(DirectoryAnchor::new(folder.path()));
    let running = open(&store, every(OFTEN, vec![anchor.clone()])).await;
    for version in 1..=3 {
        receipt(running.append(event(1, version)).await);
        eventually(|| sizes_in(folder.path()).last() == Some(&version)).await;
    }
    running.stop().await;
    assert_eq!(sizes_in(folder.path()), [1, 2, 3]);
    // A ledger that does not move leaves nothing, also after a restart.
    let running = open(&store, every(SELDOM, vec![anchor.clone()])).await;
    receipt(running.append(event(1, 4)).await);
    receipt(running.append(event(1, 5)).await);
    running.stop().await;
    assert_eq!(sizes_in(folder.path()).last(), Some(&5));
    assert!(are_of(&store, &*anchor).await >= 4);
}

#[tokio::test]
async fn replicas_share_anchors_of_both_kinds() {
    let (folder, secrets, store) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), MemoryLedger::new());
    let files = Arc::new(DirectoryAnchor::new(folder.path()));
    let (_blobs, blobs) = blob_anchor(&secrets).await;
    let blobs = Arc::new(blobs);
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(open(&store, every(OFTEN, vec![files.clone(), blobs.clone()])).await);
    }
    for n in 0..30 {
        receipt(replicas[n % 3].append(event(n as u64, 1)).await);
    }
    eventually(|| sizes_in(folder.path()).last() == Some(&30)).await;
    for replica in replicas {
        replica.stop().await;
    }
    assert!(are_of(&store, &*files).await >= 1);
    assert!(are_of(&store, &*blobs).await >= 1);
    assert_eq!(blobs.sizes(&name(ORIGIN)).await.unwrap().last(), Some(&30));
}

#[tokio::test]
async fn an_anchor_that_fails_holds_nothing_up_and_gets_the_newest_when_it_is_back() {
    let (folder, store) = (tempfile::tempdir().unwrap(), MemoryLedger::new());
    let place = folder.path().join("mount");
    let good = tempfile::tempdir().unwrap();
    let anchors: Vec<Arc<dyn Anchor>> =
        vec![Arc::new(DirectoryAnchor::new(&place)), Arc::new(DirectoryAnchor::new(good.path()))];
    let running = open(&store, every(OFTEN, anchors)).await;
    for version in 1..=3 {
        receipt(running.append(event(1, version)).await);
        eventually(|| sizes_in(good.path()).last() == Some(&version)).await;
    }
    assert!(running.readiness.is_ready());
    std::fs::create_dir(&place).unwrap();
    eventually(|| sizes_in(&place) == [3]).await;
    running.stop().await;
}

#[tokio::test]
async fn another_history_in_an_anchor_is_not_overwritten() {
    let (folder, store) = (tempfile::tempdir().unwrap(), MemoryLedger::new());
    let anchor = Arc::new(DirectoryAnchor::new(folder.path()));
    let other = Log::new().note(1);
    anchor.keep(&name(ORIGIN), 1, &other).await.unwrap();
    let running = open(&store, every(OFTEN, vec![anchor.clone()])).await;
    receipt(running.append(event(1, 1)).await);
    receipt(running.append(event(1, 2)).await);
    eventually(|| sizes_in(folder.path()).contains(&2)).await;
    running.stop().await;
    assert_eq!(anchor.read(&name(ORIGIN), 1).await.unwrap(), other);
}

#[tokio::test]
async fn what_witnesses_cosigned_is_anchored_with_their_signatures() {
    let (folder, store) = (tempfile::tempdir().unwrap(), MemoryLedger::new());
    let anchor = Arc::new(DirectoryAnchor::new(folder.path()));
    let witness = Witness::start(1).await;
    let outside = Outside { witnesses: vec![witness.spec()], ..every(OFTEN, vec![anchor.clone()]) };
    let running = open(&store, outside).await;
    let cosigned = |size: u64| {
        let path = folder.path().join(format!("{size:020}.checkpoint"));
        let note = std::fs::read_to_string(path);
        note.is_ok_and(|note| witness.key.cosigned_at(&note).unwrap().is_some())
    };
    receipt(running.append(event(1, 1)).await);
    eventually(|| cosigned(1)).await;
    receipt(running.append(event(1, 2)).await);
    running.stop().await;
    assert_eq!(sizes_in(folder.path()).last(), Some(&2));
    witness.stop().await;
}
