//! `audit verify`: exports, live ledgers and stores, in full and from a trusted checkpoint on.

use std::{sync::Arc, time::Duration};

use audit_service::{
    anchor::{Anchor, directory::DirectoryAnchor},
    outside::Outside,
    store::{memory::MemoryLedger, sqlite::SqliteLedger},
};
use axum::response::IntoResponse;
use serde_json::json;

use crate::{
    cli::{Desk, Ran},
    fake_ledger::{Fake, head_of, lines_of, note_of},
    fixture::{self, Machine, PATIENCE, Running, event, read, receipt},
    server::{Server, key},
    witness_fixture::Witness,
};

const EXPORT: &str =
    "verify --file ledger.ndjson --checkpoint checkpoint --verifier-key ledger.pub";
const LIVE: &str = "verify --key-file key --verifier-key ledger.pub --url";

fn ndjson(lines: &[String]) -> Vec<u8> {
    lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect()
}

/// An auditor's folder with an export of these lines.
fn desk_with(lines: &[String]) -> Desk {
    let desk = Desk::new();
    desk.write("ledger.pub", fixture::keys().newest().to_string());
    desk.write("ledger.ndjson", ndjson(lines));
    desk.write("checkpoint", note_of(lines));
    desk
}

/// Lines of which one was changed after they were signed.
fn changed(lines: &[String], seq: usize) -> Vec<String> {
    let mut lines = lines.to_vec();
    lines[seq] = lines[seq].replace("\"success\"", "\"failed\"");
    lines
}

#[tokio::test]
async fn an_export_is_intact_or_its_first_bad_record_is_named() {
    let lines = lines_of(20).await;
    let desk = desk_with(&lines);
    let ran = desk.audit(EXPORT).await;
    let words = &ran.is_intact().out;
    assert!(words.contains("20 records, 0 to 19"), "{words}");
    assert!(words.contains("agrees with the checkpoint of 20 records, signed by"), "{words}");

    desk.write("ledger.zst", zstd::encode_all(&*ndjson(&lines), 3).unwrap());
    desk.audit(&EXPORT.replace("ndjson", "zst")).await.is_intact();
    for threads in [1, 2, 7] {
        desk.audit(&format!("{EXPORT} --threads {threads}")).await.is_intact();
    }

    desk.write("ledger.ndjson", ndjson(&changed(&lines, 7)));
    let ran = desk.audit(EXPORT).await;
    ran.is_tampered("first bad record: 7: record 7 was changed");
    let json = desk.audit(&format!("--json {EXPORT}")).await.json();
    assert_eq!((&json["verdict"], &json["seq"]), (&json!("tampered"), &json!(7)));
    assert_eq!(json["findings"][0]["first"], 7);
    assert_eq!(json["findings"][0]["last"], 7);

    desk.write("ledger.ndjson", ndjson(&lines[..13]));
    desk.audit(EXPORT).await.is_tampered("first bad record: 13: the ledger was cut off");
    desk.write("ledger.ndjson", ndjson(&lines));
    desk.write("checkpoint", note_of(&lines[..13]));
    desk.audit(EXPORT).await.is_tampered("records from 13 on are not covered");
}

