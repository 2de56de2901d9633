//! Changing the key-encryption key while the ring is in use: on every store, against whatever else
//! may happen to a key at the same time.

use std::{collections::BTreeMap, sync::Arc};

use domain::ids::KeyId;
use futures::FutureExt;
use projections::key_ring::{
    KeyRing, KeyRingError,
    kek::{Kek, KekId, WrappedKey},
    keks::Keks,
    memory::{Fault, MemoryKeys},
    rotation::{Progress, RotateError, rotate},
    sqlite::SqliteKeys,
    store::{KeyStore, KeyStoreError, Rewrap, Rewrapped},
};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::{data_key, kek, month, other_kek, remains::remains, same, sorted, wrapped};

/// More than two pages of a pass.
const MANY: usize = 2_500;

/// The next key-encryption key first, and the one before that still unwraps.
fn next() -> Keks {
    Keks::new(other_kek(), vec![kek()])
}

/// As processes have it that are not told yet which is first.
fn before() -> Keks {
    Keks::new(kek(), vec![other_kek()])
}

fn ring(store: &Arc<dyn Rewrap>, keks: impl Into<Keks>) -> KeyRing {
    KeyRing::new(store.clone(), keks)
}

pub(super) async fn filled(store: &dyn Rewrap, count: usize) -> Vec<WrappedKey> {
    let keys: Vec<_> = (0..count).map(|_| wrapped()).collect();
    for batch in keys.chunks(1_000) {
        store.insert_batch(batch).await.unwrap();
    }
    keys
}

async fn rotated(store: &dyn Rewrap) -> Progress {
    rotate(store, &next(), |_| ()).await.unwrap()
}

pub(super) fn kids(keys: &[WrappedKey]) -> Vec<KeyId> {
    keys.iter().map(|key| key.kid).collect()
}

pub(super) fn anew(old: &WrappedKey) -> Rewrapped {
    Rewrapped { old: old.clone(), new: other_kek().wrap(&kek().unwrap(old).unwrap()) }
}

fn under(counts: &BTreeMap<KekId, u64>, kek: &Kek) -> u64 {
    counts.get(&kek.id()).copied().unwrap_or(0)
}

// What every store promises.

pub(super) async fn conforms(store: &Arc<dyn Rewrap>) {
    nothing_to_do(&**store).await;
    keys_are_listed_page_by_page(&**store).await;
    a_wrap_is_replaced_only_where_it_is_still_there(&**store).await;
    every_key_is_wrapped_anew_under_traffic(store).await;
    a_key_destroyed_meanwhile_stays_destroyed(store).await;
    two_rotations_at_once_and_one_cut_short_come_to_the_same(store).await;
}

async fn nothing_to_do(store: &dyn Rewrap) {
    assert_eq!(store.counts().await.unwrap(), BTreeMap::new());
    assert_eq!(store.not_under(kek().id(), None, 10).await.unwrap(), []);
    assert_eq!(store.rewrap(&[]).await.unwrap(), 0);
    store.scrub().await.unwrap();
    assert_eq!(rotated(store).await, Progress::default());
}

async fn keys_are_listed_page_by_page(store: &dyn Rewrap) {
    let mut expected = filled(store, 25).await;
    for epoch in ["2025-01", "2025-02", "2025-03"] {
        expected.push(store.claim_epoch(epoch, wrapped()).await.unwrap());
    }
    let expected = sorted(expected);
    let done = other_kek().wrap(&data_key());
    store.insert_batch(&[done]).await.unwrap();
    let mut listed: Vec<WrappedKey> = Vec::new();
    loop {
        let after = listed.last().map(|key| key.kid);
        let page = store.not_under(other_kek().id(), after, 10).await.unwrap();
        assert!(page.len() <= 10);
        if page.is_empty() {
            break;
        }
        listed.extend(page);
    }
    assert_eq!(listed, expected);
    let counts = store.counts().await.unwrap();
    assert_eq!((under(&counts, &kek()), under(&counts, &other_kek())), (28, 1));
}

