//! Servers that do not serve the ledger that they sign.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::future::join_all;

use crate::{
    cli::{Desk, Ran},
    fake_ledger::{Fake, broken_off, endless, lines_of, note_of},
    fixture,
};

const SIZE: usize = 9;

/// What is done to the lines that are served.
type Change = fn(&mut Vec<String>);

async fn export(fake: Fake) -> Ran {
    let desk = Desk::new();
    let url = fake.serve().await;
    let ran = desk.audit(&format!("export --json --key-file key --out x --url {url}")).await;
    assert_eq!(ran.code == 0, desk.path("x").exists() && ran.json()["verdict"] == "intact");
    ran
}

/// A server whose lines were changed, under an honest checkpoint.
async fn export_changed(lines: &[String], page: usize, change: Change) -> Ran {
    let mut changed = lines.to_vec();
    change(&mut changed);
    let mut fake = Fake { page, ..Fake::honest(lines) };
    fake.lines = Arc::new(changed);
    export(fake).await
}

#[tokio::test]
async fn changed_records_are_found_and_the_first_bad_one_is_named() {
    let lines = lines_of(SIZE as u64).await;
    let cases: [(&str, usize, Change); 12] = [
        ("changed", 4, |lines| lines[4] = lines[4].replace("192.0.2.7", "192.0.2.8")),
        ("first changed", 0, |lines| lines[0] = lines[0].replace("192.0.2.7", "192.0.2.8")),
        ("no record", 4, |lines| lines[4] = "{}".into()),
        ("another form", 4, |lines| lines[4] = lines[4].replacen(':', ": ", 1)),
        ("of another ledger", 4, |lines| lines[4] = lines[4].replace("test-", "best-")),
        ("left out", 4, |lines| drop(lines.remove(4))),
        ("first left out", 0, |lines| drop(lines.remove(0))),
        ("repeated", 5, |lines| lines.insert(4, lines[4].clone())),
        ("swapped", 4, |lines| lines.swap(4, 5)),
        ("an empty line", 4, |lines| lines.insert(4, String::new())),
        ("cut off", 6, |lines| lines.truncate(6)),
        ("nothing at all", 0, Vec::clear),
    ];
    // At the same time, because missing records are waited for.
    let checks = cases.into_iter().flat_map(|case| [(case, 1_000), (case, 4)]);
    let check = async |((what, seq, change), page): ((&str, usize, Change), usize)| {
        let ran = export_changed(&lines, page, change).await;
        assert_eq!((ran.code, &ran.json()["seq"]), (1, &seq.into()), "{what}: {ran:?}");
    };
    join_all(checks.map(check)).await;
}

#[tokio::test]
async fn pages_that_are_not_lines_are_found() {
    let lines = lines_of(SIZE as u64).await;
    let check = async |seq: usize, change: fn(Vec<u8>) -> Vec<u8>| {
        let fake = Fake { page: 3, ..Fake::honest(&lines) };
        let ran = export(fake.with_records(move |from, bytes| {
            let bytes = bytes.into_bytes();
            if from == 3 { change(bytes).into_response() } else { bytes.into_response() }
        }));
        let ran = ran.await;
        assert_eq!((ran.code, &ran.json()["seq"]), (1, &seq.into()), "{ran:?}");
    };
    check(5, |bytes| bytes[..bytes.len() - 1].to_vec()).await;
    check(5, |bytes| bytes[..bytes.len() - 30].to_vec()).await;
    check(3, |bytes| bytes[..30].to_vec()).await;
    check(3, |bytes| [b"\xff\n", bytes.as_slice()].concat()).await;
    check(6, |bytes| [bytes.as_slice(), b"\xff\n"].concat()).await;
    check(3, |_| b"\n".to_vec()).await;
    check(3, |_| vec![b'x'; 100_000]).await;
}

