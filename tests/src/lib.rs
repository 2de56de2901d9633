//! What the end-to-end, fault and load tests share: servers to run against.
//!
//! Nothing here is part of the product.

pub mod app_insights;
pub mod bench;
pub mod fhir;
pub mod http;
pub mod issuer;
pub mod ledger;
pub mod load;
pub mod mongod;
pub mod otlp;
pub mod programs;
pub mod proxy;
pub mod samples;
pub mod smoke;
pub mod system;
pub mod walk_through;