async fn a_wrap_is_replaced_only_where_it_is_still_there(store: &dyn Rewrap) {
    let keys = filled(store, 4).await;
    let epoch = store.claim_epoch("2025-04", wrapped()).await.unwrap();
    let first = anew(&keys[0]);
    assert_eq!(store.rewrap(std::slice::from_ref(&first)).await.unwrap(), 1);
    store.destroy(keys[1].kid).await.unwrap();
    let foreign =
        Rewrapped { old: WrappedKey { kid: keys[3].kid, ..keys[2].clone() }, ..anew(&keys[3]) };
    let changes = [anew(&keys[0]), anew(&keys[1]), anew(&keys[2]), foreign, anew(&epoch)];
    assert_eq!(store.rewrap(&changes).await.unwrap(), 2);
    let stored = store.get(&[kids(&keys), vec![epoch.kid]].concat()).await.unwrap();
    let left = [first.new, changes[2].new.clone(), keys[3].clone(), changes[4].new.clone()];
    assert_eq!(sorted(stored), sorted(left.to_vec()));
    // An epoch keeps its name.
    assert_eq!(store.claim_epoch("2025-04", wrapped()).await.unwrap(), changes[4].new);
}

async fn every_key_is_wrapped_anew_under_traffic(store: &Arc<dyn Rewrap>) {
    let keys = filled(&**store, MANY).await;
    let epoch = ring(store, kek()).epoch_key(month("2025-05")).await.unwrap();
    let ids = [kids(&keys), vec![epoch.kid()]].concat();
    // Two processes, one that was restarted with the next key first and one that was not.
    let (told, untold) = (ring(store, next()), ring(store, before()));
    let traffic = {
        let (told, untold, ids) = (told.clone(), untold.clone(), ids.clone());
        tokio::spawn(async move {
            for kid in &ids {
                assert!(told.get(*kid).await.unwrap().is_some());
                assert!(untold.get(*kid).await.unwrap().is_some());
            }
            (told.fresh().await.unwrap(), told.epoch_key(month("2025-06")).await.unwrap())
        })
    };
    let mut shown = Vec::new();
    let done = rotate(&**store, &next(), |progress| shown.push(*progress)).await.unwrap();
    assert!(done.rewrapped > MANY as u64 && done.corrupt == 0, "{done:?}");
    assert!(shown.len() > 2 && shown.is_sorted_by_key(|progress| progress.rewrapped));
    let (fresh, month) = traffic.await.unwrap();

    let counts = store.counts().await.unwrap();
    assert_eq!((under(&counts, &kek()), counts.len()), (0, 1));
    assert_eq!(rotated(&**store).await, Progress::default());
    // They are the same keys, and one alone of the key-encryption keys opens them.
    let alone = ring(store, other_kek());
    let found = alone.get_many(&ids).await.unwrap();
    for key in &keys {
        assert!(same(&found[&key.kid], &kek().unwrap(key).unwrap()));
    }
    for key in [&epoch, &fresh, &month] {
        assert!(same(key, &alone.get(key.kid()).await.unwrap().unwrap()));
    }
    assert_eq!(ring(store, before()).get_many(&ids).await.unwrap().len(), ids.len());
    let former = ring(store, kek()).get(ids[0]).await.unwrap_err();
    assert!(matches!(former, KeyRingError::WrongKek { .. }));
}

async fn a_key_destroyed_meanwhile_stays_destroyed(store: &Arc<dyn Rewrap>) {
    let keys = filled(&**store, MANY).await;
    let doomed: Vec<_> = kids(&keys).into_iter().step_by(10).collect();
    let destroying = {
        let (store, doomed) = (store.clone(), doomed.clone());
        tokio::spawn(async move {
            for kid in doomed {
                store.destroy(kid).await.unwrap();
            }
        })
    };
    rotated(&**store).await;
    destroying.await.unwrap();
    rotated(&**store).await;
    assert_eq!(store.get(&doomed).await.unwrap(), []);
    assert_eq!(store.get(&kids(&keys)).await.unwrap().len(), MANY - doomed.len());
}

async fn two_rotations_at_once_and_one_cut_short_come_to_the_same(store: &Arc<dyn Rewrap>) {
    let keys = filled(&**store, MANY).await;
    // Cut short after its first page.
    let (tell, mut told) = mpsc::unbounded_channel();
    let cut = {
        let store = store.clone();
        let show = move |progress: &Progress| tell.send(*progress).unwrap_or_default();
        tokio::spawn(async move { rotate(&*store, &next(), show).await })
    };
    assert_eq!(told.recv().await.unwrap().found, MANY as u64);
    cut.abort();
    let _ = cut.await;
    let (one, other) = tokio::join!(rotated(&**store), rotated(&**store));
    let done = one.rewrapped + other.rewrapped;
    assert!(done <= MANY as u64 - 1_000, "{one:?} {other:?}");
    let counts = store.counts().await.unwrap();
    assert_eq!(under(&counts, &kek()), 0);
    let found = ring(store, other_kek()).get_many(&kids(&keys)).await.unwrap();
    assert!(keys.iter().all(|key| same(&found[&key.kid], &kek().unwrap(key).unwrap())));
}

