//! The ledger's rules, with faults on demand, and the service over real sockets.
#![allow(clippy::unwrap_used)]

mod chain;
mod fixture;
mod grown;

mod api_append;
mod api_external;
mod api_proof;
mod api_read;
mod api_roles;
mod append_proofs;
mod audit_client;
mod clock;
mod faults;
mod forged;
mod group_commit;
mod idempotency;
mod model;
mod privacy;
mod proofs;
mod replicas;
mod server;
mod start;
