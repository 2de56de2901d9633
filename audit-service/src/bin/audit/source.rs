//! Where a ledger is read from.

mod answer;
mod error;
mod http;
mod page;

pub(crate) use answer::Consistency;
pub(crate) use error::SourceError;
pub(crate) use http::{HttpLedger, MAX_LIMIT, OptionalServerArgs, ProofSize, ServerArgs};
pub(crate) use page::Page;
