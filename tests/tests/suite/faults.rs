//! Parts that fail: fail closed, lose nothing, come back.

mod ledger;
mod shutdown;
mod start;
mod tampering;
