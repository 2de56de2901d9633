//! `audit export`: the same bytes, whatever happened on the way.

use std::{path::Path, time::Duration};

use axum::response::IntoResponse;
use futures::{StreamExt, stream};

use crate::{
    cli::Desk,
    fake_ledger::{Fake, KEY, lines_of, note_of},
    fixture::{self, PATIENCE, event},
    server::{Server, key},
};

const EXPORT: &str = "export --key-file key --out ledger.ndjson --url";

fn ndjson(lines: &[String]) -> Vec<u8> {
    lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect()
}

fn decompressed(bytes: &[u8]) -> Vec<u8> {
    zstd::decode_all(bytes).unwrap()
}

#[tokio::test]
async fn an_export_of_the_real_service_is_what_it_serves_byte_for_byte() {
    let server = Server::start().await;
    let items: Vec<_> = (0..25).map(|n| event(n % 2, 1 + n / 2)).collect();
    let body = serde_json::json!({ "items": items }).to_string();
    server.post("patient-service", "/records/batch", body).await;
    let desk = Desk::new();
    desk.write("service.key", key("audit"));
    let export = format!("export --key-file service.key --url {}", server.url);
    let run = async |more: &str| desk.audit(&format!("{export} {more}")).await;

    let ran = run("--out ledger.ndjson --checkpoint-out checkpoint").await;
    assert!(
        ran.is_intact().out.starts_with("complete: ledger.ndjson has all 25 records"),
        "{ran:?}"
    );
    assert!(ran.out.contains("shown by the server itself"), "{ran:?}");
    let lines = server.get("audit", "/records").await.text;
    assert_eq!(desk.text("ledger.ndjson"), lines);
    assert_eq!(desk.text("checkpoint"), server.get("audit", "/checkpoint").await.text);

    run("--out ledger.zst --zstd").await.is_intact();
    assert_eq!(decompressed(&desk.read("ledger.zst")), lines.as_bytes());

    desk.write("ledger.pub", fixture::keys().newest().to_string());
    let ran = run("--out ledger.ndjson --verifier-key ledger.pub --json").await;
    let json = ran.is_intact().json();
    assert_eq!((&json["verdict"], &json["size"]), (&"intact".into(), &25.into()));
    assert_eq!(json["resumedAt"], 25);
    assert_eq!(desk.text("ledger.ndjson"), lines);
    server.stop().await;
}

#[tokio::test]
async fn both_doors_are_found_and_an_empty_ledger_is_exported() {
    let lines = lines_of(5).await;
    let desk = Desk::new();
    let gateway = Fake { is_gateway: true, page: 2, ..Fake::honest(&lines) }.serve().await;
    for url in [gateway.clone(), format!("{gateway}/"), format!("{gateway}/audit")] {
        desk.audit(&format!("{EXPORT} {url}")).await.is_intact();
        assert_eq!(desk.read("ledger.ndjson"), ndjson(&lines));
        std::fs::remove_file(desk.path("ledger.ndjson")).unwrap();
    }
    let empty = Fake::honest(&[]).serve().await;
    desk.audit(&format!("{EXPORT} {empty}")).await.is_intact();
    assert!(desk.read("ledger.ndjson").is_empty());
}

/// Cuts a whole export to a length and lets it be completed.
async fn resume_from(bytes: &[u8], length: usize, url: &str, zstd: &str) -> Vec<u8> {
    let desk = Desk::new();
    desk.write("ledger.ndjson", &bytes[..length]);
    let ran = desk.audit(&format!("{EXPORT} {url} {zstd}")).await;
    assert_eq!(ran.code, 0, "cut at {length}: {ran:?}");
    desk.read("ledger.ndjson")
}

