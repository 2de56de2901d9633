//! The command line that manages subscriptions.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;

use audit_client::{AuditClient, Options};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use domain::ids::Name;
use domain::subscription::KeySlot;
use ipnet::IpNet;
use runtime::client::ClientTlsArgs;
use runtime::hardening::{Insecure, Overrides};
use runtime::secrets::SecretRef;

use super::{harden_store, list};
use crate::subscriptions::{
    self, Change, CommandError, Entry, Journal, Limits, Made, Scope, Setting, SubscriptionStore,
    SubscriptionsError, SubscriptionsLocation,
};

/// What is said of a change that stands in no ledger.
const UNRECORDED: &str = "WARNING: THE LEDGER HAS NO RECORD OF THIS CHANGE. `subscriptions list` marks what was changed so, until a recorded change has told the ledger: run one, such as `subscriptions limit NAME`";

/// What can be done with subscriptions. Each change is recorded in the ledger before it is made.
#[derive(Debug, Subcommand)]
pub enum SubscriptionsCommand {
    /// Add a subscription and print its key, which is shown this once
    Add(Box<AddSubscription>),
    /// Show all subscriptions, without their keys
    List(StoreOptions),
    /// Replace one key and print the new one, which is shown this once; the other key stays
    Rotate(RotateSubscription),
    /// Refuse a subscription until it is resumed
    Suspend(NamedSubscription),
    /// Admit a suspended subscription again
    Resume(NamedSubscription),
    /// Remove a subscription and its keys
    Remove(NamedSubscription),
    /// Set scopes, rate, quotas, networks or expiry; what is not named stays as it is
    Limit(Box<LimitSubscription>),
}

/// What a command has to say.
#[derive(Debug, PartialEq, Eq)]
pub struct Done {
    /// For the standard output: a new key, or the list.
    pub output: String,
    /// For people: what was done, and where it is recorded.
    pub note: String,
}

/// Options of adding a subscription.
#[derive(Debug, Args)]
pub struct AddSubscription {
    /// Name, up to 64 letters, digits, dots, dashes and underscores; it stands in records
    name: Name,
    #[command(flatten)]
    limits: LimitOptions,
    #[command(flatten)]
    pepper: PepperOptions,
    #[command(flatten)]
    store: StoreOptions,
    #[command(flatten)]
    ledger: LedgerOptions,
}

/// Options of replacing a key.
#[derive(Debug, Args)]
pub struct RotateSubscription {
    /// The subscription
    name: Name,
    /// Which key; a secondary one is made where there is none
    #[arg(long, value_name = "primary|secondary")]
    key: KeySlot,
    #[command(flatten)]
    pepper: PepperOptions,
    #[command(flatten)]
    store: StoreOptions,
    #[command(flatten)]
    ledger: LedgerOptions,
}

/// Options of a change that needs no more than a name.
#[derive(Debug, Args)]
pub struct NamedSubscription {
    /// The subscription
    name: Name,
    #[command(flatten)]
    store: StoreOptions,
    #[command(flatten)]
    ledger: LedgerOptions,
}

/// Options of other limits.
#[derive(Debug, Args)]
pub struct LimitSubscription {
    /// The subscription
    name: Name,
    #[command(flatten)]
    limits: LimitOptions,
    #[command(flatten)]
    store: StoreOptions,
    #[command(flatten)]
    ledger: LedgerOptions,
}

/// Scopes and limits.
#[derive(Debug, Args)]
pub struct LimitOptions {
    /// Scope that the subscription has; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<Scope>,
    /// Requests per second at each gateway, or none
    #[arg(long, value_name = "N|none")]
    rate: Option<Setting<NonZeroU32>>,
    /// Requests at once before the rate limits them, or none for as many as the rate
    #[arg(long, value_name = "N|none")]
    burst: Option<Setting<NonZeroU32>>,
    /// Requests per day (UTC), or none
    #[arg(long, value_name = "N|none")]
    quota_day: Option<Setting<NonZeroU64>>,
    /// Requests per month (UTC), or none
    #[arg(long, value_name = "N|none")]
    quota_month: Option<Setting<NonZeroU64>>,
    /// Network from which it may be used, such as 10.1.0.0/16; may be repeated; none for all
    #[arg(long = "network", value_name = "CIDR|none")]
    networks: Vec<Setting<IpNet>>,
    /// From when on it is refused, such as 2027-01-31T00:00:00Z, or none
    #[arg(long, value_name = "TIME|none")]
    expires: Option<Setting<DateTime<Utc>>>,
}

