//! What proves a ledger intact: signed checkpoints, cosignatures, proofs, and the verification of
//! every record. Needs no network and no clock; reads no patient data.
//!
//! In scope: keys and notes (C2SP signed-note, tlog-checkpoint, tlog-cosignature), proof files
//! (C2SP tlog-proof), tile paths (C2SP tlog-tiles), the ledger's key history, and the verifier.
//!
//! Out of scope: where lines come from, and what is printed.

pub mod block;
pub mod seal;

pub mod checkpoint;
pub mod cosignature;
pub mod key_history;
pub mod keys;
pub mod proof_file;
pub mod tile;

pub mod report;
pub mod verifier;
mod versions;
