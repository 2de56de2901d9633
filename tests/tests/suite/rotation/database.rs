//! The password of the database.

use std::{fs, time::Instant};

use tests::{
    mongod::{self, Cluster},
    programs::POLL_PAUSE,
    samples::a_place,
    system::{Layout, PATIENCE, System},
};

use super::at_work;

/// What the services keep on a MongoDB; the names begin with the prefix.
const DATABASES: [&str; 4] = ["ledger", "patients", "keys", "gateway"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn database_credentials_are_replaced_under_load_without_a_failed_request() {
    let _place = a_place().await;
    let (cluster, administrator) = Cluster::start_with_users().await.unwrap();
    let prefix = mongod::database("credentials");
    let databases = DATABASES.map(|name| format!("{prefix}_{name}"));
    let former = cluster.add_user(&administrator, "vitalog-1", &databases).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mongo.uri");
    fs::write(&file, former.uri()).unwrap();
    let mongo = format!("file:{}", file.display());
    let layout = Layout { prefix, balanced: true, ..Layout::on(&mongo) };
    let mut system = System::four_processes(layout).await;
    let load = at_work(&system, &mongo).await;

    // As the docs say: a second user with the same roles, the secret, each replica, the first user.
    assert!(administrator.connections(&former).await.unwrap() > 0);
    let next = cluster.add_user(&administrator, "vitalog-2", &databases).await.unwrap();
    fs::write(&file, next.uri()).unwrap();
    for name in system.running() {
        system.roll(&name).await.unwrap();
    }
    let deadline = Instant::now() + PATIENCE;
    while administrator.connections(&former).await.unwrap() > 0 {
        assert!(Instant::now() < deadline, "somebody still uses the former credentials");
        tokio::time::sleep(POLL_PAUSE).await;
    }
    administrator.remove(&former).await.unwrap();
    assert!(!former.may_enter().await.unwrap() && next.may_enter().await.unwrap());
    load.go_on().await;
    load.finish().await;

    system.equals_its_rebuild().await;
    for (name, log) in system.logs() {
        for user in [&former, &next] {
            assert!(!log.contains(&user.password), "the log of {name} has a password");
        }
    }
    system.finish().await;
}
