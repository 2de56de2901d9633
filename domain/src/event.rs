//! Facts about a patient and her tests, in the past tense.

use crate::{
    content::{PatientContent, TestContent},
    ids::TestId,
    record::RecordType,
    schema,
    time::Timestamp,
};

/// The version of the content's schema that this code writes, for every event. [`crate::schema`]
/// says how older ones are read, and what a new one takes.
pub const SCHEMA: u32 = 1;

/// Something that happened to one patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A patient was registered.
    PatientRegistered(PatientContent),
    /// A patient's data was replaced.
    PatientAmended(PatientContent),
    /// A patient was taken out of the read models; later commands are refused.
    PatientRemoved,
    /// A patient's data key was destroyed.
    PatientErased,
    /// A test was recorded.
    TestRecorded {
        /// The new test.
        test: TestId,
        /// Its data.
        content: TestContent,
    },
    /// A test's data was replaced.
    TestAmended {
        /// The test.
        test: TestId,
        /// Its new data.
        content: TestContent,
    },
    /// A test was taken out of the read models.
    TestRemoved {
        /// The test.
        test: TestId,
    },
}

/// An event with its place in the patient's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Position in the stream, from 1.
    pub version: u64,
    /// When the ledger recorded it.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
}

/// Why decrypted content is not the content of its event.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The type is not an event of a patient.
    #[error("{0} is not an event of a patient")]
    NotAnEvent(RecordType),
    /// An event of a test without the test, or the reverse.
    #[error("the record of {0} must name a test exactly where the event is of a test")]
    Object(RecordType),
    /// The content is there where it must not be, or the reverse.
    #[error("the record of {0} must have data exactly where the event has content")]
    Data(RecordType),
    /// The schema is of a later version of this program.
    #[error("schema {0} is not known to this program; update it")]
    Schema(u32),
    /// The content does not have the shape of its schema. The source is not kept: its text
    /// could show the content.
    #[error("the content of {0} does not have the shape of its schema")]
    Shape(RecordType),
}

impl Event {
    /// The record type that stands for this event.
    pub fn record_type(&self) -> RecordType {
        match self {
            Self::PatientRegistered(_) => RecordType::PatientRegistered,
            Self::PatientAmended(_) => RecordType::PatientAmended,
            Self::PatientRemoved => RecordType::PatientRemoved,
            Self::PatientErased => RecordType::PatientErased,
            Self::TestRecorded { .. } => RecordType::TestRecorded,
            Self::TestAmended { .. } => RecordType::TestAmended,
            Self::TestRemoved { .. } => RecordType::TestRemoved,
        }
    }

    /// The test that the event is about.
    pub fn test(&self) -> Option<TestId> {
        match self {
            Self::TestRecorded { test, .. }
            | Self::TestAmended { test, .. }
            | Self::TestRemoved { test } => Some(*test),
            _ => None,
        }
    }

    /// The content as JSON, to be encrypted into `data`; `None` where there is none.
    pub fn content_json(&self) -> Option<Vec<u8>> {
        let json = match self {
            Self::PatientRegistered(content) | Self::PatientAmended(content) => {
                serde_json::to_vec(content)
            }
            Self::TestRecorded { content, .. } | Self::TestAmended { content, .. } => {
                serde_json::to_vec(content)
            }
            Self::PatientRemoved | Self::PatientErased | Self::TestRemoved { .. } => return None,
        };
        Some(json.expect("content is strings and arrays, which always serialise"))
    }

    /// The event from what a record says of it and the decrypted content.
    pub fn from_parts(
        record_type: RecordType,
        test: Option<TestId>,
        schema: u32,
        content: Option<&[u8]>,
    ) -> Result<Self, ContentError> {
        schema::TODAY.check(schema)?;
        let needs_test = matches!(
            record_type,
            RecordType::TestRecorded | RecordType::TestAmended | RecordType::TestRemoved
        );
        if needs_test != test.is_some() {
            return Err(ContentError::Object(record_type));
        }
        let patient = || read(record_type, schema, content);
        let of_test = || read(record_type, schema, content);
        let bare = |event| match content {
            None => Ok(event),
            Some(_) => Err(ContentError::Data(record_type)),
        };
        match (record_type, test) {
            (RecordType::PatientRegistered, _) => Ok(Self::PatientRegistered(patient()?)),
            (RecordType::PatientAmended, _) => Ok(Self::PatientAmended(patient()?)),
            (RecordType::PatientRemoved, _) => bare(Self::PatientRemoved),
            (RecordType::PatientErased, _) => bare(Self::PatientErased),
            (RecordType::TestRecorded, Some(test)) => {
                Ok(Self::TestRecorded { test, content: of_test()? })
            }
            (RecordType::TestAmended, Some(test)) => {
                Ok(Self::TestAmended { test, content: of_test()? })
            }
            (RecordType::TestRemoved, Some(test)) => bare(Self::TestRemoved { test }),
            _ => Err(ContentError::NotAnEvent(record_type)),
        }
    }
}

fn read<T: serde::Serialize + serde::de::DeserializeOwned>(
    record_type: RecordType,
    schema: u32,
    content: Option<&[u8]>,
) -> Result<T, ContentError> {
    schema::TODAY.read(record_type, schema, content.ok_or(ContentError::Data(record_type))?)
}
