//! The state of one patient's stream, and how events change it.

use std::collections::BTreeMap;

use crate::{
    content::{PatientContent, PatientView, TestContent, TestView},
    event::{Event, Recorded},
    ids::{PatientId, TestId},
    time::Timestamp,
};

/// What is known of one patient's stream up to a version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patient {
    /// Version of the last event; 0 before the first.
    pub version: u64,
    /// What has become of the patient.
    pub lifecycle: Lifecycle,
    /// Tests ever recorded. A state made for one decision may hold only the test concerned.
    pub tests: BTreeMap<TestId, Test>,
}

/// What has become of a patient.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Lifecycle {
    /// Nothing recorded yet.
    #[default]
    Unregistered,
    /// Registered, with current data.
    Active(Current<PatientContent>),
    /// Removed; the ledger still holds the data.
    Removed,
    /// Erased; the data key is gone.
    Erased,
}

/// Content that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current<T> {
    /// The data.
    pub content: T,
    /// Version of the event that set it; the `ETag` of the resource.
    pub revision: u64,
    /// When that event was recorded.
    pub last_updated: Timestamp,
}

/// What has become of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// Recorded, with current data.
    Active {
        /// Version of the event that recorded the test first; tests are listed in this order.
        first: u64,
        /// The data.
        current: Current<TestContent>,
    },
    /// Removed, or the patient was.
    Gone,
}

impl Patient {
    /// The state after one more event. Never fails and never decides: an event that makes no
    /// sense here (which `decide` would not have made) changes the version alone.
    #[must_use]
    pub fn evolve(mut self, recorded: &Recorded) -> Self {
        let Recorded { version, at, event } = recorded;
        self.version = *version;
        match event {
            Event::PatientRegistered(content) | Event::PatientAmended(content) => {
                if !self.is_final() {
                    self.lifecycle = Lifecycle::Active(current(content, *version, *at));
                }
            }
            Event::PatientRemoved => {
                if !self.is_final() {
                    self.lifecycle = Lifecycle::Removed;
                    self.tests.values_mut().for_each(|test| *test = Test::Gone);
                }
            }
            Event::PatientErased => {
                self.lifecycle = Lifecycle::Erased;
                self.tests.values_mut().for_each(|test| *test = Test::Gone);
            }
            Event::TestRecorded { test, content } => {
                if self.is_active() && !self.tests.contains_key(test) {
                    let current = current(content, *version, *at);
                    self.tests.insert(*test, Test::Active { first: *version, current });
                }
            }
            Event::TestAmended { test, content } => {
                if let Some(Test::Active { current: now, .. }) = self.tests.get_mut(test) {
                    *now = current(content, *version, *at);
                }
            }
            Event::TestRemoved { test } => {
                if let Some(test) = self.tests.get_mut(test) {
                    *test = Test::Gone;
                }
            }
        }
        self
    }

    /// The state after a whole history.
    pub fn replay<'a>(history: impl IntoIterator<Item = &'a Recorded>) -> Self {
        history.into_iter().fold(Self::default(), Self::evolve)
    }

    /// The patient as clients see her, while she is there to see.
    pub fn view(&self, id: PatientId) -> Option<PatientView> {
        let Lifecycle::Active(current) = &self.lifecycle else { return None };
        Some(PatientView {
            id,
            last_updated: current.last_updated,
            content: current.content.clone(),
        })
    }

    /// A test as clients see it, while it is there to see.
    pub fn test_view(&self, patient: PatientId, id: TestId) -> Option<TestView> {
        match (&self.lifecycle, self.tests.get(&id)) {
            (Lifecycle::Active(_), Some(Test::Active { current, .. })) => Some(TestView {
                id,
                patient_id: patient,
                last_updated: current.last_updated,
                content: current.content.clone(),
            }),
            _ => None,
        }
    }

    /// All tests as clients see them, in the order in which they were recorded.
    pub fn test_views(&self, patient: PatientId) -> Vec<TestView> {
        let mut views: Vec<(u64, TestView)> = self
            .tests
            .iter()
            .filter_map(|(id, test)| match test {
                Test::Active { first, .. } => Some((*first, self.test_view(patient, *id)?)),
                Test::Gone => None,
            })
            .collect();
        views.sort_by_key(|(first, _)| *first);
        views.into_iter().map(|(_, view)| view).collect()
    }

    fn is_active(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Active(_))
    }

    fn is_final(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Removed | Lifecycle::Erased)
    }
}

fn current<T: Clone>(content: &T, revision: u64, at: Timestamp) -> Current<T> {
    Current { content: content.clone(), revision, last_updated: at }
}
