//! The whole system in one process.
//!
//! In scope: making what is missing at the first start ([`data_dir`]), opening the stores, and
//! composing the four services over loopback HTTP, exactly as they run apart ([`compose`]).
//!
//! Out of scope: everything that the services do themselves.

pub mod compose;
pub mod config;
pub mod data_dir;
pub mod stores;

pub use compose::run;
