//! What Vitalog is about, as pure functions on plain data.
//!
//! In scope: typed ids, the content of patients and tests and its validation,
//! commands, events, [`decide`](decide::decide) and [`evolve`](patient::Patient::evolve),
//! the ledger record with its canonical form, hash, chain and Merkle frontier, and the
//! types that services exchange.
//!
//! Out of scope: I/O, clocks, randomness, environment, encryption. Time, ids and keys
//! come in as arguments.

pub mod actor;
pub mod ids;
pub mod time;

pub mod content;
pub mod search;
pub mod strict_json;
pub mod validation;

pub mod changes;
pub mod decide;
pub mod event;
pub mod patient;
pub mod schema;

pub mod chain;
pub mod hash;
pub mod merkle;
pub mod record;
pub mod sealed;
pub mod subscription;

pub mod wire;
