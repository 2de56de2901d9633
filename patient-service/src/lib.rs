//! The patient service: commands on patients and their tests, and reads of them, over HTTP.
//!
//! In scope: the flow of a command (decide, seal, append, apply, answer) and of a read (read,
//! record the access, answer), conditions and idempotency, search, earlier states and the history
//! of a patient.
//!
//! Out of scope: who the client is and what it may do (gateway), the ledger (audit-service),
//! what events mean (domain), how read models and keys are kept (projections).
//!
//! Two rules hold everywhere: nothing is applied and no data leaves before the ledger has
//! acknowledged a record of it, and a state that the ledger says is old is never shown or
//! decided on.

mod service;
mod state;
mod upkeep;

mod routes;

mod action;
mod caller;
mod conditions;
mod sent;

mod applying;
mod command_id;
mod commands;
mod erase;
mod loading;
mod replay;
mod streams;

mod query;
mod reads;
mod search;

mod activity;
mod as_of;
mod fhir;
mod history;
mod past;
mod time_travel;

mod answer;
mod error;

pub mod config;
pub mod keys;

pub use service::{Deps, Door, RunError, run, run_once_connected};
pub use state::Clock;
