//! Applying, following and rebuilding, on memory stores and a ledger that tests can tamper with.
#![allow(clippy::unwrap_used)]

mod applier;
mod fixture;
mod follower;
mod golden;
mod history;
mod ledger;
mod process;
mod rebuild;
mod spy;
mod tail;
