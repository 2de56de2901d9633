//! Signed checkpoints: nothing but what was signed is believed.

use audit_verify::{
    checkpoint::{CheckpointError, LedgerSecret, TreeHead, read_unverified},
    keys::{Algorithm, NoteSecret},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use domain::hash::Hash;
use proptest::prelude::*;

use crate::given::{foreign_line, head, key, last_line, origin, secret};

/// A note of a key that signs what it is told, with a name of its own.
fn signed(text: &str) -> String {
    let signature = secret().sign_message(text.as_bytes());
    format!("{text}\n{}", line(&signature))
}

fn line(signature: &[u8]) -> String {
    let note = secret().sign(head(1));
    let id = STANDARD.decode(note.rsplit(' ').next().unwrap().trim()).unwrap()[..4].to_vec();
    format!("— {} {}\n", origin(), STANDARD.encode([&id, signature].concat()))
}

#[test]
fn every_changed_byte_of_text_or_signature_is_refused() {
    for size in [1, 70] {
        let note = secret().sign(head(size));
        assert_eq!(key().open(&note), Ok(head(size)));
        let mut tried = 0;
        for at in 0..note.len() {
            for byte in 0..=255 {
                let mut changed = note.clone().into_bytes();
                if changed[at] == byte {
                    continue;
                }
                changed[at] = byte;
                // Files and answers that are not UTF-8 do not get as far as here.
                if let Ok(changed) = String::from_utf8(changed) {
                    assert!(key().open(&changed).is_err(), "byte {at} as {byte:#x}: {changed}");
                    tried += 1;
                }
            }
        }
        assert!(tried > 127 * (note.len() - 3), "{tried}");
    }
}

#[test]
fn every_removed_doubled_or_inserted_byte_is_refused() {
    let note = secret().sign(head(70));
    for at in 0..note.len() {
        if !note.is_char_boundary(at) {
            continue;
        }
        let letter = note[at..].chars().next().unwrap();
        let (before, after) = (&note[..at], &note[at + letter.len_utf8()..]);
        let inserted = ["\n", "\r", "\t", " ", "0", "=", "A", "—", "\0", "\u{feff}", "\u{a0}"];
        let inserted = inserted.map(|extra| format!("{before}{extra}{letter}{after}"));
        let changes =
            [format!("{before}{after}"), format!("{before}{letter}{letter}{after}")].into_iter();
        for changed in changes.chain(inserted).filter(|changed| *changed != note) {
            assert!(key().open(&changed).is_err(), "{changed:?}");
        }
        // Cut off anywhere; without the final newline, too.
        assert!(key().open(before).is_err(), "{before:?}");
    }
    for end in ["\n", "\r\n", " ", "x", "\n\n"] {
        assert!(key().open(&format!("{note}{end}")).is_err(), "{end:?}");
    }
    assert!(key().open(&note.replace('\n', "\r\n")).is_err());
}

#[test]
fn signatures_of_others_are_passed_over() {
    let note = secret().sign(head(3));
    let (text, own) = note.split_at(note.len() - last_line(&note).len());
    let foreign = foreign_line();
    // The key's name with another id, and its id with another name.
    let namesake = NoteSecret::new(origin().as_str(), Algorithm::Cosignature, &[1; 32]).unwrap();
    let id = namesake.public().id().to_be_bytes();
    let namesake = format!("— {} {}\n", origin(), STANDARD.encode([&id[..], &[0; 72]].concat()));
    let misnamed = own.replace(origin().as_str(), "other");
    for lines in [
        format!("{foreign}{own}"),
        format!("{own}{foreign}"),
        format!("{foreign}{foreign}{own}{foreign}"),
        format!("{namesake}{own}{misnamed}"),
        foreign.repeat(99) + own,
    ] {
        assert_eq!(key().open(&format!("{text}{lines}")), Ok(head(3)), "{lines}");
    }
    for lines in [foreign.clone(), namesake, misnamed] {
        let opened = key().open(&format!("{text}{lines}"));
        assert_eq!(opened, Err(CheckpointError::Signature), "{lines}");
    }
    // More lines than a note may have, and none.
    let many = foreign.repeat(100) + own;
    assert_eq!(key().open(&format!("{text}{many}")), Err(CheckpointError::Malformed));
    assert_eq!(key().open(text), Err(CheckpointError::Malformed));
}

#[test]
fn of_two_signatures_of_the_key_both_must_be_genuine() {
    let note = secret().sign(head(3));
    let (text, own) = note.split_at(note.len() - last_line(&note).len());
    assert_eq!(key().open(&format!("{text}{own}{own}")), Ok(head(3)));
    let forged = line(&[7; 64]);
    for lines in [format!("{own}{forged}"), format!("{forged}{own}"), forged] {
        let opened = key().open(&format!("{text}{lines}"));
        assert_eq!(opened, Err(CheckpointError::Signature), "{lines}");
    }
}

#[test]
fn signatures_of_another_length_are_refused() {
    let note = secret().sign(head(3));
    let text = &note[..note.len() - last_line(&note).len()];
    let signature = secret().sign_message(&text.as_bytes()[..text.len() - 1]);
    assert_eq!(key().open(&format!("{text}{}", line(&signature))), Ok(head(3)));
    for other in [&signature[..63], &signature[..1], &[&signature[..], &[0]].concat()] {
        let opened = key().open(&format!("{text}{}", line(other)));
        assert_eq!(opened, Err(CheckpointError::Signature));
    }
    assert_eq!(key().open(&format!("{text}{}", line(&[]))), Err(CheckpointError::Malformed));
}

/// The second half of a signature plus the group's order satisfies the equation, too.
#[test]
fn another_encoding_of_a_genuine_signature_is_refused() {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let note = secret().sign(head(3));
    let text = &note[..note.len() - last_line(&note).len()];
    let mut signature = secret().sign_message(&text.as_bytes()[..text.len() - 1]);
    let mut carry = 0;
    for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
    let opened = key().open(&format!("{text}{}", line(&signature)));
    assert_eq!(opened, Err(CheckpointError::Signature));
}

#[test]
fn a_signed_text_that_is_no_checkpoint_is_refused() {
    let root = STANDARD.encode([0; 32]);
    let good = format!("test-ledger\n7\n{root}\n");
    let expected = TreeHead { size: 7, root: Hash::ZERO };
    assert_eq!(key().open(&signed(&good)), Ok(expected));
    // Extension lines are allowed, and say nothing.
    assert_eq!(key().open(&signed(&format!("{good}more\n"))), Ok(expected));
    for text in [
        format!("test-ledger\n07\n{root}\n"),
        format!("test-ledger\n+7\n{root}\n"),
        format!("test-ledger\n-7\n{root}\n"),
        format!("test-ledger\n 7\n{root}\n"),
        format!("test-ledger\n7 \n{root}\n"),
        format!("test-ledger\n0x7\n{root}\n"),
        format!("test-ledger\n18446744073709551616\n{root}\n"),
        format!("test-ledger\n\n{root}\n"),
        format!("test-ledger\n7\n{}\n", root.trim_end_matches('=')),
        // The last letter has bits that no byte holds.
        format!("test-ledger\n7\n{}B=\n", &root[..42]),
        format!("test-ledger\n7\n{}\n", root.replace('A', "-")),
        format!("test-ledger\n7\n{}\n", STANDARD.encode([0; 31])),
        format!("test-ledger\n7\n{}\n", STANDARD.encode([0; 33])),
        format!("test-ledger\n7\n{root}\n\n"),
        format!("test-ledger\n7\n{root}\n\nmore\n"),
        format!("\n7\n{root}\n"),
        "test-ledger\n7\n".to_owned(),
        "test-ledger\n".to_owned(),
        "\n".to_owned(),
        "vitalog key rotation v1\ntest-ledger\n1\n".to_owned(),
    ] {
        assert_eq!(key().open(&signed(&text)), Err(CheckpointError::Malformed), "{text}");
    }
    let other = signed(&format!("test-ledger2\n7\n{root}\n"));
    assert_eq!(key().open(&other), Err(CheckpointError::Origin));
    assert_eq!(read_unverified(&other).unwrap(), ("test-ledger2".parse().unwrap(), expected));
}

#[test]
fn a_size_of_nothing_and_the_largest_are_read() {
    for size in [0, u64::MAX] {
        let head = TreeHead { size, root: Hash::of_nothing() };
        assert_eq!(key().open(&secret().sign(head)), Ok(head));
    }
}

#[test]
fn a_key_of_another_ledger_does_not_sign_for_this_one() {
    let other = LedgerSecret::new("other".parse().unwrap(), &[1; 32]);
    assert_eq!(key().open(&other.sign(head(3))), Err(CheckpointError::Origin));
    assert_eq!(other.public().open(&secret().sign(head(3))), Err(CheckpointError::Origin));
    // The same key and the right name of the ledger, under a signature line of the other name.
    let renamed = other.sign(head(3)).replacen("other", origin().as_str(), 1);
    assert_eq!(key().open(&renamed), Err(CheckpointError::Signature));
}

proptest! {
    #[test]
    fn whatever_was_signed_is_read_back(size: u64, root: [u8; 32]) {
        let head = TreeHead { size, root: Hash(root) };
        let note = secret().sign(head);
        prop_assert_eq!(key().open(&note), Ok(head));
        prop_assert_eq!(read_unverified(&note), Ok((origin(), head)));
    }

    #[test]
    fn a_signature_of_one_checkpoint_is_none_of_another(
        size: u64, root: [u8; 32], other_size: u64, other_root: [u8; 32],
    ) {
        let head = TreeHead { size, root: Hash(root) };
        let other = TreeHead { size: other_size, root: Hash(other_root) };
        prop_assume!(head != other);
        let (note, other) = (secret().sign(head), secret().sign(other));
        let text = &other[..other.len() - last_line(&other).len()];
        let mixed = format!("{text}{}", last_line(&note));
        prop_assert_eq!(key().open(&mixed), Err(CheckpointError::Signature));
    }

    #[test]
    fn reading_a_note_never_panics(text in "(.|\n){0,200}", tail in "(— |[a-z+ =\n]){0,60}") {
        let _ = read_unverified(&text);
        let _ = key().open(&format!("{text}\n\n— {tail}"));
    }
}
