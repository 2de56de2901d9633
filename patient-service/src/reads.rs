//! The flow of a read (design §2): read, record the access, compare versions, answer.

use std::time::Duration;

use domain::{
    actor::Outcome,
    content::{PatientView, TestContent, TestView},
    ids::{ObjectRef, PatientId, Stream, TestId},
    patient::{Current, Lifecycle, Patient, Test},
    record::RecordType,
    wire::{Proposal, Receipt},
};
use http::StatusCode;
use tokio::time::timeout;

use crate::{
    answer::Answer,
    caller::Requester,
    conditions::Condition,
    error::{Failure, Missing},
    loading::Tests,
    state::App,
};

/// Reads of one request at most; every one but the last found the patient changed before its
/// access was recorded.
const MAX_READS: u32 = 8;

/// How long a client waits for data: longer than an append may take (8 s), and shorter than the
/// gateway waits (10 s).
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(9);
const _: () =
    assert!(READ_TIMEOUT.as_millis() <= projections::rebuild::LONGEST_REQUEST.as_millis());

/// What a client may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// `GET /patient/{id}`
    Patient(PatientId),
    /// `GET /patient/{id}/tests`
    Tests(PatientId),
    /// `GET /patient/{id}/tests/{testId}`
    Test(PatientId, TestId),
}

/// Reads, and answers only when the access to just that version is in the ledger.
pub(crate) async fn run(
    app: &App,
    target: Target,
    requester: &Requester,
    if_none_match: Option<&Condition>,
) -> Result<Answer, Failure> {
    timeout(READ_TIMEOUT, read(app, target, requester, if_none_match))
        .await
        .unwrap_or(Err(Failure::ReadTimedOut))
}

async fn read(
    app: &App,
    target: Target,
    requester: &Requester,
    if_none_match: Option<&Condition>,
) -> Result<Answer, Failure> {
    let generation = app.generation()?;
    let patient = target.patient();
    let mut loaded = app.load(generation, patient, target.tests()).await?;
    for _ in 0..MAX_READS {
        let (version, kid) = (loaded.patient.version, loaded.kid);
        let found = target.find(loaded.patient);
        let access = target.access(requester, version, found.is_ok());
        let receipt = app.audit.append(access).await.map_err(Failure::of_access)?;
        let current = receipt.current_version.unwrap_or(0);
        if current <= version {
            return match found {
                Ok(found) => Ok(found.answer(&receipt, if_none_match)),
                Err(missing) => Err(Failure::NotFound(missing, Some(Box::new(receipt)))),
            };
        }
        loaded = app.reload(generation, patient, target.tests(), current, kid).await?;
    }
    Err(Failure::StillChanging)
}

/// What there is to show, with its revision.
pub(crate) enum Found {
    Patient(PatientView, u64),
    Test(TestView, u64),
    Tests(Vec<TestView>),
}

impl Target {
    pub(crate) fn patient(self) -> PatientId {
        match self {
            Self::Patient(patient) | Self::Tests(patient) | Self::Test(patient, _) => patient,
        }
    }

    fn tests(self) -> Tests {
        match self {
            Self::Patient(_) => Tests::None,
            Self::Tests(_) => Tests::All,
            Self::Test(_, test) => Tests::One(test),
        }
    }

    /// Whether it has to do with a test.
    pub(crate) fn needs(self, test: TestId) -> bool {
        match self.tests() {
            Tests::None => false,
            Tests::One(one) => one == test,
            Tests::All => true,
        }
    }

    /// What of the target is not there to see in a patient's state.
    pub(crate) fn missing(self, state: &Patient) -> Option<Missing> {
        if !matches!(state.lifecycle, Lifecycle::Active(_)) {
            return Some(Missing::Patient);
        }
        let Self::Test(_, test) = self else { return None };
        let there = matches!(state.tests.get(&test), Some(Test::Active { .. }));
        (!there).then_some(Missing::Test)
    }

    /// Finds the target in a patient's state.
    pub(crate) fn find(self, mut state: Patient) -> Result<Found, Missing> {
        let Lifecycle::Active(patient) = state.lifecycle else { return Err(Missing::Patient) };
        match self {
            Self::Patient(id) => {
                let Current { content, revision, last_updated } = patient;
                Ok(Found::Patient(PatientView { id, last_updated, content }, revision))
            }
            Self::Test(patient, id) => match state.tests.remove(&id) {
                Some(Test::Active { current, .. }) => {
                    let revision = current.revision;
                    Ok(Found::Test(test_view(patient, id, current), revision))
                }
                Some(Test::Gone) | None => Err(Missing::Test),
            },
            Self::Tests(patient) => {
                let mut views: Vec<(u64, TestView)> = state
                    .tests
                    .into_iter()
                    .filter_map(|(id, test)| match test {
                        Test::Active { first, current } => {
                            Some((first, test_view(patient, id, current)))
                        }
                        Test::Gone => None,
                    })
                    .collect();
                views.sort_unstable_by_key(|(first, _)| *first);
                Ok(Found::Tests(views.into_iter().map(|(_, view)| view).collect()))
            }
        }
    }

    /// The record of an access to a version of the patient's stream.
    pub(crate) fn access(self, requester: &Requester, version: u64, found: bool) -> Proposal {
        let (record_type, object) = match self {
            Self::Patient(_) => (RecordType::PatientRead, None),
            Self::Tests(_) => (RecordType::TestsListed, None),
            Self::Test(_, test) => (RecordType::TestRead, Some(ObjectRef(test))),
        };
        let outcome = if found { Outcome::Success } else { Outcome::NotFound };
        Proposal {
            stream: Some(Stream::Patient(self.patient())),
            // A stream without events has no version to name.
            version: (version > 0).then_some(version),
            object,
            ..requester.proposal(record_type, outcome)
        }
    }
}

impl Found {
    pub(crate) fn answer(self, receipt: &Receipt, if_none_match: Option<&Condition>) -> Answer {
        let unchanged = |revision| {
            let current = if_none_match.is_some_and(|condition| condition.is_current(revision));
            current.then(|| Answer::empty(StatusCode::NOT_MODIFIED, receipt).revision(revision))
        };
        match self {
            Self::Patient(view, revision) => unchanged(revision)
                .unwrap_or_else(|| Answer::json(StatusCode::OK, receipt, &view).revision(revision)),
            Self::Test(view, revision) => unchanged(revision)
                .unwrap_or_else(|| Answer::json(StatusCode::OK, receipt, &view).revision(revision)),
            Self::Tests(views) => Answer::json(StatusCode::OK, receipt, &views),
        }
    }
}

fn test_view(patient: PatientId, id: TestId, current: Current<TestContent>) -> TestView {
    let Current { content, last_updated, .. } = current;
    TestView { id, patient_id: patient, last_updated, content }
}
