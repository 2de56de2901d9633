//! Subscriptions: where they are, and the command that manages them.

mod command;
mod list;

use clap::Args;
use domain::ids::Name;
use runtime::hardening::{Insecure, Overrides};
use runtime::secrets::SecretRef;

use crate::subscriptions::SubscriptionsLocation;

pub use command::{
    AddSubscription, Done, LedgerOptions, LimitOptions, LimitSubscription, NamedSubscription,
    PepperOptions, RotateSubscription, StoreOptions, SubscriptionsCommand,
};

/// Where the subscriptions are.
#[derive(Debug, Args)]
pub struct SubscriptionOptions {
    /// The subscriptions: a TOML file, or mongodb://…, or a reference to a secret that is such a
    /// URI
    #[arg(long, env = "VITALOG_SUBSCRIPTIONS", value_name = "PATH|URI|REF", required = true)]
    pub(super) subscriptions: Option<SubscriptionsLocation>,
    /// The database on a MongoDB is called `PREFIX_gateway`
    #[arg(long, env = "VITALOG_DATABASE_PREFIX", default_value = "vitalog")]
    pub(super) database_prefix: Name,
    /// Where the pepper of the subscription keys is: REF, or `REF,OLDER_REF` while it is rotated. REF
    /// is `env:NAME`, `file:/path` or `keyvault:https://…`.
    #[arg(
        long,
        env = "VITALOG_PEPPER",
        value_name = "REF",
        value_delimiter = ',',
        required = true
    )]
    pub(super) pepper: Vec<SecretRef>,
}

impl SubscriptionOptions {
    /// Looks whether the subscriptions are kept securely.
    pub(super) fn harden(&self, over: &Overrides) -> Result<(), Insecure> {
        if let Some(subscriptions) = &self.subscriptions {
            harden_store(subscriptions, over)?;
        }
        over.keys("--pepper", &self.pepper)
    }
}

fn harden_store(store: &SubscriptionsLocation, over: &Overrides) -> Result<(), Insecure> {
    match store {
        SubscriptionsLocation::File(_) => Ok(()),
        SubscriptionsLocation::Mongo { server, .. } => over.store("--subscriptions", server),
    }
}
