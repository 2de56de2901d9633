//! Changing the key-encryption key of a running system, as an operator does.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};
use tests::{
    http::Api,
    programs,
    samples::{a_place, id_of, patient, random_name, test},
    system::{PATIENCE, Store, System},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_encryption_key_of_a_standalone_system_is_changed_while_it_is_in_use() {
    let _place = a_place().await;
    let mut system = System::standalone(Store::Sqlite).await;
    let secrets = system.data().join("secrets");
    let (kek, previous) = (secrets.join("kek.key"), secrets.join("kek.previous.key"));
    let mut known = vec![registered(&system.clinic()).await];

    let status = keys(&system, "status", &["kek"]).await.unwrap();
    let old = status["first"].as_str().unwrap().to_owned();
    assert!(status["keys"][&old].as_u64().unwrap() > 0 && status["missing"] == json!([]));

    system.program("standalone").kill().unwrap();
    fs::rename(&kek, &previous).unwrap();
    runtime::secrets::write_secret_file(&kek, runtime::secrets::random_key_hex()).unwrap();
    system.start("standalone").await.unwrap();
    let lacking = keys(&system, "rotate", &["kek"]).await.unwrap_err();
    assert!(lacking.contains(&old), "{lacking}");

    let (clinic, stop) = (system.clinic(), Arc::new(AtomicBool::new(false)));
    let traffic = tokio::spawn({
        let stop = stop.clone();
        async move {
            let mut known = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                known.push(registered(&clinic).await);
            }
            known
        }
    });
    let rotated = keys(&system, "rotate", &["kek", "kek.previous"]).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    known.extend(traffic.await.unwrap());
    assert_eq!((&rotated["corrupt"], &rotated["passedOver"]), (&json!(0), &json!(0)));
    assert!(rotated["rewrapped"].as_u64().unwrap() > 0 && rotated["first"] != old);

    let status = keys(&system, "status", &["kek"]).await.unwrap();
    assert_eq!(status["missing"], json!([]));
    assert_eq!(
        status["keys"].as_object().unwrap().keys().collect::<Vec<_>>(),
        [status["first"].as_str().unwrap()]
    );
    system.program("standalone").kill().unwrap();
    fs::remove_file(&previous).unwrap();
    system.start("standalone").await.unwrap();
    let clinic = system.clinic();
    for (path, content) in &known {
        // A changed patient is read from her key, not from the read model alone.
        assert_eq!(clinic.get(path).await.expect(200).json(), *content);
    }
    system.equals_its_rebuild().await;
    system.finish().await;
}

async fn registered(clinic: &Api) -> (String, Value) {
    let content = clinic.post("/patient", &patient(&random_name())).await.expect(201).json();
    let path = format!("/patient/{}", id_of(&content));
    let _ = clinic.post(&format!("{path}/tests"), &test(1)).await.expect(201);
    (path, content)
}

/// Runs `patient-service keys`; what it prints, or what it says is wrong.
async fn keys(system: &System, command: &str, keks: &[&str]) -> Result<Value, String> {
    let data = system.data();
    let reference = |name: &&str| format!("file:{}/secrets/{name}.key", data.display());
    let arguments = [
        "keys".to_owned(),
        command.to_owned(),
        format!("--keys=sqlite:{}/keys.db", data.display()),
        format!("--kek={}", keks.iter().map(reference).collect::<Vec<_>>().join(",")),
    ];
    let run = programs::run("patient-service", &arguments, system.folder(), PATIENCE);
    let output = run.await.unwrap();
    if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}
