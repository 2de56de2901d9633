//! How other services talk to the audit service.
//!
//! In scope: appending in batches, reading records, streams and commands, proofs and tiles.
//! Out of scope: deciding what to append.

mod calls;
mod client;
mod error;
mod sender;

pub use client::{AuditClient, Options, ProofSize};
pub use error::{AppendError, ReadError};
