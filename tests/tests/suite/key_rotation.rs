//! The ledger's signing key is rotated under processes that append to one MongoDB.

use audit_client::AppendError;
use audit_verify::key_history::KeyHistory;
use domain::{record::RecordType, wire::Stored};
use tests::{mongod, programs, samples::a_place};

use super::ledger_processes::{Deployment, Load, PATIENCE, event, ledger_secret, next_secret};

/// Writers at once.
const WRITERS: usize = 16;

const BOTH: [&str; 2] = ["ledger.key", "next.key"];

/// Runs `rotate-key` through one of the processes; what it printed.
async fn rotate_key(deployment: &Deployment, replica: usize) -> String {
    let file = |name: &str| format!("file:{}", deployment.file(name).display());
    let arguments = [
        "rotate-key".to_owned(),
        format!("--url={}", deployment.replicas[replica].url),
        format!("--caller-key={}", file("operator.key")),
        format!("--signing-key={}", file("ledger.key")),
        format!("--next={}", file("next.key")),
        format!("--public={}", deployment.file("next.pub").display()),
    ];
    let folder = deployment.file("");
    let output = programs::run("audit-service", &arguments, &folder, PATIENCE).await.unwrap();
    let (said, error) = (String::from_utf8(output.stdout).unwrap(), output.stderr);
    assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&error));
    said
}

async fn readiness(deployment: &Deployment, replica: usize) -> String {
    let url = format!("{}/readyz", deployment.replicas[replica].url);
    reqwest::get(url).await.unwrap().text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_append_fails_while_the_key_is_rotated_and_one_without_the_new_key_stops() {
    let _place = a_place().await;
    let uri = mongod::uri().await;
    let mut deployment = Deployment::start_with(&BOTH, uri, &[uri, uri]).await;
    let load = Load::new(&deployment);
    let writers = load.writers(WRITERS);
    load.go_on(100).await;
    let unprepared = deployment.add_with(&["ledger.key"], uri);
    deployment.replicas[unprepared].become_ready().await;
    let before = deployment.replicas[0].client().checkpoint().await.unwrap();

    let (old, new) = (ledger_secret().public(), next_secret().public());
    let said = rotate_key(&deployment, 0).await;
    assert!(said.starts_with("rotated: seq=") && said.ends_with(&format!("\n{new}\n")), "{said}");
    let public = std::fs::read_to_string(deployment.file("next.pub")).unwrap();
    assert_eq!(public, format!("{new}\n"));
    load.go_on(200).await;
    let again = rotate_key(&deployment, 1).await;
    assert_eq!(again, format!("nothing to do: this key signs already\n{new}\n"));
    load.go_on(100).await;
    load.finish(writers).await;
    assert_eq!(load.failures(), 0);

    deployment.replicas[unprepared].become_not_ready().await;
    let reason = "this replica does not hold the ledger's current signing key";
    assert!(readiness(&deployment, unprepared).await.contains(reason));
    assert!(deployment.replicas[unprepared].program.log().contains(reason));
    let stopped = deployment.replicas[unprepared].client();
    let refused = stopped.append(event(0, 1, 1)).await.unwrap_err();
    assert_eq!(refused, AppendError::Unavailable(Stored::NothingStored));
    old.open(&stopped.checkpoint().await.unwrap()).unwrap();

    let verified = deployment.verify().await;
    verified.check(&load);
    let rotations: Vec<u64> = verified
        .records
        .iter()
        .filter(|record| record.record_type == RecordType::KeyRotated)
        .map(|record| record.seq)
        .collect();
    let [rotation] = rotations[..] else { panic!("{rotations:?}") };
    let mut keys = KeyHistory::new(old.clone());
    verified.records.iter().for_each(|record| keys.follow(record).unwrap());
    assert_eq!(keys.keys(), [(0, old.clone()), (rotation + 1, new.clone())]);
    assert!(old.open(&before).is_ok() && keys.open(&before).is_ok());
    for replica in &deployment.replicas[..unprepared] {
        let client = replica.client();
        let note = client.checkpoint().await.unwrap();
        assert!(new.open(&note).is_ok() && old.open(&note).is_err() && keys.open(&note).is_ok());
        assert_eq!(replica.operator().keys().await.unwrap(), keys.to_string());
    }

    // Afterwards the new key is enough, and the old one is not.
    deployment.replicas[0].kill();
    deployment.restart_with(&["next.key"], 0);
    deployment.replicas[0].become_ready().await;
    new.open(&deployment.replicas[0].client().checkpoint().await.unwrap()).unwrap();
    deployment.replicas[unprepared].kill();
    deployment.replicas[unprepared].restart();
    let said = deployment.replicas[unprepared].refuses_to_start().await;
    assert!(said.contains("does not hold the current one") && said.contains(&new.to_string()));
}