#[tokio::test]
async fn checkpoints_that_do_not_go_with_the_records_are_found() {
    let lines = lines_of(SIZE as u64).await;
    let check = async |note: String, words: &str| {
        let ran = export(Fake { checkpoint: note, ..Fake::honest(&lines) }).await;
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.json()["words"].as_str().unwrap().contains(words), "{ran:?}");
    };
    let honest = note_of(&lines);
    check(honest.replace("\n9\n", "\n8\n"), "not signed by the ledger's key").await;
    check("no note".to_owned(), "cannot be read").await;
    check(String::new(), "cannot be read").await;
    let other = lines_of(SIZE as u64).await;
    check(note_of(&other), "not the one that the checkpoint signs").await;
    check(note_of(&[&lines[..], &other[..1]].concat()), "record 9 is missing").await;
}

#[tokio::test]
async fn the_key_that_one_holds_counts_more_than_the_one_that_is_shown() {
    let lines = lines_of(2).await;
    let url = Fake::honest(&lines).serve().await;
    let desk = Desk::new();
    let own = audit_service::checkpoint::new_signing_key(&fixture::name(fixture::ORIGIN), [1; 32]);
    let own = audit_verify::checkpoint::LedgerSecret::parse(&own).unwrap().public();
    desk.write("own.pub", own.to_string());
    desk.write("ledger.pub", fixture::keys().newest().to_string());
    let export = format!("export --key-file key --out x --url {url} --verifier-key own.pub");
    desk.audit(&export).await.is_tampered("not signed by the ledger's key");
    assert!(!desk.path("x").exists());
    desk.audit(&format!("{export} --verifier-key ledger.pub")).await.is_intact();
}

#[tokio::test]
async fn answers_that_cannot_be_used_are_code_2_and_say_what_to_do() {
    let lines = lines_of(3).await;
    let check = async |answer: fn() -> Response, words: &str| {
        let ran = export(Fake::honest(&lines).with_records(move |_, _| answer())).await;
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.json()["words"].as_str().unwrap().contains(words), "{ran:?}");
        let ran = export(Fake::honest(&lines).with_text(move |_, _| answer())).await;
        assert_eq!(ran.code, 2, "{ran:?}");
    };
    let forbidden = || (StatusCode::FORBIDDEN, r#"{"detail":"no scope"}"#).into_response();
    check(forbidden, "may not read the ledger (no scope)").await;
    check(|| StatusCode::UNAUTHORIZED.into_response(), "is not accepted").await;
    check(|| StatusCode::INTERNAL_SERVER_ERROR.into_response(), "status 500").await;
    let away = || (StatusCode::FOUND, [(header::LOCATION, "http://127.0.0.1:1/")]).into_response();
    check(away, "status 302").await;
    check(endless, "is longer than").await;
}

#[tokio::test]
async fn an_answer_that_fails_for_a_while_is_asked_for_again() {
    let lines = lines_of(4).await;
    for failing in [
        || StatusCode::SERVICE_UNAVAILABLE.into_response(),
        || (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")]).into_response(),
        || broken_off("{".to_owned()),
        // A replica that is behind the one that signed.
        || "".into_response(),
    ] as [fn() -> Response; 4]
    {
        let asked = AtomicUsize::new(0);
        let fake = Fake::honest(&lines).with_records(move |_, bytes| {
            if asked.fetch_add(1, Ordering::Relaxed) < 2 {
                failing()
            } else {
                bytes.into_response()
            }
        });
        let ran = export(fake).await;
        assert_eq!(ran.code, 0, "{ran:?}");
    }
}

#[tokio::test]
async fn what_is_no_ledger_is_said_to_be_none() {
    let lines = lines_of(1).await;
    for answer in ["<html>", "", "a+b+c"] {
        let ran = export(Fake::honest(&lines).with_text(move |_, _| answer.into_response())).await;
        assert_eq!(ran.code, 2, "{ran:?}");
    }
    let ran = export(Fake::honest(&lines).with_text(|_, _| StatusCode::NOT_FOUND.into_response()));
    let ran = ran.await;
    assert_eq!(ran.code, 2, "{ran:?}");
}
