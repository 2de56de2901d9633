//! The rules of the domain, as a caller sees them.
#![allow(clippy::unwrap_used)]

mod decisions;
mod given;
mod histories;
mod merkle;
mod records;
