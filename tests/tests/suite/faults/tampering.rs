//! A ledger that someone changed in its store: refused at start, and found by whoever reads it.

use rusqlite::Connection;
use tests::{
    http::send,
    programs::POLL_PAUSE,
    samples::{a_place, plain_patient},
    system::{Store, System},
};

use super::start::refuses_to_start;

/// Records of the ledger that is tampered with.
const RECORDS: i64 = 12;

/// A stopped system whose ledger was changed by `statement`.
async fn tampered(statement: &str) -> System {
    let mut system = System::standalone(Store::Sqlite).await;
    for _ in 0..RECORDS {
        let _ = system.clinic().post("/patient", &plain_patient()).await.expect(201);
    }
    // The follower is past all of them, so that it does not find the change at once.
    system.followed().await.unwrap();
    system.program("standalone").signal("TERM").unwrap();
    let status = system.program("standalone").wait(tests::system::PATIENCE).await.unwrap();
    assert!(status.success());
    let ledger = Connection::open(system.data().join("ledger.db")).unwrap();
    let changed = ledger.execute(statement, ()).unwrap();
    assert!(changed > 0, "{statement} changed nothing");
    system
}

#[track_caller]
fn names(log: &str, words: &[&str]) {
    for word in words {
        assert!(log.contains(word), "{word:?} is not in {log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_last_line_is_refused_and_named() {
    let _place = a_place().await;
    let change = "UPDATE records SET line = replace(line, '\"TREAT\"', '\"HRESCH\"') \
                  WHERE seq = (SELECT max(seq) FROM records)";
    let mut system = tampered(change).await;
    let log = refuses_to_start(&mut system).await;
    names(&log, &["the stored ledger", &format!("record {}", RECORDS - 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removed_last_records_are_refused_and_counted() {
    let _place = a_place().await;
    let mut system = tampered("DELETE FROM blocks WHERE first >= 10").await;
    Connection::open(system.data().join("ledger.db"))
        .unwrap()
        .execute("DELETE FROM records WHERE seq >= 10", ())
        .unwrap();
    let log = refuses_to_start(&mut system).await;
    names(&log, &["cut back", "10 records", "12 were signed"]);
    // Nothing was written over it, and it stays refused.
    names(&refuses_to_start(&mut system).await, &["cut back"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_changed_long_ago_breaks_the_chain_for_every_reader() {
    let _place = a_place().await;
    let change = "UPDATE records SET line = replace(line, '\"TREAT\"', '\"HRESCH\"') WHERE seq = 3";
    let mut system = tampered(change).await;
    // Only what is beyond the remembered checkpoint is verified at start.
    system.start("standalone").await.unwrap();
    let error = system.projections("rebuild").await.unwrap_err().to_string();
    names(&error, &["record 4 does not follow"]);
    let _ = system.clinic().post("/patient", &plain_patient()).await.expect(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_changes_under_a_running_service_stops_it_from_appending() {
    let _place = a_place().await;
    let system = System::standalone(Store::Sqlite).await;
    let clinic = system.clinic();
    let _ = clinic.post("/patient", &plain_patient()).await.expect(201);
    // A block of someone who has the file but not the seal's key, where the next one belongs.
    let ledger = Connection::open(system.data().join("ledger.db")).unwrap();
    ledger
        .execute_batch(
            "BEGIN IMMEDIATE;
             INSERT INTO blocks (first, count, frontier, root, seal)
                 SELECT first + count, 1, x'', root, seal FROM blocks ORDER BY first DESC LIMIT 1;
             INSERT INTO records (seq, line) SELECT seq + 1, line FROM records
                 ORDER BY seq DESC LIMIT 1;
             COMMIT;",
        )
        .unwrap();
    let refused = clinic.post("/patient", &plain_patient()).await;
    refused.problem(503);
    let log = system.logs().remove("standalone").unwrap();
    names(&log, &["the stored ledger does not verify", "\"seq\":1"]);
    let request = clinic.request(reqwest::Method::GET, "/readyz");
    while send(request.try_clone().unwrap()).await.status != 503 {
        tokio::time::sleep(POLL_PAUSE).await;
    }
}
