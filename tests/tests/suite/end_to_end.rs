//! The same scenario on every form of the system.

use tests::{
    samples::a_place,
    system::{Layout, Store, System},
};

use crate::scenario;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standalone_on_sqlite() {
    let _place = a_place().await;
    let system = System::standalone(Store::Sqlite).await;
    scenario::run(&system).await;
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standalone_on_mongodb() {
    let _place = a_place().await;
    let system = System::standalone(Store::shared_mongo().await).await;
    scenario::run(&system).await;
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_processes_with_two_replicas_on_mongodb() {
    let _place = a_place().await;
    let system = System::four_processes(Layout::shared().await).await;
    let path = scenario::run(&system).await;
    // A rebuilt generation serves, and nothing is lost in it.
    system.equals_its_rebuild_which_serves().await;
    scenario::is_there(&system, &path).await;
    system.finish().await;
}
