//! What the ledger says of a change to a subscription of the gateway.
//!
//! Members came after version 1 was first used, each of them optional: older records have a name
//! and an act alone, and their lines stay what they are.

use std::{
    collections::BTreeSet,
    fmt,
    num::{NonZeroU32, NonZeroU64},
    str::FromStr,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    actor::closed_list,
    ids::{MAX_SAFE_INTEGER, Name},
    record::RuleError,
    time::Timestamp,
};

/// Networks of one subscription at most: each is looked at with every request.
pub const MAX_NETWORKS: usize = 64;

/// What is done to a subscription. Recorded before it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubscriptionChange {
    /// Whether it was changed before without a record, so that its terms do not follow from the
    /// records before this one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub after_unrecorded: bool,
    /// What is done.
    pub change: SubscriptionAct,
    /// Who made the change as they say themselves. Nobody has checked it: known is the record's
    /// actor, who has the key that it came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed_by: Option<Name>,
    /// Which of its keys is replaced; `rotated` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeySlot>,
    /// To which subscription.
    pub name: Name,
    /// What holds for it from here on; not for `removed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<SubscriptionTerms>,
}

/// What a subscription may do, and how much of it. What is absent is not limited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubscriptionTerms {
    /// Requests at once before `rate` limits them; as many as `rate` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<NonZeroU32>,
    /// From when on it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// From where it may be used, at most [`MAX_NETWORKS`]; from everywhere if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<IpNet>,
    /// Requests per day (UTC), below 2^53.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_day: Option<NonZeroU64>,
    /// Requests per month (UTC), below 2^53.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_month: Option<NonZeroU64>,
    /// Requests per second at each gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<NonZeroU32>,
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
    /// Whether it is refused until it is resumed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
}

impl SubscriptionChange {
    /// Only what every change has.
    pub fn new(change: SubscriptionAct, name: Name) -> Self {
        let (after_unrecorded, claimed_by, key, terms) = (false, None, None, None);
        Self { after_unrecorded, change, claimed_by, key, name, terms }
    }

    /// Checks that the members fit together.
    pub(crate) fn check(&self) -> Result<(), RuleError> {
        if self.key.is_some() && self.change != SubscriptionAct::Rotated {
            return Err(RuleError::Unexpected("subscription.key"));
        }
        let Some(terms) = &self.terms else { return Ok(()) };
        if self.change == SubscriptionAct::Removed {
            return Err(RuleError::Unexpected("subscription.terms"));
        }
        if terms.networks.len() > MAX_NETWORKS {
            return Err(RuleError::Range("subscription.terms.networks"));
        }
        let quotas = [terms.quota_day, terms.quota_month];
        if quotas.into_iter().flatten().any(|quota| quota.get() > MAX_SAFE_INTEGER) {
            return Err(RuleError::Range("subscription.terms.quota"));
        }
        Ok(())
    }
}

closed_list!(
    /// What an operator can do to a subscription.
    SubscriptionAct, UnknownSubscriptionAct, "must be one of [added, rotated, suspended, resumed, removed, limited]" {
        /// It is new.
        Added = "added",
        /// One of its keys is replaced.
        Rotated = "rotated",
        /// It is refused from here on.
        Suspended = "suspended",
        /// It is admitted again.
        Resumed = "resumed",
        /// It is gone, and so are its keys.
        Removed = "removed",
        /// Its scopes, rate, quotas, networks or expiry are changed.
        Limited = "limited",
    }
);

closed_list!(
    /// One of the two keys of a subscription.
    KeySlot, UnknownKeySlot, "must be primary or secondary" {
        /// The first.
        Primary = "primary",
        /// The second, which a subscription need not have.
        Secondary = "secondary",
    }
);

closed_list!(
    /// What a caller may do.
    Scope, UnknownScope, "must be patient:read, patient:write, patient:erase or audit:read" {
        /// Load and search.
        PatientRead = "patient:read",
        /// Create, change and remove.
        PatientWrite = "patient:write",
        /// Destroy a patient's content for good.
        PatientErase = "patient:erase",
        /// Read the ledger.
        AuditRead = "audit:read",
    }
);
