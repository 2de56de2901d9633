//! The rules of the domain, as a caller sees them.
#![allow(clippy::unwrap_used)]

mod changes;
mod decisions;
mod given;
mod golden;
mod histories;
mod merkle;
mod records;
mod schema;
