//! What an operator does to subscriptions.

use std::num::{NonZeroU32, NonZeroU64};
use std::str::FromStr;

use chrono::{DateTime, Utc};
use domain::ids::Name;
use domain::subscription::{KeySlot, SubscriptionAct, SubscriptionChange};
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
        slot: KeySlot,
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
    /// Which act it is.
    pub(crate) fn act(&self) -> SubscriptionAct {
        match self {
            Self::Add(_) => SubscriptionAct::Added,
            Self::Rotate { .. } => SubscriptionAct::Rotated,
            Self::Suspend(_) => SubscriptionAct::Suspended,
            Self::Resume(_) => SubscriptionAct::Resumed,
            Self::Remove(_) => SubscriptionAct::Removed,
            Self::Limit(..) => SubscriptionAct::Limited,
        }
    }

    /// Whose subscription it changes.
    pub(crate) fn name(&self) -> &Name {
        match self {
            Self::Add(entry) => &entry.name,
            Self::Rotate { name, .. }
            | Self::Suspend(name)
            | Self::Resume(name)
            | Self::Remove(name)
            | Self::Limit(name, _) => name,
        }
    }

    /// What the ledger says about it, between these states. All terms as they are afterwards, so
    /// that one record tells them; where an earlier change was not recorded, any act tells them.
    pub(crate) fn record(&self, before: &[Entry], after: &[Entry]) -> SubscriptionChange {
        let find = |entries: &[Entry]| entries.iter().position(|it| it.name == *self.name());
        let after_unrecorded = find(before).is_some_and(|place| before[place].unrecorded);
        let terms = match self {
            Self::Add(_) | Self::Limit(..) => true,
            _ => after_unrecorded,
        };
        let key = match self {
            Self::Rotate { slot, .. } => Some(*slot),
            _ => None,
        };
        SubscriptionChange {
            after_unrecorded,
            key,
            terms: find(after).filter(|_| terms).map(|place| after[place].terms()),
            ..SubscriptionChange::new(self.act(), self.name().clone())
        }
    }

    /// The subscriptions after it; the same where there is nothing to do. What was changed without
    /// a record says so until a recorded change has told the ledger.
    pub(crate) fn apply(
        &self,
        before: &[Entry],
        recorded: bool,
    ) -> Result<Vec<Entry>, SubscriptionsError> {
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
        let changed = entries != before;
        if let Ok(entry) = find(&mut entries, self.name()) {
            entry.unrecorded = !recorded && (changed || entry.unrecorded);
        }
        Ok(entries)
    }
}

fn find<'a>(entries: &'a mut [Entry], name: &Name) -> Result<&'a mut Entry, SubscriptionsError> {
    let found = entries.iter_mut().find(|entry| entry.name == *name);
    found.ok_or_else(|| SubscriptionsError::Unknown { name: name.clone() })
}