/// Where the pepper is.
#[derive(Debug, Args)]
pub struct PepperOptions {
    /// Where the pepper of the subscription keys is: REF, or `REF,OLDER_REF` while it is rotated. REF
    /// is `env:NAME`, `file:/path` or `keyvault:https://…`.
    #[arg(
        long,
        env = "VITALOG_PEPPER",
        value_name = "REF",
        value_delimiter = ',',
        required = true
    )]
    pepper: Vec<SecretRef>,
}

/// Where the subscriptions are.
#[derive(Debug, Args)]
pub struct StoreOptions {
    /// The subscriptions: a TOML file, which is made if there is none, or mongodb://…, or a
    /// reference to a secret that is such a URI
    #[arg(long, env = "VITALOG_SUBSCRIPTIONS", value_name = "PATH|URI|REF")]
    subscriptions: SubscriptionsLocation,
    /// The database on a MongoDB is called `PREFIX_gateway`
    #[arg(long, env = "VITALOG_DATABASE_PREFIX", default_value = "vitalog")]
    database_prefix: Name,
}

/// Where changes are recorded, and who makes them.
#[derive(Debug, Args)]
pub struct LedgerOptions {
    /// Address of audit-service
    #[arg(long, env = "VITALOG_AUDIT_URL", required_unless_present = "unrecorded")]
    audit_url: Option<String>,
    /// Where the service key of the caller `operator` is. REF is `env:NAME`, `file:/path` or
    /// `keyvault:https://…`.
    #[arg(
        long,
        env = "VITALOG_OPERATOR_KEY",
        value_name = "REF",
        required_unless_present = "unrecorded"
    )]
    caller_key: Option<SecretRef>,
    /// How audit-service is known, and this command to it.
    #[command(flatten)]
    client_tls: ClientTlsArgs,
    /// Who makes the change. Nobody checks it: records say that it is claimed, and name the caller
    /// `operator` as the actor
    #[arg(long = "as", value_name = "NAME")]
    person: Option<Name>,
    /// Do not record the change, where there is no audit-service or it cannot be reached; refused
    /// where one is named, also in the environment. The subscription is marked until a recorded
    /// change says in the ledger that there was an unrecorded one
    #[arg(long, conflicts_with_all = ["audit_url", "caller_key", "person"])]
    unrecorded: bool,
}

impl SubscriptionsCommand {
    /// Looks whether the settings are secure.
    pub fn harden(&self, over: &Overrides) -> Result<(), Insecure> {
        let (pepper, store, ledger) = match self {
            Self::List(store) => (None, store, None),
            Self::Add(add) => (Some(&add.pepper), &add.store, Some(&add.ledger)),
            Self::Rotate(RotateSubscription { pepper, store, ledger, .. }) => {
                (Some(pepper), store, Some(ledger))
            }
            Self::Suspend(named) | Self::Resume(named) | Self::Remove(named) => {
                (None, &named.store, Some(&named.ledger))
            }
            Self::Limit(limit) => (None, &limit.store, Some(&limit.ledger)),
        };
        harden_store(&store.subscriptions, over)?;
        over.keys("--pepper", pepper.map_or(&[][..], |it| &it.pepper))?;
        // What is not recorded sends nothing to the ledger.
        match ledger {
            Some(LedgerOptions { unrecorded: false, audit_url, caller_key, .. }) => {
                over.keys("--caller-key", caller_key)?;
                audit_url.as_ref().map_or(Ok(()), |url| over.upstream("--audit-url", url))
            }
            _ => Ok(()),
        }
    }

