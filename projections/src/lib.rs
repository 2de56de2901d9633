//! The read models: what they hold, how events become documents, and the keys that open events.
//!
//! In scope: the documents and their store port with its adapters, the key ring, sealing and
//! opening events, applying them, following the ledger, rebuilding.
//!
//! Out of scope: deciding anything, HTTP routes, the ledger itself. Everything here can be thrown
//! away and made again from the ledger, except the key ring.

pub mod change;
pub mod documents;

mod gcm;
pub mod jwe;
pub mod key_ring;
pub mod sealing;

pub mod digest;
pub mod store;

pub mod history;
pub mod tail;

mod activity;
mod backoff;
mod decode;
mod repair;
mod wal;

pub mod applier;
pub mod compare;
pub mod erasure;
pub mod error;
pub mod follower;
pub mod generations;
pub mod metrics;
pub mod office;
pub mod park;
pub mod rebuild;
pub mod status;
pub mod tally;

pub mod config;
pub mod open;
mod pool_events;
