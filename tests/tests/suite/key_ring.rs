//! The key ring: one conformance suite over its stores, finding and destroying keys, epochs, and
//! what happens with a wrong key-encryption key or a changed store.

mod processes;
mod remains;
mod rotation;

use std::{os::unix::fs::PermissionsExt, sync::Arc};

use async_trait::async_trait;
use domain::{ids::KeyId, record::RecordType, time::Timestamp};
use futures::future::join_all;
use mongodb::Client;
use projections::{
    jwe,
    key_ring::{
        DataKey, KeyRing, KeyRingError,
        kek::{Kek, WrappedKey},
        memory::{Fault, MemoryKeys},
        mongo::MongoKeys,
        observed::observed,
        sqlite::SqliteKeys,
        store::{KeyStore, KeyStoreError},
    },
};
use tests::mongod;
use tokio::sync::Notify;
use uuid::Uuid;
use zeroize::Zeroizing;

pub(crate) fn kek() -> Kek {
    Kek::new(Zeroizing::new([0xa5; 32]))
}

fn other_kek() -> Kek {
    Kek::new(Zeroizing::new([0x5a; 32]))
}

fn ring(store: &Arc<dyn KeyStore>) -> KeyRing {
    KeyRing::new(store.clone(), kek())
}

fn data_key() -> DataKey {
    let secret = *Uuid::new_v4().as_bytes();
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&secret);
    DataKey::from_parts(KeyId::new(Uuid::new_v4()), Zeroizing::new(bytes))
}

fn wrapped() -> WrappedKey {
    kek().wrap(&data_key())
}

/// Whether two keys are the same key: what one seals the other opens.
fn same(one: &DataKey, other: &DataKey) -> bool {
    let data = jwe::seal(one, None, RecordType::PatientsSearched, None, b"{}");
    jwe::open(other, &data).is_ok()
}

fn sorted(mut keys: Vec<WrappedKey>) -> Vec<WrappedKey> {
    keys.sort_by_key(|key| key.kid);
    keys
}

fn month(text: &str) -> Timestamp {
    format!("{text}-15T10:00:00.000Z").parse().unwrap()
}

// What every store promises.

async fn conforms(store: Arc<dyn KeyStore>) {
    empty_store(&*store).await;
    keys_come_back_as_they_were(&*store).await;
    destroyed_keys_are_gone(&*store).await;
    an_epoch_has_one_key(&store).await;
    rings_share_the_store(&store).await;
}

async fn empty_store(store: &dyn KeyStore) {
    assert!(store.is_empty().await.unwrap());
    assert_eq!(store.any().await.unwrap(), None);
    assert_eq!(store.get(&[KeyId::new(Uuid::new_v4())]).await.unwrap(), []);
    assert_eq!(store.get(&[]).await.unwrap(), []);
    store.insert_batch(&[]).await.unwrap();
    assert!(store.is_empty().await.unwrap());
}

async fn keys_come_back_as_they_were(store: &dyn KeyStore) {
    let keys: Vec<_> = (0..1_024).map(|_| wrapped()).collect();
    store.insert_batch(&keys).await.unwrap();
    let kids: Vec<_> = keys.iter().map(|key| key.kid).collect();
    assert_eq!(sorted(store.get(&kids).await.unwrap()), sorted(keys.clone()));
    let unknown = KeyId::new(Uuid::new_v4());
    assert_eq!(store.get(&[unknown, kids[3]]).await.unwrap(), [keys[3].clone()]);
    assert!(keys.contains(&store.any().await.unwrap().unwrap()));
    assert!(!store.is_empty().await.unwrap());
}

async fn destroyed_keys_are_gone(store: &dyn KeyStore) {
    let keys = [wrapped(), wrapped()];
    store.insert_batch(&keys).await.unwrap();
    store.destroy(keys[0].kid).await.unwrap();
    store.destroy(keys[0].kid).await.unwrap();
    assert_eq!(store.get(&[keys[0].kid, keys[1].kid]).await.unwrap(), [keys[1].clone()]);
}

