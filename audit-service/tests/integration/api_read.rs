//! Reading the ledger over HTTP.

use std::time::{Duration, Instant};

use audit_service::store::memory::{AppendFault, MemoryLedger};
use base64::{Engine, engine::general_purpose::STANDARD};
use domain::record::RecordType;
use ed25519_dalek::{Signature, Verifier, VerifyingKey};
use serde_json::json;
use sha2_for_ct_merkle::{Digest, Sha256};

use crate::{
    chain::Chain,
    fixture::{by_command, event, eventually, mac, patient, read},
    server::Server,
};

/// Long enough for anything that does not wait to have ended.
const A_WHILE: Duration = Duration::from_millis(150);

async fn append(server: &Server, items: &[domain::wire::Proposal]) {
    let body = json!({ "items": items }).to_string();
    let answer = server.post("patient-service", "/records/batch", body).await;
    let results = answer.json()["results"].as_array().unwrap().clone();
    assert!(results.iter().all(|result| result["status"] == "appended"), "{results:?}");
}

/// A server with 25 records: blocks of 10, 10 and 5.
async fn with_25() -> Server {
    let server = Server::start().await;
    for block in 0..3_u64 {
        let count = if block == 2 { 5 } else { 10 };
        let items: Vec<_> = (0..count)
            .map(|n| by_command(block * 10 + n, 0, event(n % 2, 1 + block * 5 + n / 2)))
            .collect();
        append(&server, &items).await;
    }
    server
}

#[tokio::test]
async fn lines_are_served_as_they_are_stored_page_by_page() {
    let server = with_25().await;
    let stored: Vec<String> = server.store.blocks().into_iter().flat_map(|b| b.lines).collect();
    let check = async |query: &str, from: usize, to: usize, more: bool| {
        let answer = server.get("projections", &format!("/records{query}")).await;
        assert_eq!(answer.lines(), stored[from..to], "{query}");
        assert_eq!(answer.header("x-vitalog-more").is_some(), more, "{query}");
    };
    check("", 0, 25, false).await;
    check("?from=0&limit=1", 0, 1, true).await;
    check("?from=3&limit=4", 3, 7, true).await;
    check("?from=7&limit=10", 7, 17, true).await;
    check("?from=20", 20, 25, false).await;
    check("?limit=5&from=20", 20, 25, false).await;
    check("?from=25", 25, 25, false).await;
    check("?from=9007199254740991&wait=0", 25, 25, false).await;
    check("?limit=99999999", 0, 25, false).await;
    for query in [
        "from=-1",
        "from=x",
        "from=",
        "limit=0",
        "wait=1.5",
        "until=3",
        "from=1e3",
        "from=9007199254740992",
    ] {
        server.get("projections", &format!("/records?{query}")).await.is_problem(400);
    }
    server.stop().await;
}

#[tokio::test]
async fn one_record_one_stream_and_one_command_are_found() {
    let server = with_25().await;
    let stored: Vec<String> = server.store.blocks().into_iter().flat_map(|b| b.lines).collect();
    for seq in [0, 9, 10, 24] {
        assert_eq!(
            server.get("projections", &format!("/records/{seq}")).await.lines(),
            [&stored[seq]]
        );
        let command = format!("/commands/{}", mac(seq as u64));
        assert_eq!(server.get("patient-service", &command).await.lines(), [&stored[seq]]);
    }
    server.get("projections", "/records/25").await.is_problem(404);
    server.get("projections", "/records/x").await.is_problem(400);
    server.get("patient-service", &format!("/commands/{}", mac(99))).await.is_problem(404);
    server.get("patient-service", "/commands/99").await.is_problem(404);

    let of_one: Vec<&String> =
        stored.iter().filter(|line| line.contains(&patient(1).to_string())).collect();
    let path = format!("/streams/{}/records", patient(1));
    assert_eq!(server.get("patient-service", &path).await.lines(), of_one);
    let page = server.get("patient-service", &format!("{path}?from=3&limit=2")).await;
    assert_eq!(page.lines(), of_one[2..4]);
    assert_eq!(page.header("x-vitalog-more"), Some("true"));
    let last = server.get("patient-service", &format!("{path}?from=12")).await;
    assert_eq!(
        (last.lines(), last.header("x-vitalog-more")),
        (of_one[11..].iter().map(|l| l.as_str()).collect(), None)
    );
    let none = format!("/streams/{}/records", patient(9));
    assert!(server.get("patient-service", &none).await.lines().is_empty());
    server.get("patient-service", "/streams/patient/1/records").await.is_problem(404);
    server.get("patient-service", &format!("/streams/{}", patient(1))).await.is_problem(404);
    server.stop().await;
}

