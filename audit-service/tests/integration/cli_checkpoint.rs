//! `audit checkpoint`: what is kept as trusted, and how two checkpoints stand to each other.

use audit_verify::{checkpoint::LedgerSecret, cosignature::WitnessSecret};
use axum::{http::StatusCode, response::IntoResponse};

use crate::{
    cli::Desk,
    fake_ledger::{Fake, head_of, lines_of, note_of},
    fixture::{self, ORIGIN, event},
    server::{Server, key},
};

const FETCH: &str = "checkpoint --key-file key --out trusted --url";

fn desk() -> Desk {
    let desk = Desk::new();
    desk.write("ledger.pub", fixture::keys().newest().to_string());
    desk
}

#[tokio::test]
async fn the_real_services_checkpoint_is_kept() {
    let server = Server::start().await;
    let body = serde_json::json!({ "items": [event(1, 1)] }).to_string();
    server.post("patient-service", "/records/batch", body).await;
    let desk = desk();
    desk.write("service.key", key("audit"));
    let fetch = format!("checkpoint --key-file service.key --url {}", server.url);
    let shown = desk.audit(&fetch).await;
    assert!(shown.is_intact().out.contains("shown by the server itself"), "{shown:?}");
    let kept = desk.audit(&format!("{fetch} --out trusted --verifier-key ledger.pub")).await;
    assert!(kept.is_intact().out.contains("kept in trusted"), "{kept:?}");
    assert_eq!(desk.text("trusted"), server.get("audit", "/checkpoint").await.text);
    let show = desk.audit("checkpoint show trusted --verifier-key ledger.pub").await;
    assert!(show.is_intact().out.contains("test-ledger: 1 records"), "{show:?}");

    for key in ["patient-service", "old-clinic"].map(key) {
        desk.write("service.key", key);
        let ran = desk.audit(&fetch).await;
        assert_eq!(ran.code == 0, desk.text("service.key") == self::key("patient-service"));
    }
    desk.write("service.key", "not-a-key-of-anybody");
    desk.audit(&fetch).await.could_not_tell("the key in the key file is not accepted");
    server.stop().await;
}

#[tokio::test]
async fn a_trusted_checkpoint_only_moves_forward() {
    let lines = lines_of(9).await;
    let desk = desk();
    let at = async |size: usize| {
        let mut fake = Fake::honest(&lines);
        fake.checkpoint = note_of(&lines[..size]);
        format!("{FETCH} {}", fake.serve().await)
    };
    for size in [0, 3, 3, 4, 9] {
        desk.audit(&at(size).await).await.is_intact();
        assert_eq!(desk.text("trusted"), note_of(&lines[..size]));
    }
    desk.audit(&at(8).await).await.is_tampered("cut back");
    assert_eq!(desk.text("trusted"), note_of(&lines));

    // Another history: of the same size, longer, and under another name.
    let other = lines_of(12).await;
    let same_size = format!("{FETCH} {}", Fake::honest(&other[..9]).serve().await);
    desk.audit(&same_size).await.is_tampered("fork");
    let longer = format!("{FETCH} {}", Fake::honest(&other).serve().await);
    desk.audit(&longer).await.is_tampered("fork");
    let best = LedgerSecret::new(fixture::name("best-ledger"), &[1; 32]);
    let renamed = Fake {
        key: best.public().to_string(),
        checkpoint: best.sign(head_of(&other)),
        ..Fake::honest(&other)
    };
    let renamed = format!("{FETCH} {}", renamed.serve().await);
    desk.audit(&renamed).await.could_not_tell("is a checkpoint of the ledger test-ledger");
    assert_eq!(desk.text("trusted"), note_of(&lines));
    desk.write("trusted", "a shopping list");
    desk.audit(&longer).await.could_not_tell("is no checkpoint: it is not replaced");
    assert_eq!(desk.text("trusted"), "a shopping list");
}

#[tokio::test]
async fn a_server_cannot_talk_its_way_around_a_trusted_checkpoint() {
    let lines = lines_of(9).await;
    let other = lines_of(12).await;
    let desk = desk();
    desk.write("trusted", note_of(&lines));
    let lying = async |answer: String, code: i32| {
        let fake = Fake::honest(&other).with_text(move |path, text| {
            if path == "/consistency" { answer.clone() } else { text }.into_response()
        });
        let ran = desk.audit(&format!("{FETCH} {}", fake.serve().await)).await;
        assert_eq!(ran.code, code, "{ran:?}");
        assert_eq!(desk.text("trusted"), note_of(&lines));
    };
    let honest = Fake::honest(&other).tree().consistency(9, 12);
    lying(honest.clone(), 1).await;
    let root = |lines: &[String]| head_of(lines).root.to_string();
    lying(honest.replace(&root(&other[..9]), &root(&lines)), 1).await;
    lying(Fake::honest(&other).tree().consistency(12, 12), 1).await;
    lying(Fake::honest(&other).tree().consistency(0, 12), 1).await;
    lying(Fake::honest(&lines).tree().consistency(9, 9), 1).await;
    lying("{}".to_owned(), 2).await;
    lying(String::new(), 2).await;
}

