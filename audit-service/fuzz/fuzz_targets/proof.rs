//! A proof file: one spelling, and checking answers.
#![no_main]

use audit_fuzz::{fixed_ledger, ledger_key};
use audit_verify::proof_file::ProofFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(proof) = ProofFile::parse(text) else { return };
    assert_eq!(proof.to_string(), text);
    // Whatever is proven is true: each record of the ledger is at its own place alone.
    for (seq, hash) in (0..).zip(fixed_ledger()) {
        if proof.check(ledger_key(), *hash).is_ok() {
            assert_eq!(proof.index, seq);
        }
    }
});
