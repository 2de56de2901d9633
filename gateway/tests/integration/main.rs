//! The gateway over real sockets, in front of upstreams that say what they were sent.
#![allow(clippy::unwrap_used)]

mod access;
mod bodies;
mod breaker;
mod bulkheads;
mod cors;
mod denials;
mod docs;
mod drain;
mod edge;
mod failures;
mod forwarded;
mod forwarding;
mod harness;
mod issuer;
mod limits;
mod metrics;
mod oidc;
mod owasp;
mod prefer;
mod reload;
mod retries;
mod secrecy;
mod settings;
mod smuggling;
mod starting;
mod subscriptions;
mod tls;
mod unauthenticated;
