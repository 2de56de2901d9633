//! What a client may want done, by method and path, and how each body is read.

use std::fmt;

use domain::{
    content::{PatientContent, TestContent},
    decide::Command,
    ids::{PatientId, TestId},
    strict_json::parse_object,
};
use http::Method;
use uuid::Uuid;

use crate::error::Failure;

/// A command's route with its ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// `POST /patient`
    Register,
    /// `PUT /patient/{id}`
    AmendPatient(PatientId),
    /// `DELETE /patient/{id}`
    RemovePatient(PatientId),
    /// `POST /patient/{id}/erase`
    ErasePatient(PatientId),
    /// `POST /patient/{id}/tests`
    RecordTest(PatientId),
    /// `PUT /patient/{id}/tests/{testId}`
    AmendTest(PatientId, TestId),
    /// `DELETE /patient/{id}/tests/{testId}`
    RemoveTest(PatientId, TestId),
}

impl Action {
    pub(crate) fn method(&self) -> Method {
        match self {
            Self::Register | Self::ErasePatient(_) | Self::RecordTest(_) => Method::POST,
            Self::AmendPatient(_) | Self::AmendTest(..) => Method::PUT,
            Self::RemovePatient(_) | Self::RemoveTest(..) => Method::DELETE,
        }
    }

    /// The path in its one form: ids in lower case, no trailing slash.
    pub(crate) fn path(&self) -> String {
        self.to_string()
    }

    /// The patient concerned; none yet where one is to be registered.
    pub(crate) fn patient(&self) -> Option<PatientId> {
        match self {
            Self::Register => None,
            Self::AmendPatient(patient)
            | Self::RemovePatient(patient)
            | Self::ErasePatient(patient)
            | Self::RecordTest(patient)
            | Self::AmendTest(patient, _)
            | Self::RemoveTest(patient, _) => Some(*patient),
        }
    }

    /// The test that must exist already.
    pub(crate) fn test(&self) -> Option<TestId> {
        match self {
            Self::AmendTest(_, test) | Self::RemoveTest(_, test) => Some(*test),
            _ => None,
        }
    }

    /// Reads the body, naming all that is wrong with it. The body of a removal is not looked
    /// at. A test to be recorded gets its id here.
    pub(crate) fn command(&self, body: &[u8]) -> Result<Command, Failure> {
        Ok(match self {
            Self::Register => Command::RegisterPatient {
                content: PatientContent::from_create(&parse_object(body)?)?,
            },
            Self::AmendPatient(id) => Command::AmendPatient {
                content: PatientContent::from_update(&parse_object(body)?, *id)?,
                if_match: None,
            },
            Self::RemovePatient(_) => Command::RemovePatient { if_match: None },
            // Its reason is no part of the command.
            Self::ErasePatient(_) => Command::ErasePatient,
            Self::RecordTest(_) => Command::RecordTest {
                test: TestId::new(Uuid::new_v4()),
                content: TestContent::from_create(&parse_object(body)?)?,
            },
            Self::AmendTest(_, test) => Command::AmendTest {
                test: *test,
                content: TestContent::from_update(&parse_object(body)?, *test)?,
                if_match: None,
            },
            Self::RemoveTest(_, test) => Command::RemoveTest { test: *test, if_match: None },
        })
    }
}

/// Makes a command insist on a revision; those that make something new have none to insist on.
pub(crate) fn insist(mut command: Command, revision: Option<u64>) -> Command {
    match &mut command {
        Command::AmendPatient { if_match, .. }
        | Command::RemovePatient { if_match }
        | Command::AmendTest { if_match, .. }
        | Command::RemoveTest { if_match, .. } => *if_match = revision,
        Command::RegisterPatient { .. } | Command::RecordTest { .. } | Command::ErasePatient => {}
    }
    command
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Register => f.write_str("/patient"),
            Self::AmendPatient(patient) | Self::RemovePatient(patient) => {
                write!(f, "/patient/{patient}")
            }
            Self::ErasePatient(patient) => write!(f, "/patient/{patient}/erase"),
            Self::RecordTest(patient) => write!(f, "/patient/{patient}/tests"),
            Self::AmendTest(patient, test) | Self::RemoveTest(patient, test) => {
                write!(f, "/patient/{patient}/tests/{test}")
            }
        }
    }
}
