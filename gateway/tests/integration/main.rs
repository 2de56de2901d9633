//! The gateway over real sockets, in front of upstreams that say what they were sent.
#![allow(clippy::unwrap_used)]

mod access;
mod bodies;
mod cors;
mod docs;
mod drain;
mod edge;
mod failures;
mod forwarded;
mod forwarding;
mod harness;
mod prefer;
mod reload;
mod secrecy;
mod tls;
