//! `POST /records` and `POST /records/batch`.

use domain::wire::{AppendResponse, AppendResult, Proposal, Receipt, Stored};
use serde_json::{Value, json};

use crate::{
    chain::Chain,
    fixture::{by_command, event, event_of_bytes, patient, read, receipt},
    server::{Answer, Server},
};

async fn append(server: &Server, proposal: &Proposal) -> Answer {
    server.post("patient-service", "/records", json!(proposal).to_string()).await
}

async fn append_all(server: &Server, items: &[Proposal]) -> Answer {
    server.post("patient-service", "/records/batch", json!({ "items": items }).to_string()).await
}

#[tokio::test]
async fn one_record_is_answered_with_its_receipt() {
    let server = Server::start().await;
    let answer = append(&server, &by_command(1, 1, event(1, 1))).await;
    assert_eq!(answer.status, 201);
    let receipt: Receipt = serde_json::from_str(&answer.text).unwrap();
    let chain = Chain::check(&server.store.blocks());
    assert_eq!((receipt.seq, receipt.hash.to_string()), (0, chain.hashes[0].clone()));
    assert_eq!(answer.header("audit-receipt"), Some(receipt.header_value().as_str()));
    let record = &chain.records[0];
    assert_eq!(
        (&record["source"], &record["ledger"]),
        (&json!("patient-service"), &json!("test-ledger"))
    );
    let again = append(&server, &by_command(1, 1, event(1, 1))).await;
    assert_eq!((again.status, again.json()["replayed"].clone()), (201, json!(true)));
    server.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_one_record_decides_the_status() {
    let server = Server::start().await;
    append(&server, &by_command(1, 1, event(1, 1))).await;
    append(&server, &event(1, 2)).await;
    let conflict = append(&server, &event(1, 2)).await.is_problem(409);
    assert_eq!(conflict["detail"], json!(format!("{} is at version 2, not 1", patient(1))));
    append(&server, &by_command(1, 2, event(1, 3))).await.is_problem(422);
    // `data` was sealed for another version, then for nothing at all.
    let other = Proposal { version: Some(4), ..event(1, 3) };
    append(&server, &other).await.is_problem(400);
    append(&server, &Proposal { data: None, ..event(1, 3) }).await.is_problem(400);
    let long = append(&server, &event_of_bytes(1, 3, 49_000)).await.is_problem(400);
    assert!(long["detail"].as_str().unwrap().contains("longer than 65535"), "{long}");
    assert_eq!(Chain::check(&server.store.blocks()).records.len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn a_store_that_refuses_or_is_silent_is_a_503_that_says_what_is_known() {
    use audit_service::store::memory::AppendFault;
    let server = Server::start().await;
    server.store.fail_append(AppendFault::Refuse);
    let refused = append(&server, &event(1, 1)).await;
    assert_eq!(refused.is_problem(503)["outcome"], json!("nothingStored"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    server.store.fail_append(AppendFault::Hang);
    let silent = append(&server, &event(1, 1)).await;
    assert_eq!(silent.is_problem(503)["outcome"], json!("unknown"));
    server.store.release();
    server.stop().await;
}

#[tokio::test]
async fn many_are_decided_one_by_one_in_their_order() {
    let server = Server::start().await;
    let mut long = event_of_bytes(5, 1, 49_000);
    long.fresh = true;
    let items = [
        by_command(1, 1, event(1, 1)),
        event(1, 3),
        Proposal { data: None, ..event(2, 1) },
        by_command(1, 1, event(1, 1)),
        by_command(1, 2, event(1, 2)),
        long,
        read(1),
    ];
    let answer = append_all(&server, &items).await;
    assert_eq!(answer.status, 200);
    let AppendResponse { results } = serde_json::from_str(&answer.text).unwrap();
    let [first, conflict, bad, again, other_body, long, read] = results.try_into().unwrap();
    let first = receipt(first);
    assert_eq!(first.seq, 0);
    assert_eq!(conflict, AppendResult::Conflict { stream: patient(1), expected: 2, actual: 1 });
    assert!(matches!(bad, AppendResult::Refused { .. }), "{bad:?}");
    assert_eq!(receipt(again), Receipt { replayed: true, ..first });
    assert_eq!(other_body, AppendResult::CommandReused);
    assert!(matches!(long, AppendResult::Refused { .. }), "{long:?}");
    let read = receipt(read);
    assert_eq!((read.seq, read.current_version), (1, Some(1)));
    let all_bad = append_all(&server, &[Proposal { data: None, ..event(2, 1) }]).await;
    assert_eq!(all_bad.json()["results"][0]["status"], json!("refused"));
    assert_eq!(Chain::check(&server.store.blocks()).records.len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn a_batch_holds_one_to_a_thousand_items_and_two_mebibytes() {
    let server = Server::start().await;
    append_all(&server, &[]).await.is_problem(400);
    append_all(&server, &vec![read(1); 1_001]).await.is_problem(400);
    let heavy: Vec<Proposal> = (0..40).map(|n| event_of_bytes(n, 1, 47_000)).collect();
    let too_large = append_all(&server, &heavy).await.is_problem(413);
    assert!(too_large["detail"].as_str().unwrap().contains("2097152"), "{too_large}");
    assert!(server.store.blocks().is_empty());
    let full = append_all(&server, &vec![read(1); 1_000]).await;
    let AppendResponse { results } = serde_json::from_str(&full.text).unwrap();
    assert_eq!(
        results.into_iter().map(receipt).map(|r| r.seq).collect::<Vec<_>>(),
        (0..1_000).collect::<Vec<_>>()
    );
    // More bytes than one block takes are two blocks.
    let answer = append_all(&server, &heavy[..30]).await;
    let AppendResponse { results } = serde_json::from_str(&answer.text).unwrap();
    assert!(results.into_iter().map(receipt).is_sorted_by_key(|receipt| receipt.seq));
    Chain::check(&server.store.blocks());
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_append_is_refused_whole() {
    let server = Server::start().await;
    let with = |member: &str, value: Value| {
        let mut proposal = json!(event(1, 1));
        proposal[member] = value;
        proposal
    };
    let bad = [
        Value::Null,
        json!([]),
        json!("text"),
        with("unknown", json!(1)),
        with("seq", json!(0)),
        with("prev", json!("0".repeat(64))),
        with("source", json!("gateway")),
        with("recordedAt", json!("2026-01-01T00:00:00.000Z")),
        with("type", json!("Nonsense")),
        with("version", json!("1")),
        with("version", json!(-1)),
        with("stream", json!("patient/1")),
        with("purpose", json!("because")),
        with("actor", json!({ "id": "free text", "kind": "user" })),
        with("client", json!("somewhere")),
    ];
    for body in bad {
        server.post("patient-service", "/records", body.to_string()).await.is_problem(400);
        let batch = json!({ "items": [event(2, 1), body] }).to_string();
        server.post("patient-service", "/records/batch", batch).await.is_problem(400);
    }
    let duplicate = json!(event(1, 1)).to_string().replacen('{', "{\"type\":\"PatientRead\",", 1);
    let deep = "[".repeat(100_000);
    for body in ["", "{", "{}", "\u{0}", &duplicate, &deep] {
        for path in ["/records", "/records/batch"] {
            server.post("patient-service", path, body.to_owned()).await.is_problem(400);
        }
    }
    for version in [0_u64, 1 << 53, u64::MAX] {
        append(&server, &event(1, version)).await.is_problem(400);
    }
    assert!(server.store.blocks().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_appended_while_the_service_starts_or_stops() {
    let store = audit_service::store::memory::MemoryLedger::new();
    let server = Server::start_on(&store).await;
    let stored = append(&server, &read(1)).await;
    assert_eq!(stored.status, 201);
    server.stop().await;
    // A head that cannot be read keeps the door closed, and says so.
    store.fail_reads(usize::MAX);
    let callers = runtime::service_keys::Callers::from_keys([(
        "patient-service",
        runtime::secrets::Secret::new(crate::server::key("patient-service")),
    )]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = tokio_util::sync::CancellationToken::new();
    let parts = crate::fixture::Machine::new().parts(store.clone());
    let readiness = runtime::health::Readiness::default();
    let service = tokio::spawn(audit_service::run(
        listener,
        callers.unwrap(),
        readiness,
        stop.clone(),
        async { Ok(parts) },
    ));
    let http = runtime::client::internal_client();
    let closed = http.post(format!("{url}/records")).body(json!(read(1)).to_string());
    let closed = closed.send().await.unwrap();
    assert_eq!(closed.status(), 503);
    let problem: Value = closed.json().await.unwrap();
    assert_eq!(problem["outcome"], json!(Stored::NothingStored));
    assert_eq!(http.get(format!("{url}/readyz")).send().await.unwrap().status(), 503);
    assert_eq!(http.get(format!("{url}/healthz")).send().await.unwrap().status(), 200);
    stop.cancel();
    service.await.unwrap().unwrap();
}
