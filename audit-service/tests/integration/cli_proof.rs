//! `audit prove` and `audit check`.

use audit_verify::{
    checkpoint::LedgerSecret,
    cosignature::WitnessSecret,
    keys::{Algorithm, NoteSecret},
};
use axum::response::IntoResponse;
use domain::hash::Hash;
use futures::{StreamExt, stream};

use crate::{
    cli::Desk,
    fake_ledger::{Fake, lines_of, note_of},
    fixture::{self, ORIGIN},
};

const CHECK: &str = "check proof --verifier-key ledger.pub --line line";

/// A desk with the ledger's verifier key and another one of the same name.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.write("ledger.pub", format!("{}\n", fixture::keys().newest()));
    let other = LedgerSecret::new(fixture::name(ORIGIN), &[1; 32]).public();
    desk.write("other.pub", other.to_string());
    desk
}

/// A desk with a proof of one record, its line, and its server.
async fn proven(lines: &[String], seq: usize) -> (Desk, String) {
    let desk = desk();
    let url = Fake::honest(lines).serve().await;
    let prove = format!("prove {seq} --url {url} --key-file key --out proof --line-out line");
    desk.audit(&format!("{prove} --verifier-key ledger.pub")).await.is_intact();
    (desk, url)
}

#[tokio::test]
async fn every_record_is_proven_to_every_size() {
    let lines = lines_of(9).await;
    let (desk, url) = proven(&lines, 0).await;
    for (seq, line) in lines.iter().enumerate() {
        for size in (seq + 1..=9).map(|size| size.to_string()).chain(["latest".to_owned()]) {
            let prove = format!("prove {seq} --size {size} --url {url} --key-file key");
            desk.audit(&format!("{prove} --out proof --line-out line")).await.is_intact();
            assert_eq!(desk.text("line"), format!("{line}\n"));
            let ran = desk.audit(&format!("{CHECK} --json")).await;
            let json = ran.is_intact().json();
            assert_eq!((&json["seq"], &json["ledger"]), (&seq.into(), &ORIGIN.into()));
            let size = size.parse::<u64>().unwrap_or(9);
            assert_eq!(json["size"], size);
        }
    }
    // Without its newline, and by its hash alone.
    desk.write("line", &lines[8]);
    let ran = desk.audit(CHECK).await;
    let words = "record 8, a PatientAmended recorded at ";
    assert!(ran.is_intact().out.starts_with(words), "{ran:?}");
    assert!(ran.out.contains("is in the ledger test-ledger as of its checkpoint of 9 records"));
    assert!(ran.out.contains("checkpoint signed by the key test-ledger+"), "{ran:?}");
    let by_hash =
        format!("check proof --verifier-key ledger.pub --hash {}", Hash::of_line(&lines[8]));
    desk.audit(&by_hash).await.is_intact();
    let other =
        format!("check proof --verifier-key ledger.pub --hash {}", Hash::of_line(&lines[7]));
    desk.audit(&other).await.is_tampered("record 8 is not proven");
}

#[tokio::test]
async fn a_flipped_byte_of_the_proof_or_of_the_line_is_always_found() {
    let lines = lines_of(5).await;
    let (honest, _) = proven(&lines, 2).await;
    let files = [("proof", honest.read("proof")), ("line", lines[2].clone().into_bytes())];
    for (file, bytes) in files {
        let flips = stream::iter(0..bytes.len()).map(|at| {
            let (honest, bytes) = (&honest, &bytes);
            async move {
                let desk = desk();
                for file in ["proof", "line"] {
                    desk.write(file, honest.read(file));
                }
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << (at % 8);
                desk.write(file, &bytes);
                let ran = desk.audit(CHECK).await;
                assert_eq!(ran.code, 1, "byte {at} of the {file}: {ran:?}");
            }
        });
        flips.buffer_unordered(4).collect::<Vec<()>>().await;
        for length in 0..bytes.len() {
            // A proof may be cut within what follows the signature, which is nothing.
            honest.write(file, &bytes[..length]);
            if length % 7 == 0 || length + 3 > bytes.len() {
                assert_ne!(honest.audit(CHECK).await.code, 0, "{file} cut to {length}");
            }
        }
        honest.write(file, &bytes);
    }
    honest.audit(CHECK).await.is_intact();
    honest.write("line", format!("{}\n\n", lines[2]));
    assert_eq!(honest.audit(CHECK).await.code, 1);
    honest.write("line", format!("{}\n", lines[3]));
    honest.audit(CHECK).await.is_tampered("the line is of record 3, the proof is of record 2");
}

