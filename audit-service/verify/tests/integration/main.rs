//! Tests of what proves a ledger intact.
#![allow(clippy::unwrap_used)]

mod cosignatures;
mod given;

mod keys;
mod notes;
mod proof_files;
mod published;
mod rotations;
mod tiles;
