//! What the system bears, as ratios against a baseline of the same run.

pub mod appends;
pub mod baseline;
pub mod cpu;
pub mod filler;
pub mod gateways;
pub mod grown;
pub mod growth;
pub mod lives;
pub mod load;
pub mod models;
pub mod proofs;
pub mod raw_copy;
pub mod report;
pub mod statistics;
pub mod steady;
pub mod stored_bytes;
