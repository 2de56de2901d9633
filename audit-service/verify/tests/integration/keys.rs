//! Text forms of keys: one spelling, and nothing that is not a key.

use audit_verify::{
    checkpoint::{LedgerKey, LedgerSecret},
    cosignature::{WitnessKey, WitnessSecret},
    keys::{Algorithm, KeyError, NoteKey},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::prelude::*;

use crate::given::{head, key, origin, secret};

fn text_of(name: &str, id: u32, kind: u8, public: &[u8]) -> String {
    format!("{name}+{id:08x}+{}", STANDARD.encode([&[kind], public].concat()))
}

#[test]
fn keys_come_back_from_their_text_form() {
    assert_eq!(key().to_string().parse(), Ok(key()));
    assert_eq!(format!(" {}\n", key()).parse(), Ok(key()));
    assert_eq!(LedgerSecret::parse(&secret().to_text()).unwrap().public(), key());
    let witness = WitnessSecret::new("w.example/1", &[2; 32]).unwrap();
    assert_eq!(witness.public().to_string().parse(), Ok(witness.public()));
    assert_eq!(WitnessSecret::parse(&witness.to_text()).unwrap().public(), witness.public());
}

#[test]
fn no_other_text_is_the_same_key() {
    let text = key().to_string();
    for at in 0..text.len() {
        for byte in 0..128 {
            let mut changed = text.clone().into_bytes();
            changed[at] = byte;
            let changed = String::from_utf8(changed).unwrap();
            if changed != text && !changed.trim().is_empty() {
                // The id covers name and key; a changed id is refused.
                changed.parse::<LedgerKey>().unwrap_err();
            }
        }
    }
}

#[test]
fn a_key_of_the_other_algorithm_is_refused() {
    let public = *key().public();
    let note = NoteKey::new("name", Algorithm::Note, public).unwrap();
    let cosignature = NoteKey::new("name", Algorithm::Cosignature, public).unwrap();
    assert_ne!(note.id(), cosignature.id());
    note.to_string().parse::<LedgerKey>().unwrap();
    assert_eq!(note.to_string().parse::<WitnessKey>(), Err(KeyError::Public));
    cosignature.to_string().parse::<WitnessKey>().unwrap();
    assert_eq!(cosignature.to_string().parse::<LedgerKey>(), Err(KeyError::Public));
    for kind in (0..=255).filter(|kind| ![1, 4].contains(kind)) {
        let text = text_of("name", note.id(), kind, &public);
        text.parse::<LedgerKey>().unwrap_err();
        text.parse::<WitnessKey>().unwrap_err();
    }
}

#[test]
fn texts_that_are_not_quite_keys_are_refused() {
    let public = *key().public();
    let good = NoteKey::new("name", Algorithm::Note, public).unwrap();
    let id = good.id();
    let encoded = STANDARD.encode([&[1], &public[..]].concat());
    for text in [
        String::new(),
        "name".to_owned(),
        format!("name+{id:08x}"),
        format!("name+{:08x}+{encoded}", id ^ 1),
        format!("name+{id:08X}+{encoded}"),
        format!("name+0{id:08x}+{encoded}"),
        format!("other+{id:08x}+{encoded}"),
        format!("+{id:08x}+{encoded}"),
        format!("a b+{id:08x}+{encoded}"),
        format!("name+{id:08x}+{}", &encoded[..43]),
        format!("name+{id:08x}+{encoded}="),
        format!("name+{id:08x}+{encoded} trailing"),
        text_of("name", id, 1, &public[..31]),
        text_of("name", id, 1, &[&public[..], &[0]].concat()),
        secret().to_text().to_string(),
    ] {
        assert!(text.parse::<LedgerKey>().is_err(), "{text}");
    }
    assert!(LedgerSecret::parse(&key().to_string()).is_err());
}

#[test]
fn a_name_that_is_no_ledgers_is_a_witness_at_most() {
    for name in ["example.com/log", "é", &"x".repeat(65)] {
        let key = NoteKey::new(name, Algorithm::Note, *key().public()).unwrap();
        assert_eq!(key.to_string().parse::<LedgerKey>(), Err(KeyError::Name), "{name}");
        let key = NoteKey::new(name, Algorithm::Cosignature, *key.public()).unwrap();
        assert!(key.to_string().parse::<WitnessKey>().is_ok(), "{name}");
    }
    for name in ["", "a b", "a+b", "a\u{a0}b"] {
        assert!(NoteKey::new(name, Algorithm::Note, *key().public()).is_err(), "{name}");
    }
}

/// The eight points of low order in their canonical encodings (RFC 7748 §6.1 names the problem):
/// a signature can be made under them without a secret.
#[test]
fn public_keys_of_low_order_are_refused() {
    let mut points = vec![[0; 32], [0; 32], [0; 32], [0xff; 32]];
    points[1][31] = 0x80;
    points[2][0] = 1;
    points[3][0] = 0xec;
    points[3][31] = 0x7f;
    for (text, signs) in [
        ("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", [0, 0x80]),
        ("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", [0, 0x80]),
    ] {
        for sign in signs {
            let mut point: [u8; 32] = hex(text);
            point[31] |= sign;
            points.push(point);
        }
    }
    assert_eq!(points.len(), 8);
    for point in points {
        let refused = LedgerKey::new(origin(), point);
        assert_eq!(refused, Err(KeyError::Public), "{point:02x?}");
    }
}

fn hex(text: &str) -> [u8; 32] {
    let byte = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap();
    std::array::from_fn(byte)
}

#[test]
fn secrets_show_in_neither_debug_nor_errors() {
    let text = secret().to_text();
    let encoded = text.rsplit('+').next().unwrap();
    assert!(!format!("{:?}", secret()).contains(&encoded[4..20]));
    let broken = LedgerSecret::parse(&text[..text.len() - 4]).unwrap_err();
    assert!(!format!("{broken} {broken:?}").contains(&encoded[4..20]));
}

proptest! {
    #[test]
    fn any_key_comes_back_and_signs_for_itself_alone(seed: [u8; 32], other: [u8; 32]) {
        prop_assume!(seed != other);
        let secret = LedgerSecret::new(origin(), &seed);
        let again = LedgerSecret::parse(&secret.to_text()).unwrap();
        let note = again.sign(head(5));
        prop_assert_eq!(&note, &secret.sign(head(5)));
        prop_assert_eq!(secret.public().open(&note), Ok(head(5)));
        prop_assert!(LedgerSecret::new(origin(), &other).public().open(&note).is_err());
    }

    #[test]
    fn reading_a_key_never_panics(text in ".{0,120}", tail in "[A-Za-z0-9+/=]{0,60}") {
        let _ = text.parse::<LedgerKey>();
        let _ = format!("name+00000000+{tail}").parse::<WitnessKey>();
        let _ = LedgerSecret::parse(&format!("PRIVATE+KEY+name+00000000+{tail}"));
    }
}
