//! Accounting of disclosures over HTTP, with the real follower.

mod following;

mod accounts;
mod fhir;
mod waiting;