async fn an_epoch_has_one_key(store: &Arc<dyn KeyStore>) {
    let claims = (0..16).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.claim_epoch("2026-11", wrapped()).await.unwrap() })
    });
    let winners: Vec<_> = join_all(claims).await.into_iter().map(Result::unwrap).collect();
    assert!(winners.iter().all(|winner| *winner == winners[0]));
    let winner = winners[0].clone();
    assert_eq!(store.claim_epoch("2026-11", wrapped()).await.unwrap(), winner);
    assert_ne!(store.claim_epoch("2026-12", wrapped()).await.unwrap(), winner);
    // Epoch keys are found and destroyed like any other, beside data keys.
    let data = wrapped();
    store.insert_batch(std::slice::from_ref(&data)).await.unwrap();
    let both = store.get(&[winner.kid, data.kid]).await.unwrap();
    assert_eq!(sorted(both), sorted(vec![winner.clone(), data]));
    let listed = async || {
        let mut listed = store.epochs().await.unwrap();
        listed.sort_unstable();
        listed.into_iter().map(|(epoch, _)| epoch).collect::<Vec<_>>()
    };
    assert_eq!(listed().await, ["2026-11", "2026-12"]);
    assert!(store.epochs().await.unwrap().contains(&("2026-11".to_owned(), winner.kid)));
    store.destroy(winner.kid).await.unwrap();
    assert_eq!(store.get(&[winner.kid]).await.unwrap(), []);
    assert_eq!(listed().await, ["2026-12"]);
}

