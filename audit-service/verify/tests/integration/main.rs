//! Tests of what proves a ledger intact.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod key_history;
mod sample;
mod tamper;
