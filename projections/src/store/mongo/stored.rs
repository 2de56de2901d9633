//! The documents as MongoDB holds them: flat, with the members of the public API.

use domain::{
    actor::{Actor, Outcome, Purpose},
    content::{PatientContent, TestContent},
    ids::{KeyId, Name, PatientId, TestId, TraceId},
    patient::Current,
    record::RecordType,
    time::{Timestamp, first_day},
};
use mongodb::bson::{self, DateTime, RawDocumentBuf, oid::ObjectId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    change::{StreamChange, TestChange},
    documents::{ActivityDoc, PatientDoc, PatientState, TestDoc},
    store::StoreError,
};

/// Which of the states of a document, for conditions.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Active,
    Removed,
    Erased,
}

/// A patient. A tombstone has `_id`, `version`, `write` and `status` alone.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StoredPatient {
    #[serde(rename = "_id")]
    id: PatientId,
    version: i64,
    /// Which call wrote last, so that the call can tell its own work from another's.
    write: ObjectId,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<KeyId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_updated: Option<DateTime>,
    /// The first day of `dateOfBirth`, `YYYY-MM-DD`: what ranges compare with.
    #[serde(skip_serializing_if = "Option::is_none")]
    birth_day: Option<String>,
    #[serde(flatten)]
    content: Option<PatientContent>,
}

/// A test. A tombstone has `_id`, `patientId`, `version`, `first` and `status` alone.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StoredTest {
    #[serde(rename = "_id")]
    id: TestId,
    patient_id: PatientId,
    first: i64,
    #[serde(flatten)]
    data: TestData,
}

/// What changes of a test.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TestData {
    version: i64,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_updated: Option<DateTime>,
    #[serde(flatten)]
    content: Option<TestContent>,
}

/// An activity.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredActivity {
    #[serde(rename = "_id")]
    seq: i64,
    at: DateTime,
    #[serde(rename = "type")]
    record_type: RecordType,
    outcome: Outcome,
    purpose: Purpose,
    actor: Actor,
    source: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<TraceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    test: Option<TestId>,
    patients: Vec<PatientId>,
}

/// Reads a stored document; what it cannot be is not told, since that could show content.
pub(super) fn decode<T: DeserializeOwned>(
    collection: &'static str,
    document: &RawDocumentBuf,
) -> Result<T, StoreError> {
    bson::deserialize_from_slice(document.as_bytes())
        .map_err(|_| StoreError::Malformed { collection })
}

/// Versions and positions stay below 2^53.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn uint(value: i64) -> Option<u64> {
    u64::try_from(value).ok()
}

pub(super) fn date(time: Timestamp) -> DateTime {
    DateTime::from_millis(time.millis())
}

pub(super) fn time(date: DateTime) -> Timestamp {
    Timestamp::from_millis(date.timestamp_millis())
}

impl StoredPatient {
    /// The document that a change makes; `None` where it moves the cursor alone.
    pub(super) fn new(change: &StreamChange, write: ObjectId) -> Option<Self> {
        let (status, active) = match change.state.as_ref()? {
            PatientState::Active { kid, current } => (Status::Active, Some((kid, current))),
            PatientState::Removed => (Status::Removed, None),
            PatientState::Erased => (Status::Erased, None),
        };
        let content = active.map(|(_, current)| current.content.clone());
        Some(Self {
            id: change.patient,
            version: int(change.to),
            write,
            status,
            kid: active.map(|(kid, _)| *kid),
            revision: active.map(|(_, current)| int(current.revision)),
            last_updated: active.map(|(_, current)| date(current.last_updated)),
            birth_day: content.as_ref().and_then(birth_day),
            content,
        })
    }

    fn state(self) -> Option<PatientState> {
        Some(match self.status {
            Status::Active => PatientState::Active {
                kid: self.kid?,
                current: Current {
                    content: self.content?,
                    revision: uint(self.revision?)?,
                    last_updated: time(self.last_updated?),
                },
            },
            Status::Removed => PatientState::Removed,
            Status::Erased => PatientState::Erased,
        })
    }
}

fn birth_day(content: &PatientContent) -> Option<String> {
    first_day(&content.date_of_birth).map(|day| day.to_string())
}

pub(super) fn patient(document: &RawDocumentBuf) -> Result<PatientDoc, StoreError> {
    const MALFORMED: StoreError = StoreError::Malformed { collection: "patients" };
    let stored: StoredPatient = decode("patients", document)?;
    let (id, version) = (stored.id, uint(stored.version).ok_or(MALFORMED)?);
    Ok(PatientDoc { id, version, state: stored.state().ok_or(MALFORMED)? })
}

impl StoredTest {
    /// The document that a change makes where there is none; `None` where one must exist.
    pub(super) fn new(patient: PatientId, id: TestId, change: &TestChange) -> Option<Self> {
        Some(Self { id, patient_id: patient, first: int(change.first?), data: change.into() })
    }

    fn document(self) -> Option<TestDoc> {
        let current = match self.data.status {
            Status::Active => Some(Current {
                content: self.data.content?,
                revision: uint(self.data.revision?)?,
                last_updated: time(self.data.last_updated?),
            }),
            Status::Removed => None,
            Status::Erased => return None,
        };
        let (version, first) = (uint(self.data.version)?, uint(self.first)?);
        Some(TestDoc { id: self.id, patient: self.patient_id, version, first, current })
    }
}

impl From<&TestChange> for TestData {
    fn from(change: &TestChange) -> Self {
        let current = change.current.as_ref();
        Self {
            version: int(change.version),
            status: if current.is_some() { Status::Active } else { Status::Removed },
            revision: current.map(|current| int(current.revision)),
            last_updated: current.map(|current| date(current.last_updated)),
            content: current.map(|current| current.content.clone()),
        }
    }
}

impl TestData {
    /// A tombstone's.
    pub(super) fn gone(version: u64) -> Self {
        Self::from(&TestChange { version, first: None, current: None })
    }

    /// Whether this is a tombstone's.
    pub(super) fn is_gone(&self) -> bool {
        self.content.is_none()
    }
}

pub(super) fn test(document: &RawDocumentBuf) -> Result<TestDoc, StoreError> {
    let stored: StoredTest = decode("tests", document)?;
    stored.document().ok_or(StoreError::Malformed { collection: "tests" })
}

impl From<&ActivityDoc> for StoredActivity {
    fn from(document: &ActivityDoc) -> Self {
        Self {
            seq: int(document.seq),
            at: date(document.at),
            record_type: document.record_type,
            outcome: document.outcome,
            purpose: document.purpose,
            actor: document.actor.clone(),
            source: document.source.clone(),
            client: document.client.map(|client| client.to_string()),
            trace: document.trace,
            test: document.test,
            patients: document.patients.clone(),
        }
    }
}

pub(super) fn activity(document: &RawDocumentBuf) -> Result<ActivityDoc, StoreError> {
    const MALFORMED: StoreError = StoreError::Malformed { collection: "activity" };
    let stored: StoredActivity = decode("activity", document)?;
    let client = stored.client.map(|client| client.parse()).transpose();
    Ok(ActivityDoc {
        seq: uint(stored.seq).ok_or(MALFORMED)?,
        at: time(stored.at),
        record_type: stored.record_type,
        outcome: stored.outcome,
        purpose: stored.purpose,
        actor: stored.actor,
        source: stored.source,
        client: client.map_err(|_| MALFORMED)?,
        trace: stored.trace,
        test: stored.test,
        patients: stored.patients,
    })
}
