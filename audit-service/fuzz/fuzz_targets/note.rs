//! A signed note, and the keys that verify it.
#![no_main]

use audit_fuzz::{ledger_key, witness_key};
use audit_verify::{
    checkpoint::{LedgerKey, LedgerSecret, read_unverified, text},
    cosignature::{WitnessKey, WitnessSecret},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|note: &str| {
    if let Ok((origin, head)) = read_unverified(note) {
        assert!(note.starts_with(&text(&origin, head)));
    }
    // Nobody forges the key that the seeds are signed with, so whatever opens was signed.
    if let Ok(head) = ledger_key().open(note) {
        assert!(note.starts_with(&text(ledger_key().origin(), head)));
    }
    let _ = witness_key().cosigned_at(note);
    if let Ok(key) = note.parse::<LedgerKey>() {
        assert_eq!(key.to_string(), note.trim());
    }
    if let Ok(key) = note.parse::<WitnessKey>() {
        assert_eq!(key.to_string(), note.trim());
    }
    let _ = LedgerSecret::parse(note);
    let _ = WitnessSecret::parse(note);
});
