//! Subscriptions: where they are, and the command that manages them.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use domain::ids::Name;
use runtime::secrets::SecretRef;

use crate::subscriptions::{self, Entry, Scope, SubscriptionsError};

/// Where the subscriptions are.
#[derive(Debug, Args)]
pub struct SubscriptionOptions {
    /// File of subscriptions (TOML)
    #[arg(long, env = "VITALOG_SUBSCRIPTIONS", value_name = "PATH", required = true)]
    pub(super) subscriptions: Option<PathBuf>,
    /// Where the pepper of the subscription keys is. REF is `env:NAME`, `file:/path` or
    /// `keyvault:https://…`.
    #[arg(long, env = "VITALOG_PEPPER", value_name = "REF", required = true)]
    pub(super) pepper: Option<SecretRef>,
}

/// What can be done with the file of subscriptions.
#[derive(Debug, Subcommand)]
pub enum SubscriptionsCommand {
    /// Add a subscription and print its key, which is shown this once
    Add(AddSubscription),
}

impl SubscriptionsCommand {
    /// Does it, and returns the new key.
    pub fn run(&self) -> Result<String, SubscriptionsError> {
        let Self::Add(add) = self;
        add.run()
    }
}

/// Options of adding a subscription.
#[derive(Debug, Args)]
pub struct AddSubscription {
    /// Name, up to 64 letters, digits, dots, dashes and underscores; it stands in records
    name: Name,
    /// Scope that the subscription has; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<Scope>,
    /// File of subscriptions (TOML); made if it does not exist
    #[arg(long, env = "VITALOG_SUBSCRIPTIONS", value_name = "PATH")]
    subscriptions: PathBuf,
    /// Where the pepper of the subscription keys is. REF is `env:NAME`, `file:/path` or
    /// `keyvault:https://…`.
    #[arg(long, env = "VITALOG_PEPPER", value_name = "REF")]
    pepper: SecretRef,
}

impl AddSubscription {
    fn run(&self) -> Result<String, SubscriptionsError> {
        let pepper = self.pepper.load().map_err(SubscriptionsError::Pepper)?;
        subscriptions::check_pepper(&pepper)?;
        let key = subscriptions::new_key();
        let entry = Entry {
            name: self.name.clone(),
            scopes: self.scopes.clone(),
            keys: vec![subscriptions::hash_key(&pepper, &key)],
        };
        subscriptions::append(&self.subscriptions, &entry)?;
        Ok(key)
    }
}
