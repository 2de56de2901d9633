//! The load test of the whole system, through its public door.
//!
//! [`mix`] says what is asked and what must be answered. [`closed`] has users who wait for their
//! answers, as the older system's test had; [`open`] sends at a fixed rate, whatever is answered;
//! [`find`] looks for the highest such rate. Both count in a [`recorder`].

pub mod mix;
pub mod samples;
pub mod target;

pub mod closed;
pub mod find;
pub mod open;

pub mod cpu;
pub mod recorder;
pub mod summary;

/// The most requests of one run, because a latency is kept of each.
pub const MAX_REQUESTS: u32 = 10_000_000;

/// How long an answer may take. The gateway gives up earlier.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);
