//! Proof files: one spelling, and no change of one proves anything else.

use audit_verify::{
    checkpoint::{CheckpointError, LedgerSecret},
    proof_file::{MAX_HASHES, NotAProof, NotProven, ProofFile, decimal, hash_from_base64},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{hash::Hash, merkle::ProofError};
use proptest::prelude::*;

use crate::given::{foreign_line, head, key, leaf, origin, proof, root};

#[test]
fn proofs_of_every_record_come_back_and_prove_it_alone() {
    for size in [1, 2, 3, 7, 8, 13] {
        for index in 0..size {
            let text = proof(index, size).to_string();
            let read = ProofFile::parse(&text).unwrap();
            assert_eq!(read, proof(index, size));
            for other in 0..size + 2 {
                let expected = if other == index {
                    Ok(head(size))
                } else {
                    Err(NotProven::Inclusion(ProofError::Root))
                };
                assert_eq!(
                    read.check(&key(), leaf(other)),
                    expected,
                    "{other} by {index} of {size}"
                );
            }
        }
    }
}

#[test]
fn a_changed_bit_proves_no_other_record_and_no_other_place() {
    for (index, size, extra) in [(0, 1, None), (4, 5, None), (6, 11, Some(b"extra".to_vec()))] {
        let genuine = ProofFile { extra, ..proof(index, size) };
        let text = genuine.to_string();
        let extra = text.find("extra ").map_or(0..0, |at| at..at + text[at..].find('\n').unwrap());
        for bit in 0..8 * text.len() {
            let mut changed = text.clone().into_bytes();
            changed[bit / 8] ^= 1 << (bit % 8);
            let Ok(changed) = String::from_utf8(changed) else { continue };
            let Ok(read) = ProofFile::parse(&changed) else { continue };
            assert_eq!(read.to_string(), changed);
            for other in 0..size {
                let proven = read.check(&key(), leaf(other)).is_ok();
                // Data of the application is not part of what is proven; nothing else may change.
                let may = other == index && extra.contains(&(bit / 8));
                assert_eq!(proven, may, "bit {bit}, record {other}: {changed}");
            }
        }
    }
}

#[test]
fn a_proof_is_to_a_checkpoint_of_the_key() {
    let genuine = proof(2, 5);
    let stranger = LedgerSecret::new(origin(), &[5; 32]);
    let forged = ProofFile { checkpoint: stranger.sign(head(5)), ..genuine.clone() };
    let refused = forged.check(&key(), leaf(2));
    assert_eq!(refused, Err(NotProven::Checkpoint(CheckpointError::Signature)));
    let elsewhere = LedgerSecret::new("other".parse().unwrap(), &[1; 32]);
    let moved = ProofFile { checkpoint: elsewhere.sign(head(5)), ..genuine.clone() };
    let refused = moved.check(&key(), leaf(2));
    assert_eq!(refused, Err(NotProven::Checkpoint(CheckpointError::Origin)));
    // Any number of other signatures may follow.
    let cosigned =
        ProofFile { checkpoint: genuine.checkpoint.clone() + &foreign_line(), ..genuine };
    assert_eq!(cosigned.check(&key(), leaf(2)), Ok(head(5)));
    assert_eq!(ProofFile::parse(&cosigned.to_string()), Ok(cosigned));
}

#[test]
fn a_record_outside_the_tree_and_a_wrong_number_of_hashes_are_refused() {
    let genuine = proof(2, 5);
    for index in [5, 6, 1 << 53, u64::MAX] {
        let beyond = ProofFile { index, ..genuine.clone() };
        let refused = beyond.check(&key(), leaf(2));
        assert_eq!(refused, Err(NotProven::Inclusion(ProofError::Range)));
    }
    for count in (0..=MAX_HASHES).filter(|count| *count != genuine.hashes.len()) {
        let hashes = genuine.hashes.iter().copied().cycle().take(count).collect();
        let refused = ProofFile { hashes, ..genuine.clone() }.check(&key(), leaf(2));
        assert_eq!(refused, Err(NotProven::Inclusion(ProofError::Length)), "{count} hashes");
    }
}

/// An inner node is no record: its hash begins with another byte.
#[test]
fn an_inner_node_does_not_pass_for_a_record() {
    let node = root(0, 2);
    let checkpoint = proof(0, 4).checkpoint;
    for index in 0..4 {
        let shorter = ProofFile {
            extra: None,
            index,
            hashes: vec![root(2, 4)],
            checkpoint: checkpoint.clone(),
        };
        assert!(shorter.check(&key(), node).is_err());
    }
}

#[test]
fn texts_that_are_not_quite_proofs_are_refused_at_their_line() {
    #[track_caller]
    fn check(text: &str, line: usize) {
        assert_eq!(ProofFile::parse(text), Err(NotAProof { line }), "{text}");
    }
    let hash = STANDARD.encode([7; 32]);
    let good = format!("c2sp.org/tlog-proof@v1\nindex 7\n{hash}\n\nnote\n");
    ProofFile::parse(&good).unwrap();
    check("", 1);
    check("c2sp.org/tlog-proof@v1\nindex 7\n", 1);
    check(&good.replace('\n', "\r\n"), 1);
    check(&good.replace("@v1", "@v2"), 1);
    check(&format!("\n{good}"), 1);
    check("c2sp.org/tlog-proof@v1\n\nnote\n", 2);
    check(&good.replace("index 7", "extra AA\nindex 7"), 2);
    check(&good.replace("index 7", "extra AB==\nindex 7"), 2);
    check(&good.replace("index 7", "index 7\nextra AA=="), 3);
    check(&good.replace("index 7", "extra AA==\nextra AA==\nindex 7"), 3);
    for index in ["07", "+7", "-7", "7 ", " 7", "0x7", "", "18446744073709551616", "٧"] {
        check(&good.replace("index 7", &format!("index {index}")), 2);
    }
    check(&good.replace("index 7", "Index 7"), 2);
    check(&good.replace("index 7\n", ""), 2);
    check(&good.replace(&hash, hash.trim_end_matches('=')), 3);
    check(&good.replace(&hash, &format!("{hash} ")), 3);
    check(&good.replace(&hash, &format!("{}d=", &hash[..42])), 3);
    check(&good.replace(&hash, &STANDARD.encode([7; 31])), 3);
    check(&good.replace(&hash, &STANDARD.encode([7; 33])), 3);
    let most = format!("{hash}\n").repeat(MAX_HASHES);
    ProofFile::parse(&good.replace(&format!("{hash}\n"), &most)).unwrap();
    check(&good.replace(&format!("{hash}\n"), &format!("{most}{hash}\n")), 3 + MAX_HASHES);
}

#[test]
fn numbers_and_hashes_have_one_spelling() {
    assert_eq!(decimal("0"), Some(0));
    assert_eq!(decimal("18446744073709551615"), Some(u64::MAX));
    for text in ["", "00", "01", "+1", "-0", " 1", "1\n", "1_000", "18446744073709551616"] {
        assert_eq!(decimal(text), None, "{text}");
    }
    assert_eq!(hash_from_base64(&STANDARD.encode([3; 32])), Some(Hash([3; 32])));
    for text in ["", "AAAA", "====", &"A".repeat(44), &format!("{}B=", "A".repeat(42))] {
        assert_eq!(hash_from_base64(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn any_proof_file_comes_back(
        extra in proptest::option::of(prop::collection::vec(any::<u8>(), 0..40)),
        index: u64,
        hashes in prop::collection::vec(any::<[u8; 32]>(), 0..=MAX_HASHES),
        checkpoint in "(.|\n){0,80}",
    ) {
        let hashes = hashes.into_iter().map(Hash).collect();
        let file = ProofFile { extra, index, hashes, checkpoint };
        prop_assert_eq!(ProofFile::parse(&file.to_string()), Ok(file.clone()));
        prop_assert!(file.check(&key(), leaf(0)).is_err());
    }

    #[test]
    fn reading_a_proof_never_panics(text in "(.|\n){0,200}") {
        let _ = ProofFile::parse(&text);
        let _ = ProofFile::parse(&format!("c2sp.org/tlog-proof@v1\n{text}"));
    }
}