#[tokio::test]
async fn a_waiting_reader_is_woken_by_a_record() {
    let server = with_25().await;
    let started = Instant::now();
    let waiting = server.get("projections", "/records?from=25&wait=20");
    let appending = async {
        tokio::time::sleep(A_WHILE).await;
        append(&server, &[read(1)]).await;
    };
    let (answer, ()) = tokio::join!(waiting, appending);
    assert_eq!(answer.records()[0].seq, 25);
    assert!((A_WHILE..Duration::from_secs(5)).contains(&started.elapsed()));
    server.stop().await;
}

#[tokio::test]
async fn a_waiting_reader_is_not_woken_by_somebodys_reading() {
    let server = with_25().await;
    let started = Instant::now();
    let waiting = server.get("projections", "/records?from=25&wait=1");
    let reading = async {
        tokio::time::sleep(A_WHILE).await;
        assert_eq!(server.get_for("auditor", "/records?limit=1").await.status, 200);
    };
    let (answer, ()) = tokio::join!(waiting, reading);
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(answer.records()[0].record_type, RecordType::LedgerRead);
    server.stop().await;
}

#[tokio::test]
async fn a_record_that_comes_while_the_reading_is_recorded_wakes_too() {
    let server = Server::start().await;
    server.store.fail_append(AppendFault::Hang);
    let started = Instant::now();
    let blocking = async { append(&server, &[read(1)]).await };
    // Behind it, one block takes both the event and the record of the reading.
    let reading = async {
        eventually(|| server.store.appends() == 1).await;
        server.get_for("auditor", "/records?from=1&wait=20").await
    };
    let appending = async {
        eventually(|| server.store.appends() == 1).await;
        append(&server, &[event(1, 1)]).await;
    };
    let releasing = async {
        eventually(|| server.store.appends() == 1).await;
        tokio::time::sleep(A_WHILE).await;
        server.store.release();
    };
    let ((), answer, (), ()) = tokio::join!(blocking, reading, appending, releasing);
    assert_eq!(answer.records().len(), 2);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    server.stop().await;
}

#[tokio::test]
async fn a_waiting_reader_is_let_go_at_shutdown() {
    let server = with_25().await;
    let waiting = server.get("projections", "/records?from=25&wait=30");
    let stopping = async {
        tokio::time::sleep(A_WHILE).await;
        server.shutdown.cancel();
    };
    let started = Instant::now();
    let (answer, ()) = tokio::join!(waiting, stopping);
    assert!(answer.lines().is_empty());
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    server.stop().await;
}

#[tokio::test]
async fn a_clients_reading_is_recorded_once_a_minute_before_it_is_answered() {
    let server = with_25().await;
    server.store.fail_append(AppendFault::Hang);
    let first = answered(server.get_for("auditor", "/records?limit=1"));
    let second = answered(server.get_for("auditor", "/records/0"));
    let releasing = async {
        eventually(|| server.store.appends() == 4).await;
        tokio::time::sleep(A_WHILE).await;
        let at = Instant::now();
        server.store.release();
        at
    };
    let (first, second, released) = tokio::join!(first, second, releasing);
    assert!(first >= released && second >= released, "answered before it was acknowledged");
    for path in ["/records?limit=1", "/records/3", "/records"] {
        assert_eq!(server.get_for("auditor", path).await.status, 200);
    }
    assert_eq!(server.get_for("another", "/records/3").await.status, 200);
    let records = Chain::check(&server.store.blocks()).records.split_off(25);
    let readers: Vec<_> = records.iter().map(|r| (&r["type"], &r["actor"]["id"])).collect();
    let reading = json!("LedgerRead");
    assert_eq!(readers, [(&reading, &json!("auditor")), (&reading, &json!("another"))]);
    assert_eq!(
        (&records[0]["source"], &records[0]["purpose"]),
        (&json!("gateway"), &json!("HCOMPL"))
    );
    server.stop().await;
}

async fn answered(reading: impl Future<Output = crate::server::Answer>) -> Instant {
    assert_eq!(reading.await.status, 200);
    Instant::now()
}

