//! How many requests a subscription has made in the day and month that it is.
//!
//! Every gateway counts for itself and tells the store about once a second, from which it learns
//! what the others counted. So a quota is approximate by a second's requests.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveTime, Utc};
use domain::ids::Name;

/// A day or a month, in UTC. Shown as `2026-11-24` or `2026-11`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Period {
    /// A day.
    Day(NaiveDate),
    /// A month, by its first day.
    Month(NaiveDate),
}

impl Period {
    /// The day and the month of an instant.
    pub(crate) fn of(now: DateTime<Utc>) -> [Self; 2] {
        let day = now.date_naive();
        [Self::Day(day), Self::Month(day.with_day(1).unwrap_or(day))]
    }

    /// When the next one begins.
    pub(crate) fn end(self) -> DateTime<Utc> {
        let next = match self {
            Self::Day(day) => day.checked_add_days(Days::new(1)),
            Self::Month(first) => first.checked_add_months(Months::new(1)),
        };
        next.unwrap_or(NaiveDate::MAX).and_time(NaiveTime::MIN).and_utc()
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Day(day) => day.fmt(f),
            Self::Month(first) => first.format("%Y-%m").fmt(f),
        }
    }
}

/// What is counted: the requests of a subscription in a period. Shown as `clinic/2026-11`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Counted {
    pub(crate) name: Name,
    pub(crate) period: Period,
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.period)
    }
}

/// Quotas for the day and the month, in this order.
pub(crate) type Quotas = [Option<NonZeroU64>; 2];

/// The counts of one subscription.
#[derive(Debug, Default)]
pub(crate) struct Usage(Mutex<[Option<Count>; 2]>);

#[derive(Clone, Copy, Debug)]
struct Count {
    period: Period,
    /// What the store is known to have.
    stored: u64,
    /// What is on its way there.
    sent: u64,
    /// What has been counted since.
    new: u64,
}

impl Count {
    fn total(&self) -> u64 {
        self.stored.saturating_add(self.sent).saturating_add(self.new)
    }
}

impl Usage {
    /// Counts one request, unless a quota is used up: then when that period ends.
    pub(crate) fn charge(&self, quotas: Quotas, now: DateTime<Utc>) -> Result<(), DateTime<Utc>> {
        if quotas == [None, None] {
            return Ok(());
        }
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for ((count, period), quota) in counts.iter_mut().zip(Period::of(now)).zip(quotas) {
            if count.is_none_or(|count| count.period != period) {
                *count = Some(Count { period, stored: 0, sent: 0, new: 0 });
            }
            let used = count.map_or(0, |count| count.total());
            if quota.is_some_and(|quota| used >= quota.get()) {
                return Err(period.end());
            }
        }
        for count in counts.iter_mut().flatten() {
            count.new = count.new.saturating_add(1);
        }
        Ok(())
    }

    /// Takes what the store does not have yet.
    pub(crate) fn take(&self) -> Vec<(Period, u64)> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::new();
        for count in counts.iter_mut().flatten().filter(|count| count.new > 0 && count.sent == 0) {
            count.sent = std::mem::take(&mut count.new);
            taken.push((count.period, count.sent));
        }
        taken
    }

    /// What the store has now, with what was taken; `None` where it could not be told.
    pub(crate) fn settle(&self, period: Period, total: Option<u64>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for count in counts.iter_mut().flatten().filter(|count| count.period == period) {
            let sent = std::mem::take(&mut count.sent);
            match total {
                Some(total) => count.stored = total,
                None => count.new = count.new.saturating_add(sent),
            }
        }
    }

    /// Begins with what the store has.
    pub(crate) fn resume(&self, period: Period, stored: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts[usize::from(matches!(period, Period::Month(_)))] =
            Some(Count { period, stored, sent: 0, new: 0 });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn periods_are_named_and_end_in_utc() {
        let [day, month] = Period::of(at("2026-12-31T23:59:59+00:00"));
        assert_eq!((day.to_string(), month.to_string()), ("2026-12-31".into(), "2026-12".into()));
        assert_eq!(day.end(), at("2027-01-01T00:00:00Z"));
        assert_eq!(month.end(), at("2027-01-01T00:00:00Z"));
        let [_, month] = Period::of(at("2028-01-31T01:00:00+02:00"));
        assert_eq!(month.end(), at("2028-02-01T00:00:00Z"));
    }

    #[test]
    fn a_quota_ends_with_its_period_and_the_larger_one_holds_on() {
        let usage = Usage::default();
        let quotas = [NonZeroU64::new(2), NonZeroU64::new(3)];
        let (one, two) = (at("2026-11-29T12:00:00Z"), at("2026-11-30T00:00:00Z"));
        assert_eq!(usage.charge(quotas, one), Ok(()));
        assert_eq!(usage.charge(quotas, one), Ok(()));
        assert_eq!(usage.charge(quotas, one), Err(two));
        assert_eq!(usage.charge(quotas, two), Ok(()));
        assert_eq!(usage.charge(quotas, two), Err(at("2026-12-01T00:00:00Z")));
        assert_eq!(usage.charge(quotas, at("2026-12-01T00:00:00Z")), Ok(()));
    }

    #[test]
    fn what_others_counted_counts_and_nothing_is_lost_when_the_store_fails() {
        let usage = Usage::default();
        let quotas = [NonZeroU64::new(10), None];
        let now = at("2026-11-24T12:00:00Z");
        let [day, _] = Period::of(now);
        for _ in 0..3 {
            usage.charge(quotas, now).unwrap();
        }
        assert_eq!(usage.take()[0], (day, 3));
        usage.charge(quotas, now).unwrap();
        // Nothing goes twice at once: an answer could not be told from the other.
        assert!(usage.take().is_empty());
        usage.settle(day, None);
        assert_eq!(usage.take()[0], (day, 4));
        usage.settle(day, Some(9));
        usage.charge(quotas, now).unwrap();
        assert!(usage.charge(quotas, now).is_err());
    }
}
