//! Tests of what proves a ledger intact.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod cosignatures;
mod given;
mod key_history;
mod keys;
mod notes;
mod proof_files;
mod published;
mod rotations;
mod sample;
mod tamper;
mod tiles;
