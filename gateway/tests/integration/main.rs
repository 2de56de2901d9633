//! The gateway over real sockets, in front of upstreams that say what they were sent.
#![allow(clippy::unwrap_used)]

mod access;
mod bodies;
mod docs;
mod failures;
mod forwarding;
mod harness;
mod owasp;
mod prefer;
mod reload;
mod secrecy;
mod smuggling;
