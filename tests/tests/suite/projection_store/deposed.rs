//! A primary that is cut off answers reads for a while, and cannot confirm them.

use projections::store::{Generations, ReadModels, StoreError, WriteModels, mongo::MongoStore};
use tests::{mongod::Cluster, samples::a_place};

use super::fixtures::{history, patient_id, registered, whole};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_without_a_majority_confirms_nothing() {
    let _place = a_place().await;
    let cluster = Cluster::start(3).await.unwrap();
    let primary = cluster.primary().await.unwrap();
    let store = MongoStore::connect(&cluster.member_uri(primary), "deposed").await.unwrap();
    let generation = store.serving().await.unwrap();
    let patient = patient_id(1);
    let change = whole(patient, &history([registered("ANN")]));
    store.apply(generation, &[change]).await.unwrap();
    store.confirm().await.unwrap();

    let others: Vec<usize> = (0..3).filter(|node| *node != primary).collect();
    for node in &others {
        cluster.pause(*node).unwrap();
    }
    assert!(store.patient(generation, patient).await.unwrap().is_some(), "it does not know yet");
    let confirmed = store.confirm().await;
    assert!(matches!(confirmed, Err(StoreError::Unavailable(_))), "{confirmed:?}");
    for node in others {
        cluster.resume(node).unwrap();
    }
}