#[tokio::test]
async fn any_of_the_verifier_keys_counts_and_without_one_nothing_is_told() {
    let lines = lines_of(5).await;
    let (desk, _) = proven(&lines, 3).await;
    let check = "check proof --line line";
    desk.audit(check).await.could_not_tell("--verifier-key");
    let wrong = format!("{check} --verifier-key other.pub");
    desk.audit(&wrong).await.is_tampered("not signed by the ledger's key");
    desk.audit(&format!("{wrong} --verifier-key ledger.pub")).await.is_intact();
    desk.audit(&format!("{check} --verifier-key ledger.pub --verifier-key other.pub"))
        .await
        .is_intact();
    let foreign = LedgerSecret::new(fixture::name("best-ledger"), &[1; 32]).public();
    desk.write("foreign.pub", foreign.to_string());
    let both = format!("{check} --verifier-key ledger.pub --verifier-key foreign.pub");
    desk.audit(&both).await.could_not_tell("of different ledgers");
    desk.audit(&format!("{check} --verifier-key foreign.pub")).await.is_tampered("best-ledger");
    for (proof, words) in [("none", "none cannot be read"), ("big", "is longer than")] {
        desk.write("big", "x".repeat(70_000));
        let check = format!("check {proof} --line line --verifier-key ledger.pub");
        desk.audit(&check).await.could_not_tell(words);
    }
}

#[tokio::test]
async fn named_witnesses_must_have_cosigned() {
    let lines = lines_of(5).await;
    let (desk, _) = proven(&lines, 3).await;
    let note = note_of(&lines);
    let witness = |name: &str| WitnessSecret::new(name, &[2; 32]).unwrap();
    let (first, second) = (witness("witness.example/1"), witness("witness.example/2"));
    desk.write("first.pub", first.public().to_string());
    desk.write("second.pub", second.public().to_string());
    let with = |witnesses: &str| format!("{CHECK} {witnesses}");
    let absent = desk.audit(&with("--witness-key first.pub")).await;
    absent.could_not_tell("witness.example/1 did not cosign");

    let cosigned = |line: String| desk.text("proof").replace(&note, &format!("{note}{line}"));
    let genuine = cosigned(first.cosign(&note, 1_700_000_000).unwrap());
    let elsewhere = cosigned(first.cosign(&note_of(&lines[..4]), 1_700_000_000).unwrap());
    desk.write("proof", elsewhere);
    desk.audit(CHECK).await.is_intact();
    desk.audit(&with("--witness-key first.pub")).await.is_tampered("is not genuine");
    desk.write("proof", genuine);
    let ran = desk.audit(&with("--witness-key first.pub")).await;
    let words = "cosigned by witness.example/1 at 2023-11-14T22:13:20.000Z";
    assert!(ran.is_intact().out.contains(words), "{ran:?}");
    let both = desk.audit(&with("--witness-key first.pub --witness-key second.pub")).await;
    both.could_not_tell("witness.example/2 did not cosign");
    // A key that signs notes is not a witness's.
    let note_key = NoteSecret::new("w", Algorithm::Note, &[2; 32]).unwrap();
    desk.write("first.pub", note_key.public().to_string());
    desk.audit(&with("--witness-key first.pub")).await.could_not_tell("first.pub");
}

#[tokio::test]
async fn a_proof_that_does_not_prove_is_not_written() {
    let lines = lines_of(6).await;
    let desk = desk();
    let check = async |fake: Fake, more: &str, code: i32, words: &str| {
        let url = fake.serve().await;
        let prove = format!("prove 2 --url {url} --key-file key --out proof --line-out line");
        let ran = desk.audit(&format!("{prove} {more}")).await;
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(format!("{}{}", ran.out, ran.err).contains(words), "{ran:?}");
        assert!(!desk.path("proof").exists() && !desk.path("line").exists());
    };
    let swap = |path: &'static str, from: &str, to: &str| {
        let (from, to) = (from.to_owned(), to.to_owned());
        Fake::honest(&lines).with_text(move |at, text| {
            if at == path { text.replace(&from, &to) } else { text }.into_response()
        })
    };
    let honest = || Fake::honest(&lines);
    check(swap("/records/seq", "192.0.2.7", "192.0.2.8"), "", 1, "is not proven").await;
    check(swap("/records/seq", &lines[2], &lines[3]), "", 1, "the line is of record 3").await;
    check(swap("/records/seq", "}\n", "}"), "", 2, "is not one line").await;
    check(swap("/proof", "index 2", "index 3"), "", 1, "the server proves 3").await;
    check(swap("/proof", "c2sp.org", "<html>"), "", 1, "not a proof file").await;
    check(swap("/proof", "\n6\n", "\n5\n"), "", 1, "not signed by the ledger's key").await;
    check(honest(), "--verifier-key other.pub", 1, "not signed by the ledger's key").await;
    let smaller = honest().with_text({
        let (six, five) = (note_of(&lines), note_of(&lines[..5]));
        move |_, text| text.replace(&six, &five).into_response()
    });
    check(smaller, "", 1, "is not proven").await;
    check(Fake::honest(&lines[..2]), "", 2, "the ledger has no record 2").await;
}
