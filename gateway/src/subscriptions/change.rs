//! What an operator does to subscriptions.

use std::num::{NonZeroU32, NonZeroU64};
use std::str::FromStr;

use chrono::{DateTime, Utc};
use clap::ValueEnum;
use domain::ids::Name;
use domain::record::{SubscriptionAct, SubscriptionChange};
use ipnet::IpNet;

use super::{Entry, Scope, SubscriptionsError, entry};

/// One act.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A new subscription.
    Add(Box<Entry>),
    /// Another key in place of one.
    Rotate {
        /// Whose.
        name: Name,
        /// Which.
        slot: Slot,
        /// What is stored for the new key.
        digest: String,
    },
    /// Refuse it.
    Suspend(Name),
    /// Admit it again.
    Resume(Name),
    /// Forget it.
    Remove(Name),
    /// Other scopes or limits.
    Limit(Name, Box<Limits>),
}

/// One of the two keys of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Slot {
    /// The first.
    Primary,
    /// The second, which a subscription need not have.
    Secondary,
}

/// What is to be set; what is absent stays as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) scopes: Option<Vec<Scope>>,
    pub(crate) expires: Option<Setting<DateTime<Utc>>>,
    pub(crate) networks: Option<Vec<IpNet>>,
    pub(crate) rate: Option<Setting<NonZeroU32>>,
    pub(crate) burst: Option<Setting<NonZeroU32>>,
    pub(crate) quota_day: Option<Setting<NonZeroU64>>,
    pub(crate) quota_month: Option<Setting<NonZeroU64>>,
}

/// A value, or the word `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting<T> {
    /// `none`
    None,
    /// A value.
    To(T),
}

impl<T: FromStr> FromStr for Setting<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text == "none" { Ok(Self::None) } else { text.parse().map(Self::To) }
    }
}

impl<T: Copy> Setting<T> {
    fn apply(setting: Option<Self>, place: &mut Option<T>) {
        match setting {
            None => {}
            Some(Self::None) => *place = None,
            Some(Self::To(value)) => *place = Some(value),
        }
    }
}

impl Limits {
    /// Sets them.
    pub(crate) fn apply(&self, entry: &mut Entry) {
        if let Some(scopes) = &self.scopes {
            entry.scopes.clone_from(scopes);
        }
        if let Some(networks) = &self.networks {
            entry.networks.clone_from(networks);
        }
        Setting::apply(self.expires, &mut entry.expires);
        Setting::apply(self.rate, &mut entry.rate);
        Setting::apply(self.burst, &mut entry.burst);
        Setting::apply(self.quota_day, &mut entry.quota_day);
        Setting::apply(self.quota_month, &mut entry.quota_month);
    }
}

impl Change {
    /// What the ledger says about it.
    pub(crate) fn record(&self) -> SubscriptionChange {
        use SubscriptionAct::{Added, Limited, Removed, Resumed, Rotated, Suspended};
        let (change, name) = match self {
            Self::Add(entry) => (Added, &entry.name),
            Self::Rotate { name, .. } => (Rotated, name),
            Self::Suspend(name) => (Suspended, name),
            Self::Resume(name) => (Resumed, name),
            Self::Remove(name) => (Removed, name),
            Self::Limit(name, _) => (Limited, name),
        };
        SubscriptionChange { change, name: name.clone() }
    }

    /// The subscriptions after it; the same where there is nothing to do.
    pub(crate) fn apply(&self, before: &[Entry]) -> Result<Vec<Entry>, SubscriptionsError> {
        let mut entries = before.to_vec();
        match self {
            Self::Add(entry) => entries.push((**entry).clone()),
            Self::Rotate { name, slot, digest } => {
                let keys = &mut find(&mut entries, name)?.keys;
                match keys.get_mut(*slot as usize) {
                    Some(key) => key.clone_from(digest),
                    None => keys.push(digest.clone()),
                }
            }
            Self::Suspend(name) => find(&mut entries, name)?.suspended = true,
            Self::Resume(name) => find(&mut entries, name)?.suspended = false,
            Self::Remove(name) => {
                find(&mut entries, name)?;
                entries.retain(|entry| entry.name != *name);
            }
            Self::Limit(name, limits) => limits.apply(find(&mut entries, name)?),
        }
        entry::check(&entries)?;
        Ok(entries)
    }
}

fn find<'a>(entries: &'a mut [Entry], name: &Name) -> Result<&'a mut Entry, SubscriptionsError> {
    let found = entries.iter_mut().find(|entry| entry.name == *name);
    found.ok_or_else(|| SubscriptionsError::Unknown { name: name.clone() })
}