#[tokio::test]
async fn an_export_cut_at_any_byte_is_completed() {
    let lines = lines_of(3).await;
    let url = Fake { page: 2, ..Fake::honest(&lines) }.serve().await;
    let whole = ndjson(&lines);
    // The beginning, and all of the last line with what is before it.
    let places = (0..40).chain(whole.len() - lines[2].len() - 3..=whole.len());
    let cuts = stream::iter(places).map(|length| resume_from(&whole, length, &url, ""));
    let mut resumed = cuts.buffer_unordered(4);
    while let Some(bytes) = resumed.next().await {
        assert!(bytes == whole);
    }
}

#[tokio::test]
async fn a_compressed_export_cut_at_any_byte_is_completed() {
    let lines = lines_of(4).await;
    let url = Fake { page: 2, ..Fake::honest(&lines) }.serve().await;
    let desk = Desk::new();
    desk.audit(&format!("{EXPORT} {url} --zstd")).await.is_intact();
    let whole = desk.read("ledger.ndjson");
    let cuts = stream::iter(0..=whole.len()).map(|at| resume_from(&whole, at, &url, "--zstd"));
    let mut resumed = cuts.buffer_unordered(4);
    while let Some(bytes) = resumed.next().await {
        assert!(decompressed(&bytes) == ndjson(&lines));
    }
}

#[tokio::test]
async fn an_export_that_was_killed_is_completed() {
    let lines = lines_of(9).await;
    for zstd in ["", "--zstd"] {
        let desk = Desk::new();
        // The third page never comes.
        let stalling = Fake { page: 3, ..Fake::honest(&lines) }
            .with_records(|from, bytes| if from < 6 { bytes.into_response() } else { stalled() });
        let mut run = desk.spawn(&format!("{EXPORT} {} {zstd}", stalling.serve().await));
        let file = desk.path("ledger.ndjson");
        let read = |bytes: Vec<u8>| if zstd.is_empty() { bytes } else { decompressed(&bytes) };
        let written = async {
            while size_of(&file) == 0 || read(std::fs::read(&file).unwrap()) != ndjson(&lines[..6])
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, written).await.expect("two pages are written");
        // Nobody else may write the file meanwhile.
        let url = Fake::honest(&lines).serve().await;
        let second = format!("{EXPORT} {url} {zstd}");
        desk.audit(&second).await.could_not_tell("another export writes ledger.ndjson");
        run.kill().await.unwrap();
        let ran = desk.audit(&second).await;
        assert!(ran.is_intact().out.contains("6 of them were there before"), "{ran:?}");
        assert_eq!(read(desk.read("ledger.ndjson")), ndjson(&lines));
    }
}

