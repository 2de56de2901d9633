//! The OWASP API Security Top 10 of 2023, as far as the gateway alone decides; what needs the
//! services is in the suite of the same name.

mod keys;
mod matrix;
mod misconfiguration;
mod spoofing;
mod upstreams;
