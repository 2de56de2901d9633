//! What the fuzz targets share: keys and a ledger that never change, and the parts of the audit
//! service that a stored block passes through.
//!
//! These parts are compiled from the service's own files, without the service: its database
//! driver, its server and their hundreds of crates would be compiled with coverage counters for
//! nothing. They need the `bson` crate alone, which is the driver's.

use std::sync::{Arc, LazyLock};

use audit_verify::{
    checkpoint::{LedgerKey, LedgerSecret},
    cosignature::{WitnessKey, WitnessSecret},
    key_history::KeyHistory,
};
use domain::{chain::Link, hash::Hash, ids::Name, merkle::Frontier, time::Timestamp};

pub use audit_verify::{block, seal};

#[path = "../../src/ledger.rs"]
pub mod ledger;

pub mod store;

/// Records of the ledger that the seeds are about.
pub const RECORDS: u64 = 7;

/// Its name.
pub fn origin() -> &'static Name {
    static ORIGIN: LazyLock<Name> = LazyLock::new(|| "fuzz".parse().expect("a name"));
    &ORIGIN
}

/// The key that seals its blocks.
pub fn seal_keys() -> Arc<seal::SealKeys> {
    Arc::new(seal::SealKeys::new([7; 32]))
}

/// The ledger at any size, as if all its records so far had the hash of zeros.
pub fn resumed(size: u64) -> ledger::Ledger {
    let hashes = vec![Hash::ZERO; size.count_ones() as usize];
    let frontier = Frontier::from_parts(size, hashes).expect("one hash for each bit");
    let link = Link { next_seq: size, hash: Hash::ZERO, at: Timestamp::EPOCH };
    let keys = KeyHistory::new(ledger_key().clone());
    ledger::Ledger::genesis(ledger_key().clone(), seal_keys()).resume(link, frontier, keys)
}

/// Its signing key. It signs seeds, nothing else.
pub fn ledger_secret() -> LedgerSecret {
    LedgerSecret::new(origin().clone(), &[1; 32])
}

/// Its verifier key.
pub fn ledger_key() -> &'static LedgerKey {
    static KEY: LazyLock<LedgerKey> = LazyLock::new(|| ledger_secret().public());
    &KEY
}

/// A witness's key. It cosigns seeds, nothing else.
pub fn witness_secret() -> WitnessSecret {
    WitnessSecret::new("witness", &[2; 32]).expect("a name")
}

/// The key that verifies its cosignatures.
pub fn witness_key() -> &'static WitnessKey {
    static KEY: LazyLock<WitnessKey> = LazyLock::new(|| witness_secret().public());
    &KEY
}

/// The hashes of its records, which need not be lines here.
pub fn fixed_ledger() -> &'static [Hash] {
    static HASHES: LazyLock<Vec<Hash>> =
        LazyLock::new(|| (0..RECORDS).map(|seq| Hash::of_line(&seq.to_string())).collect());
    &HASHES
}
