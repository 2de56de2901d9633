//! Rate and quotas of one subscription, which outlive a change of the others.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use governor::{DefaultDirectRateLimiter, RateLimiter};

use super::Entry;
use super::usage::{Quotas, Usage};
use crate::config::Rate;
use crate::rates::{charge, quota, whole_seconds};

/// Counts the requests of one subscription.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    rate: Option<Limited>,
    quotas: Quotas,
    pub(super) usage: Arc<Usage>,
}

#[derive(Clone, Debug)]
struct Limited {
    rate: Rate,
    limiter: Arc<DefaultDirectRateLimiter>,
}

impl Meter {
    /// The meter of a subscription that had `before`: it goes on counting what stays the same.
    pub(super) fn new(entry: &Entry, before: Option<&Self>) -> Self {
        let rate = entry.rate.map(|per_second| {
            let rate = Rate { per_second, burst: entry.burst.unwrap_or(per_second) };
            let same = |limited: &&Limited| limited.rate == rate;
            before.and_then(|meter| meter.rate.as_ref()).filter(same).cloned().unwrap_or_else(
                || Limited { rate, limiter: Arc::new(RateLimiter::direct(quota(rate))) },
            )
        });
        Self {
            rate,
            quotas: [entry.quota_day, entry.quota_month],
            usage: before.map(|meter| Arc::clone(&meter.usage)).unwrap_or_default(),
        }
    }

    /// Whether anything is counted for longer than a moment.
    pub(super) fn has_quota(&self) -> bool {
        self.quotas != [None, None]
    }

    /// Charges one request to the rate; else the whole seconds, at least one, until the next.
    pub(crate) fn charge_rate(&self) -> Result<(), u32> {
        self.rate.as_ref().map_or(Ok(()), |limited| charge(&limited.limiter))
    }

    /// Charges one request to the quotas; else the whole seconds until there is one again.
    pub(crate) fn charge_quota(&self, now: DateTime<Utc>) -> Result<(), u32> {
        self.usage.charge(self.quotas, now).map_err(|end| {
            let wait = end.signed_duration_since(now);
            let seconds = u64::try_from(wait.num_seconds()).unwrap_or(0);
            whole_seconds(seconds, wait.subsec_nanos() > 0)
        })
    }
}
