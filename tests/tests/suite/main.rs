//! Tests across crates, in one binary: adapters against real stores, and the whole system.
#![allow(clippy::unwrap_used)]

mod activity;
mod auditors_script;
mod bad_input;
mod cohort;
mod docs_page;
mod end_to_end;
mod erasure;
#[path = "../../../runtime/tests/integration/fake_vault.rs"]
mod fake_vault;
mod faults;
mod first_open;
mod follower;
mod four_processes;
mod held_insert;
mod insecure;
mod jose;
mod key_pool;
mod key_ring;
mod key_rotation;
mod kill;
mod ledger_appender;
mod ledger_failover;
mod ledger_processes;
mod ledger_store;
mod load;
mod mutual_tls;
mod owasp;
mod projection_store;
mod proofs;
mod refusals;
mod replay;
mod rotation;
mod scenario;
mod schemathesis;
mod sealing;
mod secrecy;
mod security_md;
mod signed_export;
mod starts;
mod subscriptions;
mod tamper;
mod users;
mod vault;
