//! The patient service over HTTP, with the real audit service on stores in memory.
#![allow(clippy::unwrap_used)]

mod harness;
mod lossy;
mod samples;

mod activity;
mod audit_faults;
mod conflicts;
mod erasure;
mod erasure_races;
mod history;
mod idempotency;
mod one_generation;
mod past_turns;
mod privacy;
mod records;
mod search;
mod stale;
mod statuses;
mod time_travel;
