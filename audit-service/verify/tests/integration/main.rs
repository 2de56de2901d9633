//! Tests of what proves a ledger intact.
#![allow(clippy::unwrap_used)]

mod key_history;
