//! The service and its witnesses: what it submits, what it serves, and that appends do not care.

use std::{sync::Arc, time::Duration};

use audit_service::{outside::Outside, store::memory::MemoryLedger, witness::client::WitnessSpec};
use audit_verify::{checkpoint::LedgerKey, cosignature::WitnessKey};
use axum::{Router, body::Bytes, routing::post};
use domain::hash::Hash;
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    fixture::{PATIENCE, read},
    server::{Answer, Server},
    witness_fixture::{Witness, ledger_secret, witness_secret},
};

/// Long enough for anything that does not wait for a witness.
const PROMPTLY: Duration = Duration::from_secs(2);

fn with(witnesses: Vec<WitnessSpec>) -> Outside {
    Outside { witnesses, witness_every: Duration::from_millis(50), ..Outside::default() }
}

async fn append(server: &Server, of: u64) {
    let body = json!({ "items": [read(of)] }).to_string();
    let appending = server.post("patient-service", "/records/batch", body);
    let answer = tokio::time::timeout(PROMPTLY, appending).await.expect("appends do not wait");
    assert_eq!(answer.json()["results"][0]["status"], "appended");
}

async fn witnessed(server: &Server) -> Answer {
    server.get("gateway", "/checkpoint?witnessed=true").await
}

fn ledger_key() -> LedgerKey {
    ledger_secret().public()
}

#[track_caller]
fn size_of(note: &str, witnesses: &[&WitnessKey]) -> u64 {
    for witness in witnesses {
        assert!(witness.cosigned_at(note).unwrap().is_some(), "{note}");
    }
    assert_eq!(note.split_once("\n\n").unwrap().1.lines().count(), 1 + witnesses.len(), "{note}");
    ledger_key().open(note).unwrap().size
}