#[tokio::test]
async fn what_a_verdict_rests_on_must_be_there_and_of_the_same_ledger() {
    let lines = lines_of(5).await;
    let desk = desk_with(&lines);
    let could_not = async |line: &str, words: &str| {
        desk.audit(line).await.could_not_tell(words);
    };
    could_not("verify", "say what to verify").await;
    could_not("verify --file ledger.ndjson --checkpoint checkpoint", "--verifier-key").await;
    could_not("verify --file ledger.ndjson --verifier-key ledger.pub", "--checkpoint").await;
    could_not(&EXPORT.replace("ledger.ndjson", "absent"), "absent cannot be read").await;
    could_not(&EXPORT.replace("--checkpoint checkpoint", "--checkpoint absent"), "absent").await;
    could_not(&EXPORT.replace("--checkpoint checkpoint", "--checkpoint ledger.pub"), "ledger.pub")
        .await;
    could_not(&EXPORT.replace("ledger.pub", "checkpoint"), "not a verifier key").await;
    could_not(&format!("{EXPORT} --trusted absent"), "absent").await;
    could_not("verify --store sqlite:absent.db", "absent.db cannot be read").await;
    assert!(!desk.path("absent.db").exists(), "verifying made a store");

    let other = fixture::ledger_secret(77).public();
    desk.write("ledger.pub", other.to_string());
    desk.audit(EXPORT).await.is_tampered("not signed by the ledger's key");
    let stranger = audit_verify::checkpoint::LedgerSecret::new("other".parse().unwrap(), &[1; 32]);
    desk.write("ledger.pub", stranger.public().to_string());
    could_not(EXPORT, "checkpoint is a checkpoint of the ledger test-ledger, not of other").await;
}

#[tokio::test]
async fn an_empty_ledger_is_intact() {
    let desk = desk_with(&[]);
    desk.audit(EXPORT).await.is_intact();
    desk.audit(&format!("{LIVE} {}", Fake::honest(&[]).serve().await)).await.is_intact();
}

#[tokio::test]
async fn a_trusted_checkpoint_must_be_contained_and_is_only_replaced_by_a_newer_one() {
    let lines = lines_of(12).await;
    let desk = desk_with(&lines);
    desk.write("trusted", note_of(&lines[..5]));
    let run = async |more: &str| desk.audit(&format!("{EXPORT} {more}")).await;
    let ran = run("--trusted trusted --save trusted").await;
    assert!(ran.is_intact().out.contains("agrees with the trusted checkpoint of 5"), "{ran:?}");
    assert_eq!(desk.text("trusted"), note_of(&lines));

    // Rewritten from the fourth record on by somebody with the signing key.
    let store = MemoryLedger::new();
    let running = Machine::new().open(&store).await;
    for (seq, line) in lines.iter().enumerate() {
        let proposal = if seq < 3 { event(seq as u64 % 2, 1 + seq as u64 / 2) } else { read(9) };
        let _ = (line, receipt(running.append(proposal).await));
    }
    running.stop().await;
    let forged: Vec<String> = store.blocks().into_iter().flat_map(|block| block.lines).collect();
    desk.write("ledger.ndjson", ndjson(&forged));
    desk.write("checkpoint", note_of(&forged));
    run("").await.is_intact();
    run("--trusted trusted").await.is_tampered("are not those that the trusted checkpoint");
    run("--save trusted").await.is_tampered("that was saved before");
    assert_eq!(desk.text("trusted"), note_of(&lines), "a forgery took the trusted one's place");
    run("--trusted trusted --save saved").await;
    assert!(!desk.path("saved").exists(), "a forgery was saved as trusted");

    // An older state of the ledger, whole and signed.
    desk.write("ledger.ndjson", ndjson(&lines[..8]));
    desk.write("checkpoint", note_of(&lines[..8]));
    run("").await.is_intact();
    run("--trusted trusted").await.is_tampered("first bad record: 8: the ledger was cut off");
    run("--save trusted").await.is_tampered("first bad record: 8: the ledger was cut off");
    assert_eq!(desk.text("trusted"), note_of(&lines));
}