async fn rings_share_the_store(store: &Arc<dyn KeyStore>) {
    let (one, other) = (ring(store), ring(store));
    one.check().await.unwrap();
    let key = one.fresh().await.unwrap();
    let found = other.get(key.kid()).await.unwrap().unwrap();
    assert!(same(&key, &found));
    let at = month("2027-01");
    let (a, b) = tokio::join!(one.epoch_key(at), other.epoch_key(at));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert!(same(&a, &b));
    assert!(same(&a, &other.get(a.kid()).await.unwrap().unwrap()));
    one.destroy(key.kid()).await.unwrap();
    assert!(one.get(key.kid()).await.unwrap().is_none());
    assert!(ring(store).get(key.kid()).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_in_memory_conforms() {
    conforms(Arc::new(MemoryKeys::default())).await;
    rotation::conforms(&(Arc::new(MemoryKeys::default()) as _)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observed_store_conforms_and_its_calls_are_measured() {
    conforms(observed(Arc::new(MemoryKeys::default()), "memory")).await;
    rotation::conforms(&observed(Arc::new(MemoryKeys::default()), "memory")).await;
    let failing = Arc::new(MemoryKeys::default());
    failing.set_fault(Fault::Fails);
    observed(failing, "memory").any().await.unwrap_err();
    let metrics = runtime::metrics::process().text().unwrap();
    let name = "db_client_operation_duration_seconds_count{";
    let counted = |labels: &[&str]| {
        let fits = |line: &&str| labels.iter().all(|label| line.contains(label));
        metrics.lines().filter(|line| line.starts_with(name)).any(|line| fits(&line))
    };
    let of_keys = ["db_system_name=\"memory\"", "db_namespace=\"keys\""];
    for labels in [
        &["db_operation_name=\"insert_batch\"", "db_collection_name=\"data_keys\""],
        &["db_operation_name=\"claim_epoch\"", "db_collection_name=\"epochs\""],
        &["db_operation_name=\"any\"", "error_type=\"unavailable\""],
    ] {
        assert!(counted(&[&of_keys[..], labels].concat()), "no {labels:?} in\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sqlite_store_conforms() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.db");
    conforms(Arc::new(SqliteKeys::open(&path).unwrap())).await;
    let path = directory.path().join("rotated.db");
    rotation::conforms(&(Arc::new(SqliteKeys::open(&path).unwrap()) as _)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mongodb_store_conforms() {
    let prefix = mongod::database("key_ring");
    let client = Client::with_uri_str(mongod::uri().await).await.unwrap();
    conforms(Arc::new(MongoKeys::new(&client, &prefix))).await;
    mongod::drop_databases(&prefix).await;
    let prefix = mongod::database("key_ring");
    rotation::conforms(&(Arc::new(MongoKeys::new(&client, &prefix)) as _)).await;
    mongod::drop_databases(&prefix).await;
}

#[tokio::test]
async fn the_sqlite_file_is_private_and_outlives_its_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let key = wrapped();
    {
        let store = SqliteKeys::open(&path).unwrap();
        store.insert_batch(std::slice::from_ref(&key)).await.unwrap();
        for file in std::fs::read_dir(directory.path()).unwrap() {
            let mode = file.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
    let store = SqliteKeys::open(&path).unwrap();
    assert_eq!(store.get(&[key.kid]).await.unwrap(), [key]);
}

#[tokio::test]
async fn a_destroyed_key_leaves_no_bytes_in_the_sqlite_files() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteKeys::open(&directory.path().join("keys.db")).unwrap();
    let keys: Vec<_> = (0..100).map(|_| wrapped()).collect();
    store.insert_batch(&keys).await.unwrap();
    let bytes = || -> Vec<u8> {
        let files = std::fs::read_dir(directory.path()).unwrap();
        files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
    };
    let holds = |needle: &[u8]| bytes().windows(needle.len()).any(|window| window == needle);
    assert!(holds(&keys[50].wrapped));
    store.destroy(keys[50].kid).await.unwrap();
    assert!(!holds(&keys[50].wrapped));
    assert!(holds(&keys[51].wrapped));
}

// Finding, forgetting, destroying.

#[tokio::test]
async fn keys_are_read_together_and_then_from_memory() {
    let memory = Arc::new(MemoryKeys::default());
    let keys: Vec<_> = (0..10).map(|_| wrapped()).collect();
    memory.insert_batch(&keys).await.unwrap();
    let ring = KeyRing::new(memory.clone(), kek());
    let mut kids: Vec<_> = keys.iter().map(|key| key.kid).collect();
    kids.push(kids[0]);
    kids.push(KeyId::new(Uuid::new_v4()));
    let found = ring.get_many(&kids).await.unwrap();
    assert_eq!(found.len(), 10);
    assert!(found.iter().all(|(kid, key)| *kid == key.kid()));
    memory.set_fault(Fault::Fails);
    assert_eq!(ring.get_many(&kids[..10]).await.unwrap().len(), 10);
    ring.forget(kids[0]);
    assert!(matches!(ring.get(kids[0]).await, Err(KeyRingError::Unavailable(_))));
}

#[tokio::test]
async fn a_key_destroyed_while_it_is_read_is_not_kept() {
    /// Answers with the key only after the ring has forgotten it.
    struct Overtaken(Arc<MemoryKeys>, Notify, Notify);

    #[async_trait]
    impl KeyStore for Overtaken {
        async fn insert_batch(&self, keys: &[WrappedKey]) -> Result<(), KeyStoreError> {
            self.0.insert_batch(keys).await
        }
        async fn get(&self, kids: &[KeyId]) -> Result<Vec<WrappedKey>, KeyStoreError> {
            let found = self.0.get(kids).await;
            self.1.notify_one();
            self.2.notified().await;
            found
        }
        async fn destroy(&self, kid: KeyId) -> Result<(), KeyStoreError> {
            self.0.destroy(kid).await
        }
        async fn claim_epoch(&self, e: &str, k: WrappedKey) -> Result<WrappedKey, KeyStoreError> {
            self.0.claim_epoch(e, k).await
        }
        async fn epochs(&self) -> Result<Vec<(String, KeyId)>, KeyStoreError> {
            self.0.epochs().await
        }
        async fn any(&self) -> Result<Option<WrappedKey>, KeyStoreError> {
            self.0.any().await
        }
    }

    let memory = Arc::new(MemoryKeys::default());
    let key = wrapped();
    memory.insert_batch(std::slice::from_ref(&key)).await.unwrap();
    let store = Arc::new(Overtaken(memory, Notify::default(), Notify::default()));
    let ring = KeyRing::new(store.clone(), kek());
    let reader = tokio::spawn({
        let ring = ring.clone();
        async move { ring.get(key.kid).await }
    });
    store.1.notified().await;
    ring.destroy(key.kid).await.unwrap();
    store.2.notify_one();
    assert!(reader.await.unwrap().unwrap().is_some());
    store.2.notify_one();
    assert!(ring.get(key.kid).await.unwrap().is_none());
}

#[tokio::test]
async fn an_epoch_is_a_calendar_month() {
    let ring = KeyRing::new(Arc::new(MemoryKeys::default()), kek());
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let first = ring.epoch_key(at("2026-11-01T00:00:00.000Z")).await.unwrap();
    let last = ring.epoch_key(at("2026-11-30T23:59:59.999Z")).await.unwrap();
    let next = ring.epoch_key(at("2026-12-01T00:00:00.000Z")).await.unwrap();
    let again = ring.epoch_key(at("2026-11-30T23:59:59.999Z")).await.unwrap();
    assert!(same(&first, &last) && same(&first, &again));
    assert!(!same(&first, &next));
}

// Key-encryption keys, and stores that were changed.

#[tokio::test]
async fn a_wrong_key_encryption_key_is_found_at_start() {
    let memory = Arc::new(MemoryKeys::default());
    KeyRing::new(memory.clone(), other_kek()).check().await.unwrap();
    memory.insert_batch(&[wrapped()]).await.unwrap();
    KeyRing::new(memory.clone(), kek()).check().await.unwrap();
    let error = KeyRing::new(memory, other_kek()).check().await.unwrap_err();
    let KeyRingError::WrongKek { needed, ref given } = error else { panic!("{error}") };
    assert_eq!(needed, kek().id());
    assert_eq!(*given, [other_kek().id()]);
    let text = error.to_string();
    assert!(text.contains(&needed.to_string()) && text.contains(&given[0].to_string()));
}

#[tokio::test]
async fn keys_changed_or_swapped_in_the_store_do_not_unwrap() {
    let (one, other) = (wrapped(), wrapped());
    let check = |changed: WrappedKey| {
        assert!(matches!(kek().unwrap(&changed), Err(KeyRingError::Corrupt(_))));
    };
    for at in 0..one.wrapped.len() {
        let mut changed = one.clone();
        changed.wrapped[at] ^= 1;
        check(changed);
    }
    check(WrappedKey { wrapped: other.wrapped.clone(), ..one.clone() });
    check(WrappedKey { wrapped: one.wrapped[1..].to_vec(), ..one.clone() });
    check(WrappedKey { wrapped: Vec::new(), ..one.clone() });
    assert!(kek().unwrap(&one).is_ok());
}

#[test]
fn debug_forms_show_no_key() {
    let secret = *b"canary-canary-canary-canary-can!";
    let key = DataKey::from_parts(KeyId::new(Uuid::from_u128(7)), Zeroizing::new(secret));
    let kek = Kek::new(Zeroizing::new(secret));
    let wrapped = kek.wrap(&key);
    let ring = KeyRing::new(Arc::new(MemoryKeys::default()), Kek::new(Zeroizing::new(secret)));
    let shown = format!("{key:?} {kek:?} {wrapped:?} {ring:?} {key:#?} {kek:#?} {wrapped:#?}");
    for bytes in [&secret[..], &wrapped.wrapped] {
        for window in bytes.windows(4) {
            let decimal: Vec<_> = window.iter().map(u8::to_string).collect();
            let hex = format!("{:08x}", u32::from_be_bytes(window.try_into().unwrap()));
            assert!(!shown.contains(&decimal.join(", ")), "{shown}");
            assert!(!shown.to_lowercase().contains(&hex), "{shown}");
        }
    }
    assert!(!shown.contains("canary"), "{shown}");
    assert!(shown.contains(&key.kid().to_string()));
}
