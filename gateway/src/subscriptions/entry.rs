//! One subscription as it is stored.

use std::collections::{HashMap, HashSet};
use std::num::{NonZeroU32, NonZeroU64};

use chrono::{DateTime, Utc};
use domain::ids::{MAX_SAFE_INTEGER, Name};
use domain::subscription::{MAX_NETWORKS, SubscriptionTerms};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::keys::Digest;
use super::{Scope, SubscriptionsError};
use crate::config::MAX_RATE;

/// Keys of one subscription: the primary and the secondary, so that one can be rotated while the
/// other is in use.
const MAX_KEYS: usize = 2;

/// One subscription as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Entry {
    /// Stands in records as the actor's id; no two subscriptions share one.
    pub name: Name,
    /// What it may do; with none only `/echo/resource`.
    pub scopes: Vec<Scope>,
    /// One or two digests from [`hash_key`](super::hash_key), the primary key's first.
    pub keys: Vec<String>,
    /// Whether it is refused until it is resumed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
    /// Whether the ledger has no record of its latest changes. Changes of the file by hand do not
    /// show here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unrecorded: bool,
    /// From when on it is refused (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<DateTime<Utc>>,
    /// From where it may be used, such as `10.1.0.0/16`; from everywhere if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<IpNet>,
    /// Requests per second at each gateway, refused ones included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<NonZeroU32>,
    /// Requests at once before `rate` limits them; as many as `rate` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<NonZeroU32>,
    /// Admitted requests per day (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_day: Option<NonZeroU64>,
    /// Admitted requests per month (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_month: Option<NonZeroU64>,
}

impl Entry {
    /// A subscription without limits.
    pub fn new(name: Name, scopes: Vec<Scope>, keys: Vec<String>) -> Self {
        Self {
            name,
            scopes,
            keys,
            suspended: false,
            unrecorded: false,
            expires: None,
            networks: Vec::new(),
            rate: None,
            burst: None,
            quota_day: None,
            quota_month: None,
        }
    }

    /// What holds for it, as the ledger says it.
    pub(super) fn terms(&self) -> SubscriptionTerms {
        SubscriptionTerms {
            burst: self.burst,
            expires: self.expires.map(Into::into),
            networks: self.networks.clone(),
            quota_day: self.quota_day,
            quota_month: self.quota_month,
            rate: self.rate,
            scopes: self.scopes.iter().copied().collect(),
            suspended: self.suspended,
        }
    }

    /// The digests as bytes.
    pub(super) fn digests(&self) -> Result<Vec<Digest>, SubscriptionsError> {
        let name = || self.name.clone();
        if !(1..=MAX_KEYS).contains(&self.keys.len()) {
            return Err(SubscriptionsError::KeyCount { name: name() });
        }
        let digest = |text: &String| {
            let mut digest = Digest::default();
            let lower = !text.bytes().any(|b| b.is_ascii_uppercase());
            match hex::decode_to_slice(text, &mut digest) {
                Ok(()) if lower => Ok(digest),
                _ => Err(SubscriptionsError::NotADigest { name: name() }),
            }
        };
        self.keys.iter().map(digest).collect()
    }

    fn check_limits(&self) -> Result<(), SubscriptionsError> {
        let name = || self.name.clone();
        if self.burst.is_some() && self.rate.is_none() {
            return Err(SubscriptionsError::BurstWithoutRate { name: name() });
        }
        if [self.rate, self.burst].into_iter().flatten().any(|limit| limit.get() > MAX_RATE) {
            return Err(SubscriptionsError::RateTooHigh { name: name(), max: MAX_RATE });
        }
        let quotas = [self.quota_day, self.quota_month];
        if quotas.into_iter().flatten().any(|quota| quota.get() > MAX_SAFE_INTEGER) {
            return Err(SubscriptionsError::QuotaTooHigh { name: name(), max: MAX_SAFE_INTEGER });
        }
        if self.networks.len() > MAX_NETWORKS {
            return Err(SubscriptionsError::TooManyNetworks { name: name(), max: MAX_NETWORKS });
        }
        Ok(())
    }
}

/// Refuses subscriptions that could not be told apart, or that contradict themselves.
pub(super) fn check(entries: &[Entry]) -> Result<(), SubscriptionsError> {
    let mut names = HashSet::new();
    let mut owners = HashMap::new();
    for entry in entries {
        if !names.insert(&entry.name) {
            return Err(SubscriptionsError::DuplicateName { name: entry.name.clone() });
        }
        entry.check_limits()?;
        for digest in entry.digests()? {
            if let Some(first) = owners.insert(digest, &entry.name) {
                return Err(SubscriptionsError::SharedKey {
                    first: first.clone(),
                    second: entry.name.clone(),
                });
            }
        }
    }
    Ok(())
}
