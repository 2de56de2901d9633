//! Starting without what is needed: said, waited for or refused.

use std::time::{Duration, Instant};

use tests::{
    http::Api,
    mongod::Cluster,
    programs::POLL_PAUSE,
    proxy::{Mode, TcpProxy},
    samples::{a_place, plain_patient},
    system::{Layout, PATIENCE, Store, System},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_not_there_yet_is_named_and_waited_for() {
    let _place = a_place().await;
    let cluster = Cluster::start(1).await.unwrap();
    let member = cluster.member_uri(0);
    let host = member.trim_start_matches("mongodb://").split('/').next().unwrap().to_owned();
    let proxy = TcpProxy::start(host.clone()).await.unwrap();
    proxy.set(Mode::Refuse);
    let mongo = member.replace(&host, &proxy.address().to_string());
    let layout = Layout { replicas: 1, ..Layout::on(mongo) };
    let mut system = System::four_processes_started(layout).await;
    for (name, store) in [
        ("audit-service-0", "ledger store"),
        ("patient-service-0", "projection store"),
        ("projections", "projection store"),
    ] {
        says(&mut system, name, store).await;
        let api = Api::new(system.health_url(name));
        assert_eq!(api.get("/healthz").await.status, 200, "{name}");
        assert_eq!(api.get("/readyz").await.status, 503, "{name}");
        assert!(system.program(name).ended().unwrap().is_none(), "{name} ended");
    }
    assert_eq!(system.api().get("/readyz").await.status, 503);
    let answer = system.clinic().post("/patient", &plain_patient()).await;
    assert_eq!(answer.problem(503)["outcome"], "nothingStored");
    proxy.set(Mode::Forward);
    system.ready().await.expect("ready when the store is there");
    let _ = system.clinic().post("/patient", &plain_patient()).await.expect(201);
}

/// Waits until a process has said what it waits for.
async fn says(system: &mut System, name: &str, what: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !system.program(name).log().contains(what) {
        assert!(Instant::now() < deadline, "{name} never said {what}");
        tokio::time::sleep(POLL_PAUSE).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mongodb_that_is_no_replica_set_is_refused() {
    let _place = a_place().await;
    let server = Cluster::start_standalone().await.unwrap();
    // An address that leads to loopback without being one: on loopback it is let pass, to try out.
    let mongo = server.member_uri(0).replace("127.0.0.1", "0.0.0.0");
    let layout = Layout { replicas: 1, follower: false, ..Layout::on(mongo) };
    let mut system = System::four_processes_started(layout).await;
    let status = system.program("audit-service-0").wait(PATIENCE).await.unwrap();
    assert!(!status.success());
    let log = system.program("audit-service-0").log();
    assert!(log.contains("not a replica set") && log.contains("--replSet"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_is_missing_beside_data_is_named() {
    let _place = a_place().await;
    let mut system = System::standalone(Store::Sqlite).await;
    let _ = system.clinic().post("/patient", &plain_patient()).await.expect(201);
    system.program("standalone").kill().unwrap();
    let secrets = system.data().join("secrets");
    for name in ["kek.key", "ledger.key", "command.key", "seal.key"] {
        let (secret, aside) = (secrets.join(name), system.data().join("aside"));
        std::fs::rename(&secret, &aside).unwrap();
        let log = refuses_to_start(&mut system).await;
        assert!(log.contains(name), "{log}");
        assert!(!secret.exists(), "{name} was made again");
        std::fs::rename(&aside, &secret).unwrap();
    }
    system.start("standalone").await.unwrap();
    let _ = system.clinic().post("/patient", &plain_patient()).await.expect(201);
    system.finish().await;
}

/// Starts standalone, which must end by itself with an error; what it said.
pub(super) async fn refuses_to_start(system: &mut System) -> String {
    const SOON: Duration = Duration::from_secs(30);
    let before = system.program("standalone").log().len();
    system.spawn("standalone").unwrap();
    let status = system.program("standalone").wait(SOON).await.unwrap();
    let log = system.program("standalone").log()[before..].to_owned();
    assert!(!status.success(), "{log}");
    log
}
