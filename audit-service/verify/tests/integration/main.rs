//! Tests of what proves a ledger intact.
