//! Cosignatures of witnesses: who saw which checkpoint, and when.

use audit_verify::{checkpoint::CheckpointError, cosignature::WitnessSecret};
use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::prelude::*;

use crate::given::{foreign_line, head, secret};

const TIME: u64 = 1_700_000_000;

fn witness(seed: u8) -> WitnessSecret {
    WitnessSecret::new("witness.example/w1", &[seed; 32]).unwrap()
}

fn note() -> String {
    secret().sign(head(3))
}

fn cosigned(times: &[u64]) -> String {
    let line = |time: &u64| witness(1).cosign(&note(), *time).unwrap();
    note() + &times.iter().map(line).collect::<String>()
}

/// The line with other bytes: four of the key's id, eight of the time, 64 of the signature.
fn with_bytes(line: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut bytes = STANDARD.decode(line.trim().rsplit(' ').next().unwrap()).unwrap();
    assert_eq!(bytes.len(), 76);
    change(&mut bytes);
    format!("— witness.example/w1 {}\n", STANDARD.encode(bytes))
}

#[test]
fn a_cosignature_says_when() {
    assert_eq!(witness(1).public().cosigned_at(&note()), Ok(None));
    for time in [0, 1, TIME, i64::MAX.unsigned_abs()] {
        assert_eq!(witness(1).public().cosigned_at(&cosigned(&[time])), Ok(Some(time)));
        assert_eq!(witness(2).public().cosigned_at(&cosigned(&[time])), Ok(None));
    }
    // The ledger's signature stays valid beside any number of them.
    assert_eq!(secret().public().open(&cosigned(&[1, 2])), Ok(head(3)));
}

#[test]
fn times_that_the_format_does_not_have_are_never_written_nor_read() {
    let latest = i64::MAX.unsigned_abs();
    assert_eq!(witness(1).public().cosigned_at(&cosigned(&[u64::MAX])), Ok(Some(latest)));
    let line = witness(1).cosign(&note(), latest).unwrap();
    let line = with_bytes(&line, |bytes| bytes[4] |= 0x80);
    let refused = witness(1).public().cosigned_at(&(note() + &line));
    assert_eq!(refused, Err(CheckpointError::Signature));
}

#[test]
fn the_last_of_several_times_counts_and_all_must_be_genuine() {
    for times in [[TIME, TIME + 9], [TIME + 9, TIME]] {
        assert_eq!(witness(1).public().cosigned_at(&cosigned(&times)), Ok(Some(TIME + 9)));
    }
    let genuine = witness(1).cosign(&note(), TIME).unwrap();
    let forged = with_bytes(&genuine, |bytes| bytes[11] ^= 1);
    for lines in [format!("{genuine}{forged}"), format!("{forged}{genuine}"), forged] {
        let refused = witness(1).public().cosigned_at(&(note() + &lines));
        assert_eq!(refused, Err(CheckpointError::Signature), "{lines}");
    }
}

#[test]
fn every_changed_byte_of_text_or_cosignature_is_not_believed() {
    let genuine = cosigned(&[TIME]);
    let begin = genuine.rfind('—').unwrap();
    // The line of the ledger is not the witness's: it cosigns the text alone.
    let text = note().find("\n\n").unwrap() + 2;
    for at in (0..text).chain(begin..genuine.len()) {
        for byte in 0..=255 {
            let mut changed = genuine.clone().into_bytes();
            changed[at] = byte;
            let Ok(changed) = String::from_utf8(changed) else { continue };
            if changed != genuine {
                let believed = witness(1).public().cosigned_at(&changed);
                assert!(!matches!(believed, Ok(Some(_))), "byte {at} as {byte:#x}: {changed}");
            }
        }
    }
}

#[test]
fn a_signature_without_the_time_is_no_cosignature() {
    // The same secret signs the bare text, as a ledger would.
    let ledger = audit_verify::keys::NoteSecret::new(
        "witness.example/w1",
        audit_verify::keys::Algorithm::Cosignature,
        &[1; 32],
    )
    .unwrap();
    let text = note().split("\n\n").next().unwrap().to_owned() + "\n";
    let signature = ledger.sign(text.as_bytes());
    for body in [signature.to_vec(), [&TIME.to_be_bytes()[..], &signature].concat()] {
        let bytes = [&ledger.public().id().to_be_bytes()[..], &body].concat();
        let line = format!("— witness.example/w1 {}\n", STANDARD.encode(bytes));
        let refused = witness(1).public().cosigned_at(&(note() + &line));
        assert_eq!(refused, Err(CheckpointError::Signature));
    }
}

#[test]
fn nothing_but_checkpoints_is_cosigned() {
    for text in ["", "hello", "hello\n", "cosignature/v1\ntime 1\n", "a\n01\nAAAA\n"] {
        let note = format!("{text}\n{}", foreign_line());
        assert_eq!(witness(1).cosign(&note, TIME), Err(CheckpointError::Malformed), "{text}");
    }
}

proptest! {
    #[test]
    fn cosignatures_of_one_checkpoint_are_none_of_another(time: u32, size in 0u64..50, other in 0u64..50) {
        prop_assume!(size != other);
        let (note, other) = (secret().sign(head(size)), secret().sign(head(other)));
        let line = witness(1).cosign(&note, time.into()).unwrap();
        let key = witness(1).public();
        prop_assert_eq!(key.cosigned_at(&format!("{note}{line}")), Ok(Some(time.into())));
        let moved = key.cosigned_at(&format!("{other}{line}"));
        prop_assert_eq!(moved, Err(CheckpointError::Signature));
    }
}
