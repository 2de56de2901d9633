//! Secrets of Azure Key Vaults.
//!
//! A vault is asked for a secret once, when it is first loaded, and again at intervals in the
//! background. Whoever loads it gets the last good value, whatever became of the vault.

mod azure;
mod failure;
mod reference;
mod store;

pub use failure::VaultFailure;
pub use reference::VaultSecret;
pub use store::{ATTEMPT, PATIENCE, REFRESH, VaultOptions, Vaults};
