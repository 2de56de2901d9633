//! Where subscriptions are kept.

use async_trait::async_trait;

use super::usage::Counted;
use super::{Entry, SubscriptionsError};

/// What tells one state of a store from all others; empty where nothing was ever stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Revision(pub(super) String);

/// All subscriptions, as they were at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) revision: Revision,
    pub(crate) entries: Vec<Entry>,
}

/// What became of a conditional replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replaced {
    /// It is durable.
    Done,
    /// The store is at another revision, and nothing was changed: read again.
    Outdated,
}

/// What became of counts that were to be added.
#[derive(Debug)]
pub(crate) struct Added {
    /// What each count is then, in the order in which they were given; `None` where it was not
    /// added, or nobody can tell.
    pub(crate) totals: Vec<Option<u64>>,
    /// Why one of them was not.
    pub(crate) failed: Option<SubscriptionsError>,
}

/// A store of subscriptions.
///
/// Replacing is atomic and durable; any number of processes may read and replace at once, and of
/// those that replace one revision only one succeeds. Counts of usage are kept apart from it and
/// need not be durable: losing a second of them lets a second's requests through.
#[async_trait]
pub(crate) trait SubscriptionStore: Send + Sync {
    /// All of them; `None` if they are still as they were at revision `known`.
    async fn load(&self, known: Option<&Revision>) -> Result<Option<Snapshot>, SubscriptionsError>;

    /// Puts `entries` in the place of what `before` holds.
    async fn replace(
        &self,
        before: &Snapshot,
        entries: &[Entry],
    ) -> Result<Replaced, SubscriptionsError>;

    /// Adds to counts, to each for itself. Those without a total are to be added again, which
    /// overstates at worst.
    async fn add_usage(&self, added: &[(Counted, u64)]) -> Added;

    /// The counts as they are, in the same order; 0 where there is none.
    async fn usage(&self, wanted: &[Counted]) -> Result<Vec<u64>, SubscriptionsError>;
}