#[tokio::test]
async fn two_checkpoints_are_the_same_older_or_a_fork() {
    let lines = lines_of(9).await;
    let other = lines_of(9).await;
    let desk = desk();
    for size in [0, 4, 9] {
        desk.write(&format!("a{size}"), note_of(&lines[..size]));
    }
    desk.write("b4", note_of(&other[..4]));
    desk.write("b9", note_of(&other));
    let tree = Fake::honest(&lines).tree();
    desk.write("proof", tree.consistency(4, 9));
    desk.write("wrong", tree.consistency(3, 9));
    desk.write("forked", Fake::honest(&other).tree().consistency(4, 9));
    let url = Fake::honest(&lines).serve().await;
    let live = format!("--key-file key --url {url}");
    let relation = async |pair: &str, more: &str, relation: &str| {
        let compare = format!("checkpoint compare {pair} {more} --verifier-key ledger.pub");
        let ran = desk.audit(&format!("{compare} --json")).await;
        assert_eq!(ran.is_intact().json()["relation"], relation, "{pair}");
    };
    relation("a4 a4", "", "same").await;
    relation("a0 a4", "", "older").await;
    relation("a4 a9", &live, "older").await;
    relation("a9 a4", &live, "newer").await;
    relation("a4 a9", "--proof proof", "older").await;
    relation("a9 a4", "--proof proof", "newer").await;

    let fork = async |pair: &str, more: &str| {
        desk.audit(&format!("checkpoint compare {pair} {more}")).await.is_tampered("fork");
    };
    fork("a4 b4", "").await;
    fork("b4 a9", &live).await;
    fork("a4 b9", &live).await;
    fork("b4 a9", "--proof proof").await;
    fork("a4 b9", "--proof forked").await;

    let unknown = async |rest: &str, words: &str| {
        desk.audit(&format!("checkpoint compare {rest}")).await.could_not_tell(words);
    };
    unknown("a4 a9", "only a proof tells").await;
    unknown("a4 a9 --proof wrong", "from size 3 to 9; one from 4 to 9 is needed").await;
    unknown("a4 a9 --proof a4", "is no proof").await;
    unknown("a4 a9 --url http://127.0.0.1:1 --key-file key", "cannot be reached").await;
    let best = LedgerSecret::new(fixture::name("best-ledger"), &[1; 32]);
    desk.write("best", best.sign(head_of(&lines)));
    unknown("a9 best", "of the ledgers test-ledger and best-ledger").await;
}

#[tokio::test]
async fn a_changed_checkpoint_is_found() {
    let lines = lines_of(3).await;
    let desk = desk();
    let note = note_of(&lines).into_bytes();
    desk.write("a", &note);
    let show = "checkpoint show a --verifier-key ledger.pub";
    desk.audit(show).await.is_intact();
    for at in 0..note.len() {
        let mut changed = note.clone();
        changed[at] ^= 1;
        desk.write("a", &changed);
        let ran = desk.audit(show).await;
        assert_eq!(ran.code, 1, "byte {at}: {ran:?}");
    }
    let other = LedgerSecret::new(fixture::name(ORIGIN), &[1; 32]);
    desk.write("a", other.sign(head_of(&lines)));
    desk.audit(show).await.is_tampered("not signed by the ledger's key");
    let unverified = desk.audit("checkpoint show a").await;
    assert!(unverified.is_intact().out.contains("was not verified"), "{unverified:?}");
}

#[tokio::test]
async fn cosignatures_are_demanded_and_kept() {
    let lines = lines_of(4).await;
    let desk = desk();
    let witness = WitnessSecret::new("witness.example", &[2; 32]).unwrap();
    desk.write("witness.pub", witness.public().to_string());
    let note = note_of(&lines);
    let cosigned = format!("{note}{}", witness.cosign(&note, 1_700_000_000).unwrap());
    let alone = format!("{FETCH} {}", Fake::honest(&lines).serve().await);
    desk.audit(&alone).await.is_intact();
    for wanted in ["--witnessed", "--witness-key witness.pub"] {
        let ran = desk.audit(&format!("{alone} {wanted}")).await;
        ran.could_not_tell("no checkpoint that a witness cosigned");
    }
    let witnessed = Fake { checkpoint: cosigned.clone(), ..Fake::honest(&lines) };
    let witnessed = format!("{FETCH} {}", witnessed.serve().await);
    let ran = desk.audit(&format!("{witnessed} --witness-key witness.pub")).await;
    assert!(ran.is_intact().out.contains("cosigned by witness.example at 2023-11-14"), "{ran:?}");
    assert_eq!(desk.text("trusted"), cosigned);
    // Witnesses that are behind are no sign of tampering.
    let longer = lines_of(5).await;
    desk.write("newer", note_of(&longer));
    let behind = witnessed.replace("trusted", "newer");
    let ran = desk.audit(&format!("{behind} --witnessed")).await;
    ran.could_not_tell("ask again when they have caught up");
    let nothing = Fake::honest(&lines).with_text(|path, text| match path {
        "/checkpoint" => StatusCode::NOT_FOUND.into_response(),
        _ => text.into_response(),
    });
    let unwitnessed = format!("{FETCH} {} --witnessed", nothing.serve().await);
    desk.audit(&unwitnessed).await.could_not_tell("no checkpoint that a witness cosigned");
    // The same checkpoint with fewer signatures takes none away.
    desk.audit(&alone).await.is_intact();
    assert_eq!(desk.text("trusted"), cosigned);
}
