//! What a client wants, and whether it may happen.

use crate::{
    content::{PatientContent, TestContent},
    event::Event,
    ids::TestId,
    patient::{Lifecycle, Patient, Test},
};

/// Something a client wants done to one patient. `if_match` is the revision that the client
/// saw, where it insists on it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Command {
    /// Register a patient under a fresh id.
    RegisterPatient { content: PatientContent },
    /// Replace the patient's data.
    AmendPatient { content: PatientContent, if_match: Option<u64> },
    /// Take the patient and her tests out of the read models.
    RemovePatient { if_match: Option<u64> },
    /// Destroy the patient's data for good, also where she was removed.
    ErasePatient,
    /// Record a test under a fresh id.
    RecordTest { test: TestId, content: TestContent },
    /// Replace a test's data.
    AmendTest { test: TestId, content: TestContent, if_match: Option<u64> },
    /// Take a test out of the read models.
    RemoveTest { test: TestId, if_match: Option<u64> },
}

impl Command {
    /// The test that the command is about.
    pub fn test(&self) -> Option<TestId> {
        match self {
            Self::RecordTest { test, .. }
            | Self::AmendTest { test, .. }
            | Self::RemoveTest { test, .. } => Some(*test),
            _ => None,
        }
    }
}

/// Why a command is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such patient, or removed or erased.
    #[error("patient not found")]
    PatientNotFound,
    /// The patient was erased before.
    #[error("the patient was erased")]
    Erased,
    /// No such test of this patient, or removed.
    #[error("test not found")]
    TestNotFound,
    /// The fresh id is taken.
    #[error("the id is already in use")]
    IdTaken,
    /// `If-Match` names another revision than the current one.
    #[error("the resource is at revision {current}")]
    PreconditionFailed {
        /// The revision in force.
        current: u64,
    },
}

/// The event that a command causes in a state, or why it causes none.
pub fn decide(state: &Patient, command: Command) -> Result<Event, Refusal> {
    match (&state.lifecycle, command) {
        (Lifecycle::Unregistered, Command::RegisterPatient { content }) => {
            Ok(Event::PatientRegistered(content))
        }
        (_, Command::RegisterPatient { .. }) => Err(Refusal::IdTaken),
        (Lifecycle::Active(_) | Lifecycle::Removed, Command::ErasePatient) => {
            Ok(Event::PatientErased)
        }
        (Lifecycle::Erased, Command::ErasePatient) => Err(Refusal::Erased),
        (Lifecycle::Active(patient), Command::AmendPatient { content, if_match }) => {
            matches(if_match, patient.revision)?;
            Ok(Event::PatientAmended(content))
        }
        (Lifecycle::Active(patient), Command::RemovePatient { if_match }) => {
            matches(if_match, patient.revision)?;
            Ok(Event::PatientRemoved)
        }
        (Lifecycle::Active(_), Command::RecordTest { test, content }) => {
            match state.tests.get(&test) {
                None => Ok(Event::TestRecorded { test, content }),
                Some(_) => Err(Refusal::IdTaken),
            }
        }
        (Lifecycle::Active(_), Command::AmendTest { test, content, if_match }) => {
            matches(if_match, revision(state, test)?)?;
            Ok(Event::TestAmended { test, content })
        }
        (Lifecycle::Active(_), Command::RemoveTest { test, if_match }) => {
            matches(if_match, revision(state, test)?)?;
            Ok(Event::TestRemoved { test })
        }
        (Lifecycle::Unregistered | Lifecycle::Removed | Lifecycle::Erased, _) => {
            Err(Refusal::PatientNotFound)
        }
    }
}

fn revision(state: &Patient, test: TestId) -> Result<u64, Refusal> {
    match state.tests.get(&test) {
        Some(Test::Active { current, .. }) => Ok(current.revision),
        Some(Test::Gone) | None => Err(Refusal::TestNotFound),
    }
}

fn matches(if_match: Option<u64>, current: u64) -> Result<(), Refusal> {
    match if_match {
        Some(seen) if seen != current => Err(Refusal::PreconditionFailed { current }),
        _ => Ok(()),
    }
}
