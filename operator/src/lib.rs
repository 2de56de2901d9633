//! What operators start as jobs in Azure: `azure-secrets` makes and rotates the secrets of a deployment,
//! `azure-subscription` puts the keys of new clients into the vault.
//!
//! Values go from here to the vault and nowhere else: no argument, output or error has one.

pub mod azure;
pub mod deployment;
mod error;
pub mod make;
pub mod names;
pub mod rotate;
pub mod stores;
pub mod subscription;

pub use error::Error;
