//! Tests of what proves a ledger intact.

mod sample;
mod tamper;