#[tokio::test]
async fn a_live_ledger_is_verified_in_full_and_from_a_trusted_checkpoint_on() {
    let server = Server::start().await;
    let append = async |count: u64| {
        let items: Vec<_> = (0..count).map(|_| read(1)).collect();
        let body = json!({ "items": items }).to_string();
        server.post("patient-service", "/records/batch", body).await;
    };
    let desk = Desk::new();
    desk.write("ledger.pub", fixture::keys().newest().to_string());
    desk.write("service.key", key("audit"));
    let live = format!("verify --key-file service.key --url {}", server.url);
    let trusting = format!("{live} --verifier-key ledger.pub");
    append(30).await;
    let ran = desk.audit(&live).await;
    assert!(ran.is_intact().out.contains("was shown by the server itself"), "{ran:?}");
    let ran = desk.audit(&format!("{trusting} --save trusted")).await;
    assert!(!ran.is_intact().out.contains("not checked"), "{ran:?}");

    // Nothing new, and then something new.
    let after = format!("{trusting} --trusted trusted");
    desk.audit(&after).await.is_intact();
    append(400).await;
    let ran = desk.audit(&format!("{after} --json")).await;
    let json = ran.is_intact().json();
    assert_eq!((&json["from"], &json["records"]), (&json!(30), &json!(400)));
    let ran = desk.audit(&format!("{after} --full")).await;
    assert!(ran.is_intact().out.contains("430 records, 0 to 429"), "{ran:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_lies_about_what_is_new_or_old_is_found_out() {
    let lines = lines_of(30).await;
    let desk = desk_with(&lines);
    desk.write("trusted", note_of(&lines[..11]));
    let run = async |fake: Fake, more: &str| -> Ran {
        desk.audit(&format!("{LIVE} {} {more}", fake.serve().await)).await
    };
    let after = "--trusted trusted";
    run(Fake::honest(&lines), after).await.is_intact();
    let swap = |lines: Vec<String>| {
        move |from: usize, bytes: String| {
            let count = bytes.lines().count();
            let page = lines.iter().skip(from).take(count).map(|line| format!("{line}\n"));
            page.collect::<String>().into_response()
        }
    };
    for seq in [11, 12, 20, 28] {
        let lying = Fake::honest(&lines).with_records(swap(changed(&lines, seq)));
        let words = format!("first bad record: {seq}: record {seq} was changed");
        run(lying.clone(), after).await.is_tampered(&words);
        run(lying, "").await.is_tampered(&words);
    }
    // The last record vouches for none.
    let lying = Fake::honest(&lines).with_records(swap(changed(&lines, 29)));
    run(lying, after).await.is_tampered("first bad record: one of 11 to 29");
    // What was trusted cannot be proven any more.
    let lying = Fake::honest(&changed(&lines, 10));
    run(lying, after).await.is_tampered("not those of the trusted checkpoint");
    let lying = Fake::honest(&lines[..7]);
    run(lying, after).await.is_tampered("cut back");
    let mute = Fake::honest(&lines).with_records(|_, _| String::new().into_response());
    run(mute, after).await.is_tampered("first bad record: 11: the ledger was cut off");
}

#[tokio::test]
async fn witnesses_and_anchors_are_demanded() {
    let (witness, stranger) = (Witness::start(1).await, Witness::start(2).await);
    let folder = tempfile::tempdir().unwrap();
    let anchor: Arc<dyn Anchor> = Arc::new(DirectoryAnchor::new(folder.path()));
    let outside = Outside {
        witnesses: vec![witness.spec()],
        witness_every: Duration::from_millis(50),
        anchors: vec![("anchor".to_owned(), anchor.clone())],
        anchor_every: Duration::from_millis(50),
    };
    let store = MemoryLedger::new();
    let server = Server::start_outside(&store, outside).await;
    for _ in 0..6 {
        let body = read(1);
        server.post("patient-service", "/records", json!(body).to_string()).await;
    }
    let size = |note: &str| fixture::keys().open(note).unwrap().size;
    let origin = fixture::keys().newest().origin().clone();
    let settled = async {
        loop {
            let note = server.get("audit", "/checkpoint?witnessed=true").await;
            let anchored = anchor.sizes(&origin).await.unwrap();
            if note.status == 200 && size(&note.text) == 6 && anchored.last() == Some(&6) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("it is cosigned and anchored");

    let desk = Desk::new();
    desk.write("ledger.pub", fixture::keys().newest().to_string());
    desk.write("service.key", key("audit"));
    desk.write("witness.pub", witness.key.to_string());
    desk.write("stranger.pub", stranger.key.to_string());
    let live = format!(
        "verify --key-file service.key --verifier-key ledger.pub --url {} --anchor dir:{}",
        server.url,
        folder.path().display()
    );
    let ran = desk.audit(&format!("{live} --witness-key witness.pub")).await;
    assert!(ran.is_intact().out.contains("cosigned by"), "{ran:?}");
    assert!(ran.out.contains("agrees with the checkpoint anchored at"), "{ran:?}");
    let ran = desk.audit(&format!("{live} --witness-key stranger.pub")).await;
    ran.could_not_tell("did not cosign");
    // The fixture's clock cosigned long ago.
    let ran = desk.audit(&format!("{live} --witness-key witness.pub --max-age 60")).await;
    ran.could_not_tell("is not fresh");
    let empty = tempfile::tempdir().unwrap();
    let other = format!("verify --key-file service.key --url {}", server.url);
    let ran = desk.audit(&format!("{other} --anchor dir:{}", empty.path().display())).await;
    ran.could_not_tell("has no checkpoint");
    server.stop().await;

    // Everything rewritten under the same key, by somebody who cannot reach the anchor.
    let forged = lines_of(8).await;
    let forged_server = Fake::honest(&forged).serve().await;
    let anchored = format!("{LIVE} {forged_server} --anchor dir:{}", folder.path().display());
    desk.audit(&anchored).await.is_tampered("the checkpoint anchored at");
    // Cut back below what is anchored.
    let lines: Vec<String> = store.blocks().into_iter().flat_map(|block| block.lines).collect();
    let cut = Fake::honest(&lines[..4]).serve().await;
    let anchored = format!("{LIVE} {cut} --anchor dir:{}", folder.path().display());
    desk.audit(&anchored).await.is_tampered("cut back: it had 6 records");
    assert_eq!(head_of(&lines).size, 6);
    witness.stop().await;
    stranger.stop().await;
}

#[tokio::test]
async fn a_block_within_another_is_found_wherever_pages_of_blocks_end() {
    let desk = Desk::new();
    let path = desk.path("ledger.db");
    let store = SqliteLedger::open(&path).unwrap();
    let running = Running::open(Machine::new().parts(store)).await.unwrap();
    // More than a page, each of two records.
    for of in 0..70 {
        running.append_all([event(of, 1), read(of)]).await;
    }
    running.stop().await;
    let db = rusqlite::Connection::open(&path).unwrap();
    let firsts: Vec<i64> = {
        let mut select = db.prepare("SELECT first FROM blocks WHERE count = 2").unwrap();
        let rows = select.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    assert!(firsts.len() > 65);
    for first in [&firsts[..3], &firsts[60..68], &firsts[firsts.len() - 1..]].concat() {
        let insert = "INSERT INTO blocks SELECT first + 1, 1, frontier, root, seal FROM blocks
            WHERE first = ?1";
        db.execute(insert, [first]).unwrap();
        desk.audit("verify --store sqlite:ledger.db").await.is_tampered("first bad record");
        db.execute("DELETE FROM blocks WHERE first = ?1", [first + 1]).unwrap();
    }
    desk.audit("verify --store sqlite:ledger.db").await.is_intact();
}

#[tokio::test]
async fn a_retired_key_signs_nothing_new_however_many_keys_are_given() {
    use crate::key_rotation::rotate;

    let store = MemoryLedger::new();
    let machine = Machine::new();
    let running = machine.open_with(&[fixture::FIRST_KEY, 10], &store).await;
    receipt(running.append(read(1)).await);
    receipt(running.operate(rotate(fixture::FIRST_KEY, 10, 1)).await);
    receipt(running.append(read(1)).await);
    let keys = running.ledger.keys();
    running.stop().await;
    let lines: Vec<String> = store.blocks().into_iter().flat_map(|block| block.lines).collect();
    let (old, new) = (fixture::ledger_secret(fixture::FIRST_KEY), fixture::ledger_secret(10));
    let desk = Desk::new();
    desk.write("old.pub", old.public().to_string());
    desk.write("both.pub", format!("{}\n{}\n", old.public(), new.public()));
    desk.write("trusted", new.sign(head_of(&lines)));

    // The old key alone leads to the new one, through the ledger.
    let mut rotated = Fake::honest(&lines);
    rotated.checkpoint = new.sign(head_of(&lines));
    rotated.key = new.public().to_string();
    rotated.keys = keys.to_string();
    let url = rotated.clone().serve().await;
    let live = format!("--key-file key --url {url}");
    for keys in ["old.pub", "both.pub"] {
        desk.audit(&format!("verify {live} --verifier-key {keys}")).await.is_intact();
        let after = format!("verify {live} --verifier-key {keys} --trusted trusted");
        desk.audit(&after).await.is_intact();
        desk.audit(&format!("checkpoint {live} --verifier-key {keys}")).await.is_intact();
    }
    desk.audit(&format!("export {live} --verifier-key old.pub --out l")).await.is_intact();
    desk.audit(&format!("prove 0 {live} --verifier-key old.pub --out p")).await.is_intact();

    // A thief of the old key goes on from the trusted checkpoint, and rewrites all.
    let mut longer = lines.clone();
    let forged = {
        let store = MemoryLedger::new();
        let running = Machine::new().open(&store).await;
        receipt(running.append(read(1)).await);
        receipt(running.append(read(2)).await);
        running.stop().await;
        store.blocks().into_iter().flat_map(|block| block.lines).collect::<Vec<String>>()
    };
    let last = domain::record::Record::parse(lines.last().unwrap()).unwrap();
    let mut next = domain::record::Record::parse(&forged[1]).unwrap();
    next.seq = last.seq + 1;
    next.prev = domain::hash::Hash::of_line(lines.last().unwrap());
    next.recorded_at = last.recorded_at;
    longer.push(next.to_line());
    let mut gone_on = Fake::honest(&longer);
    gone_on.checkpoint = old.sign(head_of(&longer));
    gone_on.key = new.public().to_string();
    let url = gone_on.serve().await;
    let after = "--verifier-key both.pub --trusted trusted";
    let ran = desk.audit(&format!("verify --key-file key --url {url} {after}")).await;
    ran.is_tampered("not signed by the ledger's key");
    let rewritten = Fake::honest(&forged).serve().await;
    let both = format!("verify --key-file key --url {rewritten} --verifier-key both.pub");
    desk.audit(&both).await.could_not_tell("does not come up in the records read");
}

#[tokio::test]
async fn a_store_is_verified_directly_while_it_is_written() {
    let desk = Desk::new();
    let path = desk.path("ledger.db");
    let running =
        Running::open(Machine::new().parts(SqliteLedger::open(&path).unwrap())).await.unwrap();
    for of in 0..20 {
        receipt(running.append(event(of, 1)).await);
    }
    let ran = desk.audit("verify --store sqlite:ledger.db").await;
    let words = &ran.is_intact().out;
    for unchecked in ["--checkpoint was given", "--verifier-key was given", "--seal-key was given"]
    {
        assert!(words.contains(unchecked), "{words}");
    }
    desk.write("ledger.pub", fixture::keys().newest().to_string());
    running.stop().await;
    let ran = desk.audit("verify --store sqlite:ledger.db --verifier-key ledger.pub").await;
    assert!(ran.is_intact().out.contains("lookup entries of 20 stored blocks"), "{ran:?}");
    let witnessed = "verify --store sqlite:ledger.db --witness-key absent.pub";
    desk.audit(witnessed).await.could_not_tell("give the --checkpoint that the witnesses");
    desk.write("checkpoint", note_of(&[]));
    let ran = desk
        .audit("verify --store sqlite:ledger.db --verifier-key ledger.pub --checkpoint checkpoint")
        .await;
    assert!(ran.is_intact().out.contains("over the records from 0 on"), "{ran:?}");
    desk.audit("verify --store sqlite:ledger.pub").await.could_not_tell("cannot be read");
}
