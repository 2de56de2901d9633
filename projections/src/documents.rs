//! The documents of the read models, as plain values; each adapter has its own stored form.

use std::net::IpAddr;

use domain::{
    actor::{Actor, Outcome, Purpose},
    content::{PatientContent, TestContent},
    hash::Hash,
    ids::{KeyId, Name, PatientId, TestId, TraceId},
    patient::Current,
    record::RecordType,
    time::Timestamp,
};

/// One complete build of the read models. Starts at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u32);

/// A patient, and the cursor of her stream: everything up to `version` is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatientDoc {
    /// The patient.
    pub id: PatientId,
    /// Version of the last event applied.
    pub version: u64,
    /// What there is to see.
    pub state: PatientState,
}

/// What there is to see of a patient.
#[derive(Debug, Clone, PartialEq, Eq)]
// Nearly every patient is active: a box would save nothing and cost an allocation each.
#[allow(clippy::large_enum_variant)]
pub enum PatientState {
    /// Current data, and the key that her events are sealed under.
    Active {
        /// The patient's data key.
        kid: KeyId,
        /// The data.
        current: Current<PatientContent>,
    },
    /// Tombstone of a removal.
    Removed,
    /// Stub of an erasure.
    Erased,
}

/// A test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestDoc {
    /// The test.
    pub id: TestId,
    /// Whose it is.
    pub patient: PatientId,
    /// Version of the last event that touched it.
    pub version: u64,
    /// Version of the event that recorded it first; tests are listed in this order.
    pub first: u64,
    /// The data; `None` is a tombstone.
    pub current: Option<Current<TestContent>>,
}

/// Who touched which patients, when, why and with what outcome; one a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivityDoc {
    /// The record.
    pub seq: u64,
    /// When it was recorded.
    pub at: Timestamp,
    /// What happened.
    pub record_type: RecordType,
    /// What came of it.
    pub outcome: Outcome,
    /// Why.
    pub purpose: Purpose,
    /// Who.
    pub actor: Actor,
    /// Through which service.
    pub source: Name,
    /// From where.
    pub client: Option<IpAddr>,
    /// In which trace.
    pub trace: Option<TraceId>,
    /// The test touched.
    pub test: Option<TestId>,
    /// The patients concerned: the stream's, or those that a search returned.
    pub patients: Vec<PatientId>,
}

/// How far a generation has followed the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// `seq` of the next record to follow.
    pub next_seq: u64,
    /// Hash of the last record followed; [`Hash::ZERO`] before the first.
    pub hash: Hash,
    /// `recordedAt` of the last record followed.
    pub at: Timestamp,
}