/// Waits for a checkpoint of this size that these witnesses, and no others, cosigned.
async fn becomes_witnessed(server: &Server, size: u64, witnesses: &[&WitnessKey]) -> String {
    let polling = async {
        loop {
            let answer = witnessed(server).await;
            let signatures = answer.text.split_once("\n\n").map_or(0, |(_, s)| s.lines().count());
            if answer.status == 200
                && signatures == 1 + witnesses.len()
                && ledger_key().open(&answer.text).unwrap().size >= size
            {
                return answer.text;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let note = tokio::time::timeout(PATIENCE * 2, polling).await.expect("it is witnessed");
    assert_eq!(size_of(&note, witnesses), size);
    note
}

#[tokio::test]
async fn a_checkpoint_with_the_cosignatures_of_every_witness_is_served() {
    let (one, other) = (Witness::start(1).await, Witness::start(2).await);
    let outside = with(vec![one.spec(), other.spec()]);
    let server = Server::start_outside(&MemoryLedger::new(), outside).await;
    witnessed(&server).await.is_problem(404);
    for size in [1, 2, 3] {
        append(&server, size).await;
        let note = becomes_witnessed(&server, size, &[&one.key, &other.key]).await;
        // The head is that very checkpoint.
        assert_eq!(server.get("gateway", "/checkpoint").await.text, note);
        assert_eq!(server.get("gateway", "/checkpoint?witnessed=false").await.text, note);
    }
    for query in ["witnessed", "witnessed=1", "witnessed=true&x=1", "x=true"] {
        server.get("gateway", &format!("/checkpoint?{query}")).await.is_problem(400);
    }
    server.stop().await;
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_ledger_without_witnesses_serves_no_witnessed_checkpoint() {
    let server = Server::start().await;
    append(&server, 1).await;
    witnessed(&server).await.is_problem(404);
    assert_eq!(size_of(&server.get("gateway", "/checkpoint").await.text, &[]), 1);
    server.get("old-clinic", "/checkpoint?witnessed=true").await.is_problem(403);
    server.stop().await;
}

#[tokio::test]
async fn a_new_process_of_the_service_learns_what_the_witness_has() {
    let (witness, store) = (Witness::start(1).await, MemoryLedger::new());
    for size in [1, 2, 3] {
        let server = Server::start_outside(&store, with(vec![witness.spec()])).await;
        append(&server, size).await;
        becomes_witnessed(&server, size, &[&witness.key]).await;
        server.stop().await;
    }
    // Nothing new, and still a cosignature can be had.
    let server = Server::start_outside(&store, with(vec![witness.spec()])).await;
    becomes_witnessed(&server, 3, &[&witness.key]).await;
    server.stop().await;
    witness.stop().await;
}

#[tokio::test]
async fn replicas_share_a_witness() {
    let (witness, store) = (Witness::start(1).await, MemoryLedger::new());
    let one = Server::start_outside(&store, with(vec![witness.spec()])).await;
    let other = Server::start_outside(&store, with(vec![witness.spec()])).await;
    for round in 0..3 {
        append(&one, round).await;
        append(&other, round).await;
    }
    append(&one, 9).await;
    becomes_witnessed(&one, 7, &[&witness.key]).await;
    append(&other, 9).await;
    becomes_witnessed(&other, 8, &[&witness.key]).await;
    one.stop().await;
    other.stop().await;
    witness.stop().await;
}

#[tokio::test]
async fn a_witness_that_is_down_holds_nothing_up_and_is_found_when_it_comes_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (up, key) = (Witness::start(1).await, witness_secret(2).public());
    let down = WitnessSpec::new(&format!("http://{address}"), key.clone()).unwrap();
    let server = Server::start_outside(&MemoryLedger::new(), with(vec![up.spec(), down])).await;
    for n in 1..=3 {
        append(&server, n).await;
    }
    becomes_witnessed(&server, 3, &[&up.key]).await;
    assert_eq!(server.get("gateway", "/readyz").await.status, 200);

    let listener = TcpListener::bind(address).await.unwrap();
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let back = Witness::start_on(listener, 2, folder, vec![ledger_key()]);
    becomes_witnessed(&server, 3, &[&up.key, &key]).await;
    server.stop().await;
    back.stop().await;
    up.stop().await;
}

/// A witness that does as it likes.
async fn bad_witness(router: Router) -> WitnessSpec {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    WitnessSpec::new(&url, witness_secret(2).public()).unwrap()
}

#[tokio::test]
async fn a_slow_witness_holds_nothing_up_and_not_the_stop_either() {
    let slow = Router::new().route("/add-checkpoint", post(std::future::pending::<&str>));
    let (good, slow) = (Witness::start(1).await, bad_witness(slow).await);
    let server = Server::start_outside(&MemoryLedger::new(), with(vec![good.spec(), slow])).await;
    append(&server, 1).await;
    becomes_witnessed(&server, 1, &[&good.key]).await;
    for n in 2..=5 {
        append(&server, n).await;
    }
    assert_eq!(server.get("gateway", "/readyz").await.status, 200);
    tokio::time::timeout(PROMPTLY, server.stop()).await.expect("it stops at once");
    good.stop().await;
}

#[tokio::test]
async fn what_a_lying_witness_signs_is_not_shown() {
    // A genuine cosignature by another key under this one's name, of another checkpoint, and none.
    async fn lie(body: Bytes) -> String {
        let text = String::from_utf8(body.to_vec()).unwrap();
        let note = text.split_once("\n\n").unwrap().1;
        let other = Hash::of_line("other");
        let head = audit_verify::checkpoint::TreeHead { size: 9, root: other };
        let of_another = witness_secret(2).cosign(&ledger_secret().sign(head), 1).unwrap();
        let by_another = witness_secret(3).cosign(note, 1).unwrap();
        format!("{of_another}{by_another}rubbish\n\n— x\n{note}")
    }
    let liar = bad_witness(Router::new().route("/add-checkpoint", post(lie))).await;
    let good = Witness::start(1).await;
    let server = Server::start_outside(&MemoryLedger::new(), with(vec![liar, good.spec()])).await;
    append(&server, 1).await;
    becomes_witnessed(&server, 1, &[&good.key]).await;
    assert_eq!(size_of(&server.get("gateway", "/checkpoint").await.text, &[&good.key]), 1);
    assert_eq!(server.get("gateway", "/readyz").await.status, 200);
    server.stop().await;
    good.stop().await;
}

#[tokio::test]
async fn a_witness_that_names_an_impossible_size_or_answers_without_end_is_borne() {
    let far = Router::new().route(
        "/add-checkpoint",
        post(async || (http::StatusCode::CONFLICT, [("content-type", "text/x.tlog.size")], "99\n")),
    );
    let long = Router::new().route("/add-checkpoint", post(async || "— x\n".repeat(1_000_000)));
    for bad in [far, long] {
        let (bad, good) = (bad_witness(bad).await, Witness::start(1).await);
        let server =
            Server::start_outside(&MemoryLedger::new(), with(vec![bad, good.spec()])).await;
        for size in 1..=2 {
            append(&server, size).await;
            becomes_witnessed(&server, size, &[&good.key]).await;
        }
        server.stop().await;
        good.stop().await;
    }
}

#[tokio::test]
async fn a_rewritten_ledger_is_not_cosigned_and_leaves_evidence() {
    let witness = Witness::start(1).await;
    let server = Server::start_outside(&MemoryLedger::new(), with(vec![witness.spec()])).await;
    append(&server, 1).await;
    append(&server, 2).await;
    becomes_witnessed(&server, 2, &[&witness.key]).await;
    server.stop().await;
    // The same key on another history, first of the same size, then of a larger one.
    let rewritten = MemoryLedger::new();
    let server = Server::start_outside(&rewritten, with(vec![witness.spec()])).await;
    let body = json!({ "items": [read(7), read(8)] }).to_string();
    server.post("patient-service", "/records/batch", body).await;
    crate::fixture::eventually(|| witness.evidence("forks").len() == 1).await;
    append(&server, 9).await;
    crate::fixture::eventually(|| witness.evidence("unproven").len() == 1).await;
    witnessed(&server).await.is_problem(404);
    let fork = witness.evidence("forks").pop().unwrap();
    assert_eq!(ledger_key().open(&fork).unwrap().root, rewritten.blocks()[0].root);
    server.stop().await;
    witness.stop().await;
}

#[test]
fn a_witness_is_named_by_url_and_key() {
    let key = witness_secret(1).public();
    for url in ["https://w.example", "http://127.0.0.1:7074/", "https://w.example/a,b/prefix/"] {
        let spec: WitnessSpec = format!("{url},{key}").parse().unwrap();
        assert_eq!(spec.name(), "witness.test/w1", "{url}");
    }
    let ledger = ledger_key().to_string();
    for text in [
        format!("https://w.example {key}"),
        format!("ftp://w.example,{key}"),
        format!("https://w.example/?x=canary,{key}"),
        format!("https://w.example,{ledger}"),
        "https://w.example,canary".to_owned(),
    ] {
        let error = text.parse::<WitnessSpec>().unwrap_err();
        assert!(!format!("{error:?} {error}").contains("canary"), "{text}");
    }
}
