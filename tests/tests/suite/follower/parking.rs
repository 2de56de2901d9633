//! Parked streams in real stores, and the command line that looks after them.

use std::{path::Path, slice};

use domain::{
    event::Event,
    ids::{Name, PatientId},
    time::Timestamp,
};
use projections::{
    documents::PatientState,
    follower::Deps,
    key_ring::{KeyRing, kek::Kek},
    open::{open_key_store, open_projection_store},
};
use runtime::store_location::StoreLocation;
use serde_json::Value;
use tempfile::TempDir;
use tests::{mongod, programs};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Audit, Clinic, Following, PATIENCE, event_of, mongod_is_left_clean, person};

/// Runs `projections park`; what it printed, and whether it succeeded.
async fn park(folder: &Path, store: &str, prefix: &Name, arguments: &[&str]) -> (Vec<Value>, bool) {
    let mut all = vec!["park".to_owned()];
    all.extend(arguments.iter().map(|&it| it.to_owned()));
    all.extend(["--store".to_owned(), store.to_owned()]);
    all.extend(["--database-prefix".to_owned(), prefix.to_string()]);
    let output = programs::run("projections", &all, folder, PATIENCE).await.unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    (
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        output.status.success(),
    )
}

async fn park_and_retry(folder: &Path, location: &StoreLocation, shown: &str) {
    let prefix: Name = mongod::database("parking").parse().unwrap();
    let keys = match location {
        StoreLocation::Sqlite(_) => StoreLocation::Sqlite(folder.join("keys.db")),
        other => other.clone(),
    };
    let keys = open_key_store(&keys, &prefix).await.unwrap();
    let ring = || KeyRing::new(keys.clone(), Kek::new(Zeroizing::new([0x42; 32])));
    let audit = Audit::on_sqlite(&folder.join("ledger.db")).await;
    let store = open_projection_store(location, &prefix).await.unwrap();
    let serving = store.serving().await.unwrap();
    let clock = || Timestamp::EPOCH;
    let client = audit.client("projections");
    let deps = || Deps {
        store: store.clone(),
        audit: client.clone(),
        ring: ring(),
        ledger_key: None,
        clock,
    };

    let (clinic_ring, lost) = (ring(), PatientId::new(Uuid::new_v4()));
    let clinic = Clinic { audit: &audit, ring: &clinic_ring };
    let key = clinic_ring.fresh().await.unwrap();
    let happens = async |version, event: Event| {
        clinic.append(event_of(lost, version, &key, &event)).await;
    };
    happens(1, Event::PatientRegistered(person("Canary"))).await;
    let backup = keys.get(&[key.kid()]).await.unwrap();
    keys.destroy(key.kid()).await.unwrap();
    clinic.is_busy(3).await;
    let mut following = Following::start(deps());
    following.parks(audit.size().await, 1).await;
    happens(2, Event::PatientAmended(person("Canary"))).await;
    clinic.is_busy(3).await;
    following.parks(audit.size().await, 1).await;

    let (listed, fine) = park(folder, shown, &prefix, &["list"]).await;
    assert!(fine && listed.len() == 1, "{listed:?}");
    assert_eq!((&listed[0]["patient"], &listed[0]["seq"]), (&lost.to_string().into(), &0.into()));
    assert!(!listed[0].to_string().contains("Canary"));
    let (tried, fine) = park(folder, shown, &prefix, &["retry"]).await;
    assert!(!fine && tried[0]["outcome"] == "stillParked", "{tried:?}");
    keys.insert_batch(&backup).await.unwrap();
    let (tried, fine) = park(folder, shown, &prefix, &["retry", &lost.to_string()]).await;
    assert!(fine && tried[0]["outcome"] == "followed", "{tried:?}");
    following.parks(audit.size().await, 0).await;
    let stored = store.patient(serving, lost).await.unwrap().unwrap();
    assert_eq!(stored.version, 2);
    let (listed, fine) = park(folder, shown, &prefix, &["list"]).await;
    assert!(fine && listed.is_empty(), "{listed:?}");
    following.end().await;

    // Nobody is there to take it up.
    let row = projections::documents::Parked {
        patient: lost,
        seq: 0,
        reason: "test".to_owned(),
        at: Timestamp::EPOCH,
        retry: false,
    };
    store.park(serving, &row).await.unwrap();
    let (tried, fine) = park(folder, shown, &prefix, &["retry", "--wait=1"]).await;
    assert!(!fine && tried[0]["outcome"] == "notTakenUp", "{tried:?}");
    let mut following = Following::start(deps());
    following.parks(audit.size().await, 0).await;

    // An erasure in another process, and a key ring restored from before it.
    happens(3, Event::PatientErased).await;
    following.parks(audit.size().await, 0).await;
    let stored = store.patient(serving, lost).await.unwrap().unwrap();
    assert_eq!((stored.version, stored.state), (3, PatientState::Erased));
    following.end().await;
    keys.insert_batch(&backup).await.unwrap();
    let mut following = Following::start(deps());
    following.parks(audit.size().await, 0).await;
    assert_eq!(keys.get(slice::from_ref(&key.kid())).await.unwrap(), []);
    following.end().await;
    mongod_is_left_clean(location, &prefix).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_parked_and_tried_again_on_sqlite() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("patients.db");
    let shown = format!("sqlite:{}", file.display());
    park_and_retry(folder.path(), &StoreLocation::Sqlite(file), &shown).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_parked_and_tried_again_on_mongo() {
    let folder = TempDir::new().unwrap();
    let uri = mongod::uri().await;
    park_and_retry(folder.path(), &uri.parse().unwrap(), uri).await;
}
