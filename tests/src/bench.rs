//! What the system bears, as ratios against a baseline of the same run.

pub mod appends;
pub mod baseline;
pub mod filler;
pub mod gateways;
pub mod load;
pub mod proofs;
pub mod raw_copy;
pub mod report;
pub mod statistics;
