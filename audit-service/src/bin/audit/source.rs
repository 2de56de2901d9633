//! Where a ledger is read from.

mod address;
mod answer;
mod error;
mod http;
mod page;

pub(crate) use address::{OptionalServerArgs, ServerArgs};
pub(crate) use answer::Consistency;
pub(crate) use error::SourceError;
pub(crate) use http::{HttpLedger, MAX_LIMIT, ProofSize};
pub(crate) use page::Page;