fn size_of(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

fn stalled() -> axum::response::Response {
    axum::body::Body::from_stream(stream::pending::<std::io::Result<String>>()).into_response()
}

#[tokio::test]
async fn a_grown_ledger_is_gone_on_with() {
    let lines = lines_of(7).await;
    let desk = Desk::new();
    for size in [3, 4, 7] {
        let url = Fake { page: 2, ..Fake::honest(&lines[..size]) }.serve().await;
        desk.audit(&format!("{EXPORT} {url} --checkpoint-out checkpoint")).await.is_intact();
        assert_eq!(desk.read("ledger.ndjson"), ndjson(&lines[..size]));
        assert_eq!(desk.text("checkpoint"), note_of(&lines[..size]));
    }
}

#[tokio::test]
async fn a_file_that_is_no_export_of_this_ledger_is_left_as_it_is() {
    let lines = lines_of(3).await;
    let url = Fake::honest(&lines).serve().await;
    let desk = Desk::new();
    let check = async |bytes: &[u8], zstd: &str, words: &str| {
        desk.write("ledger.ndjson", bytes);
        desk.audit(&format!("{EXPORT} {url} {zstd}")).await.could_not_tell(words);
        assert_eq!(desk.read("ledger.ndjson"), bytes);
    };
    let other = "something else than records of the ledger test-ledger";
    check(b"notes of a meeting", "", other).await;
    check(b"notes of\na meeting\n", "", other).await;
    check(&[0xff, b'\n'], "", other).await;
    check(&vec![b'x'; 70_000], "", other).await;
    check(&ndjson(&lines[1..]), "", other).await;
    let foreign: Vec<String> =
        lines.iter().map(|line| line.replace("test-ledger", "best-ledger")).collect();
    check(&ndjson(&foreign), "", other).await;
    check(&ndjson(&lines), "--zstd", "is not compressed").await;
    let compressed = zstd::encode_all(ndjson(&lines).as_slice(), 3).unwrap();
    check(&compressed, "", "is compressed").await;
    let foreign = zstd::encode_all(ndjson(&foreign).as_slice(), 3).unwrap();
    check(&foreign, "--zstd", other).await;
    let torn = zstd::encode_all(&ndjson(&lines)[..100], 3).unwrap();
    check(&torn, "--zstd", "cannot be decompressed").await;
    let mut damaged = compressed.clone();
    damaged[40] ^= 1;
    desk.write("ledger.ndjson", &damaged);
    assert_ne!(desk.audit(&format!("{EXPORT} {url} --zstd")).await.code, 0);
    assert_eq!(desk.read("ledger.ndjson"), damaged);
    // One frame by another program is as good as several.
    desk.write("ledger.ndjson", &compressed);
    desk.audit(&format!("{EXPORT} {url} --zstd")).await.is_intact();
}

#[tokio::test]
async fn a_changed_file_is_not_completed() {
    let lines = lines_of(6).await;
    let url = Fake::honest(&lines).serve().await;
    let desk = Desk::new();
    let check = async |lines: &[String], seq: u64| {
        desk.write("ledger.ndjson", ndjson(lines));
        let ran = desk.audit(&format!("{EXPORT} {url} --json")).await;
        assert_eq!((ran.code, &ran.json()["seq"]), (1, &seq.into()), "{ran:?}");
        assert_eq!(desk.read("ledger.ndjson"), ndjson(lines));
    };
    let changed = |seq: usize| {
        let mut lines = lines[..4].to_vec();
        lines[seq] = lines[seq].replace("192.0.2.7", "192.0.2.8");
        lines
    };
    // Only the record after it shows that one was changed.
    check(&changed(1), 2).await;
    check(&changed(2), 3).await;
    check(&[&lines[..2], &lines[3..]].concat(), 2).await;
    check(&[&lines[..2], &lines[1..]].concat(), 2).await;
    // The last line is found wrong by the first one that comes from the server.
    desk.write("ledger.ndjson", ndjson(&changed(3)));
    desk.audit(&format!("{EXPORT} {url}")).await.is_tampered("not a continuation of ledger.ndjson");
}

#[tokio::test]
async fn a_ledger_that_was_cut_back_or_forked_is_noticed() {
    let lines = lines_of(6).await;
    let desk = Desk::new();
    let export = format!("{EXPORT} URL --checkpoint-out checkpoint");
    let whole = Fake::honest(&lines).serve().await;
    desk.audit(&export.replace("URL", &whole)).await.is_intact();
    let shorter = export.replace("URL", &Fake::honest(&lines[..4]).serve().await);
    desk.audit(&shorter).await.is_tampered("cut back");
    std::fs::remove_file(desk.path("checkpoint")).unwrap();
    desk.audit(&shorter).await.is_tampered("cut back");

    // Another history of the same name: the file is of the first one, then the checkpoint is.
    let other = lines_of(8).await;
    let forked = export.replace("URL", &Fake::honest(&other).serve().await);
    desk.audit(&forked).await.is_tampered("not a continuation");
    std::fs::remove_file(desk.path("ledger.ndjson")).unwrap();
    desk.write("checkpoint", note_of(&lines));
    desk.audit(&forked).await.is_tampered("fork");
    assert_eq!(desk.text("checkpoint"), note_of(&lines));
    desk.write("checkpoint", KEY);
    desk.audit(&forked).await.could_not_tell("is no checkpoint: it is not replaced");
}