// What does not depend on the store.

#[tokio::test]
async fn a_rotation_names_the_key_encryption_key_that_it_lacks_and_changes_nothing() {
    let store = MemoryKeys::default();
    let keys = filled(&store, 3).await;
    let third = Kek::new(Zeroizing::new([9; 32]));
    let error = rotate(&store, &Keks::new(other_kek(), vec![third]), |_| ()).await.unwrap_err();
    let RotateError::Missing { needed, first } = &error else { panic!("{error}") };
    assert_eq!((needed.as_slice(), *first), ([kek().id()].as_slice(), other_kek().id()));
    let text = error.to_string();
    assert!(text.contains(&kek().id().to_string()), "{text}");
    assert_eq!(sorted(store.get(&kids(&keys)).await.unwrap()), sorted(keys));
}

#[tokio::test]
async fn a_key_that_was_changed_in_the_store_does_not_keep_the_others_back() {
    let store = MemoryKeys::default();
    let keys = filled(&store, 10).await;
    let mut changed = wrapped();
    changed.wrapped[20] ^= 1;
    store.insert_batch(std::slice::from_ref(&changed)).await.unwrap();
    let done = rotated(&store).await;
    assert_eq!((done.found, done.rewrapped, done.corrupt), (11, 10, 1));
    assert_eq!(store.not_under(other_kek().id(), None, 20).await.unwrap(), [changed]);
    assert_eq!(under(&store.counts().await.unwrap(), &other_kek()), keys.len() as u64);
}

#[tokio::test]
async fn a_process_that_still_wraps_under_another_key_is_noticed() {
    let store = MemoryKeys::default();
    filled(&store, 1).await;
    let made = |_: &Progress| store.insert_batch(&[wrapped()]).now_or_never().unwrap().unwrap();
    let error = rotate(&store, &next(), made).await.unwrap_err();
    assert!(matches!(error, RotateError::StillComing { first } if first == other_kek().id()));
    rotated(&store).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_long_ends_a_rotation_and_for_a_moment_does_not() {
    let store = Arc::new(MemoryKeys::default());
    filled(&*store, 3).await;
    store.set_fault(Fault::Fails);
    let error = rotate(&*store, &next(), |_| ()).await.unwrap_err();
    assert!(matches!(error, RotateError::Store(KeyStoreError::Unavailable(_))));
    let back = {
        let store = store.clone();
        tokio::spawn(async move {
            tokio::time::sleep(std::time::Duration::from_secs(3)).await;
            store.set_fault(Fault::None);
        })
    };
    assert_eq!(rotated(&*store).await.rewrapped, 3);
    back.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_former_wrap_nor_a_destroyed_one_leaves_bytes_in_the_sqlite_files() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteKeys::open(&directory.path().join("keys.db")).unwrap();
    let mut old = filled(&store, MANY).await;
    for epoch in ["2025-01", "2025-02"] {
        old.push(store.claim_epoch(epoch, wrapped()).await.unwrap());
    }
    assert_eq!(remains(directory.path(), &old), old.len());
    for kid in kids(&old[..100]) {
        store.destroy(kid).await.unwrap();
    }
    assert_eq!(remains(directory.path(), &old[..100]), 0);
    assert_eq!(rotated(&store).await.rewrapped, old.len() as u64 - 100);
    assert_eq!(remains(directory.path(), &old), 0);
}

#[tokio::test]
async fn a_rotation_that_ended_before_it_cleaned_up_is_cleaned_up_by_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteKeys::open(&directory.path().join("keys.db")).unwrap();
    let old = filled(&store, 10).await;
    store.rewrap(&old.iter().map(anew).collect::<Vec<_>>()).await.unwrap();
    assert!(remains(directory.path(), &old) > 0, "the log has them");
    assert_eq!(rotated(&store).await, Progress::default());
    assert_eq!(remains(directory.path(), &old), 0);
}
