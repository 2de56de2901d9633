//! What every Vitalog service process needs around its own logic.
//!
//! In scope: secrets and service keys, files that are replaced whole, the problem details that answer errors, trace context and
//! logs, health, the accept loop with its bounds and TLS, shutdown, waiting for a dependency at start, the
//! client for internal hops, and the headers that carry identity between services.
//!
//! Out of scope: anything about patients, records or the ledger; routes and settings of a service;
//! the mapping of a service's errors to statuses; who may do what.
//!
//! Middleware order in a service, outermost first: [`trace_context::trace_middleware`], the
//! service's own limits, [`service_keys::require_caller`], the handlers. [`health::routes`] are
//! merged outside the key check.

pub mod client;
pub mod crypto;
pub mod files;
pub mod hardening;
pub mod headers;

pub mod health;
pub mod listener;
pub mod metrics;
pub mod networks;
pub mod problem;
pub mod reloaded;
pub mod retry;
pub mod secrets;

pub mod gate;
pub mod serve;
pub mod service_keys;
pub mod settings;
pub mod shutdown;
pub mod spans;
pub mod store_calls;
pub mod store_location;
pub mod telemetry;
pub mod tls;
pub mod trace_context;
