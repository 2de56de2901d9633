//! Rates of many, each counted apart.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use moka::sync::Cache;

use crate::config::Rate;

/// Those whose rate is remembered at once, some hundred bytes each. Beyond that those are forgotten
/// who come seldom, so that a flood of new ones does not free the others of their limit.
const REMEMBERED: u64 = 16_384;

/// Counts what each of many does.
pub(crate) struct Rates<K> {
    quota: Quota,
    limiters: Cache<K, Arc<DefaultDirectRateLimiter>>,
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Rates<K> {
    /// Allows each of them this rate.
    pub(crate) fn new(rate: Rate) -> Self {
        // Who did nothing for so long may do everything again, and need not be remembered.
        let full = Duration::from_secs(1 + u64::from(rate.burst.get() / rate.per_second));
        let limiters = Cache::builder().max_capacity(REMEMBERED).time_to_idle(full).build();
        Self { quota: quota(rate), limiters }
    }

    /// Charges one of them; else the whole seconds, at least one, until the next is allowed.
    pub(crate) fn charge(&self, whom: &K) -> Result<(), u32> {
        let new = || Arc::new(RateLimiter::direct(self.quota));
        charge(&self.limiters.get_with_by_ref(whom, new))
    }
}

/// The same for a limiter.
pub(crate) fn quota(rate: Rate) -> Quota {
    Quota::per_second(rate.per_second).allow_burst(rate.burst)
}

/// Charges a limiter; else the whole seconds, at least one, until the next is allowed.
pub(crate) fn charge(limiter: &DefaultDirectRateLimiter) -> Result<(), u32> {
    limiter.check().map_err(|exceeded| {
        let wait = exceeded.wait_time_from(DefaultClock::default().now());
        whole_seconds(wait.as_secs(), wait.subsec_nanos() > 0)
    })
}

/// Rounded up: who comes a moment too early is refused again.
pub(crate) fn whole_seconds(seconds: u64, and_more: bool) -> u32 {
    u32::try_from(seconds.saturating_add(u64::from(and_more))).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn rates(per_second: u32, burst: u32) -> Rates<u64> {
        Rates::new(Rate::new(per_second, burst))
    }

    #[test]
    fn each_has_a_burst_of_its_own() {
        let rates = rates(1, 3);
        for whom in [7, 8] {
            for _ in 0..3 {
                assert_eq!(rates.charge(&whom), Ok(()));
            }
            assert_eq!(rates.charge(&whom), Err(1));
        }
    }

    #[test]
    fn a_flood_of_new_ones_is_not_remembered_in_full_and_frees_nobody_who_keeps_coming() {
        let rates = rates(1, 1_000);
        let often = 0;
        for whom in 1..=4 * REMEMBERED {
            rates.charge(&whom).unwrap();
            if whom % 8 == 0 {
                let _ = rates.charge(&often);
            }
        }
        rates.limiters.run_pending_tasks();
        assert!(rates.limiters.entry_count() <= REMEMBERED);
        // A little came back while this ran.
        let left = (0..1_000).take_while(|_| rates.charge(&often).is_ok()).count();
        assert!(left < 500, "{left}");
    }
}