    /// Does it.
    pub async fn run(self) -> Result<Done, CommandError> {
        let (change, key, store, ledger) = match self {
            Self::List(store) => {
                let snapshot = subscriptions::current(&*store.open().await?).await?;
                let output = list::render(&snapshot.entries, (crate::config::SYSTEM_CLOCK)());
                return Ok(Done { output, note: String::new() });
            }
            Self::Add(add) => {
                let AddSubscription { name, limits, pepper, store, ledger } = *add;
                let (key, digest) = pepper.new_key()?;
                let mut entry = Entry::new(name, Vec::new(), vec![digest]);
                limits.limits().apply(&mut entry);
                (Change::Add(Box::new(entry)), Some(key), store, ledger)
            }
            Self::Rotate(RotateSubscription { name, key: slot, pepper, store, ledger }) => {
                let (key, digest) = pepper.new_key()?;
                (Change::Rotate { name, slot, digest }, Some(key), store, ledger)
            }
            Self::Suspend(NamedSubscription { name, store, ledger }) => {
                (Change::Suspend(name), None, store, ledger)
            }
            Self::Resume(NamedSubscription { name, store, ledger }) => {
                (Change::Resume(name), None, store, ledger)
            }
            Self::Remove(NamedSubscription { name, store, ledger }) => {
                (Change::Remove(name), None, store, ledger)
            }
            Self::Limit(limit) => {
                let LimitSubscription { name, limits, store, ledger } = *limit;
                (Change::Limit(name, Box::new(limits.limits())), None, store, ledger)
            }
        };
        let journal = ledger.journal()?;
        let made = subscriptions::make(&*store.open().await?, &change, journal.as_ref()).await?;
        let (act, name) = (change.act(), change.name());
        let note = match made {
            Made::Nothing => format!("nothing to do: {name} is so already"),
            Made::Change(Some(receipt)) => format!("{act} {name}: {}", receipt.header_value()),
            Made::Change(None) => format!("{act} {name}\n{UNRECORDED}"),
        };
        Ok(Done { output: key.unwrap_or_default(), note })
    }
}

impl LimitOptions {
    fn limits(self) -> Limits {
        let some = |list: Vec<Scope>| (!list.is_empty()).then_some(list);
        let networks = (!self.networks.is_empty()).then(|| {
            let value = |setting: &Setting<IpNet>| match setting {
                Setting::None => None,
                Setting::To(network) => Some(*network),
            };
            self.networks.iter().filter_map(value).collect()
        });
        Limits {
            scopes: some(self.scopes),
            expires: self.expires,
            networks,
            rate: self.rate,
            burst: self.burst,
            quota_day: self.quota_day,
            quota_month: self.quota_month,
        }
    }
}

impl PepperOptions {
    /// A new key and what is stored for it.
    fn new_key(&self) -> Result<(String, String), SubscriptionsError> {
        let newest = self.pepper.first().ok_or(SubscriptionsError::NoPepper)?;
        let pepper = newest.load().map_err(SubscriptionsError::Pepper)?;
        subscriptions::check_pepper(&pepper)?;
        let key = subscriptions::new_key();
        let digest = subscriptions::hash_key(&pepper, &key);
        Ok((key, digest))
    }
}

impl StoreOptions {
    async fn open(&self) -> Result<Arc<dyn SubscriptionStore>, SubscriptionsError> {
        self.subscriptions.clone().with_prefix(&self.database_prefix).open().await
    }
}

impl LedgerOptions {
    fn journal(self) -> Result<Option<Journal>, CommandError> {
        if self.unrecorded {
            return Ok(None);
        }
        let (Some(url), Some(key)) = (self.audit_url, self.caller_key) else {
            return Err(CommandError::NoLedger);
        };
        let key = key.load().map_err(CommandError::CallerKey)?;
        let mut options = Options::new(url, key);
        options.http = self.client_tls.client()?;
        Ok(Some(Journal { audit: AuditClient::start(options), claimed_by: self.person }))
    }
}
