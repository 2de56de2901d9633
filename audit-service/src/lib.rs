//! The audit service: the append-only, hash-chained, signed ledger.
//!
//! In scope: the ledger's rules ([`ledger`], [`plan`]), the appender that makes blocks durable
//! ([`appender`], [`commit`]), the stores behind one port ([`store`]), signed checkpoints
//! ([`checkpoint`]) and the internal HTTP API ([`routes`]).
//!
//! Out of scope: what records mean. The service sees no personal data: `data` is sealed before
//! it arrives.

pub use audit_verify::{block, seal};

pub mod known;
pub mod ledger;
pub mod plan;
pub mod recent;
pub mod tiles;

pub mod append_span;
pub mod appender;
pub mod checkpoint;
pub mod clock;
pub mod commit;
mod key_file;
pub mod key_lookup;
pub mod metrics;
pub mod notary;
pub mod queue;
pub mod seal_keys;
pub mod service;
pub mod start;
mod stop;
pub mod store;
pub mod tail;

pub mod block_tree;
pub mod leaves;
pub mod proofs;
pub mod prover;
pub mod tiler;
pub mod tree;

pub mod admit;
pub mod append_api;
pub mod config;
pub mod external_api;
pub mod ledger_reads;
mod lines;
pub mod proof_api;
pub mod read_api;
pub mod roles;
pub mod rotate_key;
pub mod routes;
mod run;

pub mod anchor;
pub mod outside;
pub mod witness;

pub use run::{RunError, run};
pub use service::{AuditLedger, OpenError, Parts};
