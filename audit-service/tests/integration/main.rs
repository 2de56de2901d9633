//! The ledger's rules, with faults on demand, and the service over real sockets.
#![allow(clippy::unwrap_used)]

mod chain;
mod cli;
mod fake_ledger;
mod fixture;
mod grown;

mod anchored;
mod anchors;
mod api_append;
mod api_external;
mod api_proof;
mod api_read;
mod api_roles;
mod append_proofs;
mod audit_client;
mod blob_store;
mod cli_checkpoint;
mod cli_export;
mod cli_liars;
mod cli_proof;
mod cli_verify;
mod clock;
mod faults;
mod forged;
mod group_commit;
mod idempotency;
mod key_rotation;
mod key_start;
mod measurements;
mod model;
mod notary;
mod privacy;
mod proofs;
mod replicas;
mod rotate_key;
mod server;
mod start;
mod witness_args;
mod witness_fixture;
mod witness_process;
mod witness_protocol;
mod witness_submission;