#[tokio::test]
async fn what_is_not_a_clients_reading_is_not_recorded() {
    let server = with_25().await;
    for path in ["/records", "/records/1", "/checkpoint", "/key"] {
        assert_eq!(server.get("projections", path).await.status, 200);
        assert_eq!(server.get("audit", path).await.status, 200);
    }
    for path in ["/checkpoint", "/key"] {
        assert_eq!(server.get("gateway", path).await.status, 200);
    }
    assert_eq!(Chain::check(&server.store.blocks()).records.len(), 25);
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_read() {
    let server = with_25().await;
    server.store.fail_append(AppendFault::Refuse);
    let refused = server.get_for("auditor", "/records").await;
    refused.is_problem(503);
    assert!(!refused.text.contains("\"seq\""));
    server.get("gateway", "/records").await.is_problem(400);
    assert_eq!(Chain::check(&server.store.blocks()).records.len(), 25);
    assert_eq!(server.get_for("auditor", "/records").await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_checkpoint_is_signed_by_the_key_and_has_the_root_of_the_lines() {
    let server = with_25().await;
    let vkey = server.get("gateway", "/key").await.text;
    let note = server.get("gateway", "/checkpoint").await.text;

    // C2SP signed-note and tlog-checkpoint, by hand.
    let [name, id, key]: [&str; 3] =
        vkey.trim_end().splitn(3, '+').collect::<Vec<_>>().try_into().unwrap();
    let key = STANDARD.decode(key).unwrap();
    let key_id = Sha256::new().chain_update(format!("{name}\n")).chain_update(&key).finalize();
    assert_eq!(u32::from_str_radix(id, 16).unwrap().to_be_bytes(), key_id[..4]);
    assert_eq!(key[0], 1, "Ed25519");
    let (text, signatures) = note.split_once("\n\n").unwrap();
    let text = format!("{text}\n");
    let signature = signatures.trim_end().strip_prefix(&format!("— {name} ")).unwrap();
    let signature = STANDARD.decode(signature).unwrap();
    assert_eq!(signature[..4], key_id[..4]);
    let verifier = VerifyingKey::from_bytes(key[1..].try_into().unwrap()).unwrap();
    let signature = Signature::from_bytes(signature[4..].try_into().unwrap());
    verifier.verify(text.as_bytes(), &signature).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["test-ledger", "25"]);
    Chain::check(&server.store.blocks());
    let root = server.store.blocks().pop().unwrap().root;
    assert_eq!(lines[2], STANDARD.encode(root.0));
    server.stop().await;
}

#[tokio::test]
async fn records_that_vanished_from_the_store_are_an_error_and_no_end() {
    let server = with_25().await;
    let blocks = server.store.blocks();
    server.store.truncate(10);
    server.store.replace_block(blocks[2].clone());
    let before = server.get("projections", "/records?from=5").await;
    assert_eq!((before.lines().len(), before.header("x-vitalog-more")), (5, Some("true")));
    for path in ["/records?from=10", "/records/12"] {
        let problem = server.get("projections", path).await.is_problem(503);
        assert!(problem["detail"].as_str().unwrap().contains("record 1"), "{problem}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_block_that_is_not_verified_yet_is_not_served() {
    let store = MemoryLedger::new();
    let server = Server::start_on(&store).await;
    append(&server, &[by_command(1, 1, event(1, 1))]).await;
    let stranger = MemoryLedger::new();
    stranger.replace_block(store.blocks()[0].clone());
    let honest = crate::fixture::Machine::new().open(&stranger).await;
    honest.append(by_command(2, 1, event(1, 2))).await;
    let mut forged = stranger.blocks()[1].clone();
    forged.seal = mac(1);
    store.replace_block(forged);
    assert_eq!(server.get("projections", "/records").await.lines().len(), 1);
    let (stream, command) =
        (format!("/streams/{}/records", patient(1)), format!("/commands/{}", mac(2)));
    let (stream, command) = tokio::join!(
        server.get("patient-service", &stream),
        server.get("patient-service", &command)
    );
    stream.is_problem(503);
    command.is_problem(503);
    server.stop().await;
}

#[tokio::test]
async fn a_record_of_another_process_is_served_as_soon_as_it_is_verified() {
    let store = MemoryLedger::new();
    let server = Server::start_on(&store).await;
    let other = crate::fixture::Machine::new().open(&store).await;
    other.append(by_command(2, 1, event(1, 1))).await;
    let stream = format!("/streams/{}/records", patient(1));
    assert_eq!(server.get("patient-service", &stream).await.records()[0].seq, 0);
    other.append(by_command(3, 1, event(1, 2))).await;
    let command = format!("/commands/{}", mac(3));
    assert_eq!(server.get("patient-service", &command).await.records()[0].seq, 1);
    server.stop().await;
}
