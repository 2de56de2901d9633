//! Parts that fail: fail closed, lose nothing, come back.

mod ledger;
mod start;
mod tampering;
