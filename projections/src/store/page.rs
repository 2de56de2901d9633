//! A page of activity, of documents that an index gives newest first.

use crate::documents::{ActivityDoc, ActivityFilter, ActivityPage};

/// Activity documents that one call looks at, at most. Only patient, actor and time have an
/// index: a filter for something rare besides looks at documents that do not fit, and this is
/// what some tens of milliseconds are enough for.
pub const ACTIVITY_WINDOW: usize = 5_000;

/// Takes documents until the page is full or enough were looked at.
pub(super) struct PageBuilder {
    filter: ActivityFilter,
    limit: usize,
    looked: usize,
    page: ActivityPage,
}

impl PageBuilder {
    pub(super) fn new(filter: &ActivityFilter, limit: usize) -> Self {
        let page = ActivityPage { documents: Vec::new(), next: None };
        Self { filter: filter.clone(), limit, looked: 0, page }
    }

    /// How many documents [`PageBuilder::add`] takes at most, the one that it refuses included.
    pub(super) fn most(&self) -> usize {
        let ActivityFilter { patient, actor, record_type, purpose, outcome, from: _, until: _ } =
            &self.filter;
        let all_fit = record_type.is_none()
            && purpose.is_none()
            && outcome.is_none()
            && (patient.is_none() || actor.is_none());
        let most = if all_fit { self.limit.min(ACTIVITY_WINDOW) } else { ACTIVITY_WINDOW };
        most.saturating_add(1)
    }

    /// Looks at the next older document; whether to go on.
    pub(super) fn add(&mut self, document: ActivityDoc) -> bool {
        let fits = self.filter.fits(&document);
        if self.looked == ACTIVITY_WINDOW || (fits && self.page.documents.len() == self.limit) {
            self.page.next = Some(document.seq + 1);
            return false;
        }
        self.looked += 1;
        if fits {
            self.page.documents.push(document);
        }
        true
    }

    pub(super) fn finish(self) -> ActivityPage {
        self.page
    }
}

/// Whether the index that the filter is answered from leads to a document.
pub(super) fn indexed(filter: &ActivityFilter, document: &ActivityDoc) -> bool {
    match (filter.patient, &filter.actor) {
        (Some(patient), _) => document.patients.contains(&patient),
        (None, Some(actor)) => *actor == document.actor.id,
        (None, None) => true,
    }
}
