//! Applying, following and rebuilding, on memory stores and a ledger that tests can tamper with.
#![allow(clippy::unwrap_used)]

mod applier;
mod fixture;
mod follower;
mod generations;
mod hooks;
mod ledger;
mod rebuild;
mod rebuild_flip;
mod rebuild_resume;
mod rebuild_until;
mod spy;
mod tail;
