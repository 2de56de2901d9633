//! Tests of what proves a ledger intact.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod sample;
mod tamper;
