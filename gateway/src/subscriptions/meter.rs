//! Rate and quotas of one subscription, which outlive a change of the others.

use std::num::NonZeroU32;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::Entry;
use super::usage::{Quotas, Usage};

/// Counts the requests of one subscription.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    rate: Option<Rate>,
    quotas: Quotas,
    pub(super) usage: Arc<Usage>,
}

#[derive(Clone, Debug)]
struct Rate {
    per_second: NonZeroU32,
    burst: NonZeroU32,
    limiter: Arc<DefaultDirectRateLimiter>,
}

impl Meter {
    /// The meter of a subscription that had `before`: it goes on counting what stays the same.
    pub(super) fn new(entry: &Entry, before: Option<&Self>) -> Self {
        let rate = entry.rate.map(|per_second| {
            let burst = entry.burst.unwrap_or(per_second);
            let same = |rate: &&Rate| rate.per_second == per_second && rate.burst == burst;
            before.and_then(|meter| meter.rate.as_ref()).filter(same).cloned().unwrap_or_else(
                || {
                    let limiter =
                        RateLimiter::direct(Quota::per_second(per_second).allow_burst(burst));
                    Rate { per_second, burst, limiter: Arc::new(limiter) }
                },
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
        let Some(rate) = &self.rate else { return Ok(()) };
        rate.limiter.check().map_err(|exceeded| {
            let wait = exceeded.wait_time_from(DefaultClock::default().now());
            whole_seconds(wait.as_secs(), wait.subsec_nanos() > 0)
        })
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

/// Rounded up: who comes a moment too early is refused again.
fn whole_seconds(seconds: u64, and_more: bool) -> u32 {
    u32::try_from(seconds.saturating_add(u64::from(and_more))).unwrap_or(u32::MAX).max(1)
}
