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
use uuid::Uuid;

/// One complete build of the read models. Starts at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u32);

/// Which generations are in use. A request asks once and stays with the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pointer {
    /// The one that is read, and written to by commands.
    pub serving: Generation,
    /// One more that commands write to while the pointer is moved: a process that has not seen
    /// the move yet and one that has find each other's writes.
    pub also: Option<Generation>,
}

impl Pointer {
    /// The pointer after another generation began to serve; itself where that serves already.
    #[must_use]
    pub fn moved_to(self, generation: Generation) -> Self {
        if self.serving == generation {
            return self;
        }
        Self { serving: generation, also: Some(self.serving) }
    }

    /// The generations that a command writes to, each once.
    pub fn written(self) -> impl Iterator<Item = Generation> {
        std::iter::once(self.serving).chain(self.also)
    }
}

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

/// Who may move the position of a generation: one follower, or the rebuild that makes it.
///
/// Time plays no part in it. Whoever wants the office watches `beat`; where it stands still for
/// long enough by the watcher's own clock, the holder is taken for dead and replaced. A holder
/// that was only slow finds its writes refused, because `term` has moved on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Office {
    /// The process in office; `None` where the last one left it in good order.
    pub holder: Option<Uuid>,
    /// Counts the holders.
    pub term: u64,
    /// Grows while the holder is alive.
    pub beat: u64,
}

/// A stream that a generation does not follow any more, because one of its events cannot be
/// applied. Its documents stay at the version before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// The patient.
    pub patient: PatientId,
    /// Position of the first record that was not applied.
    pub seq: u64,
    /// Why, without any content.
    pub reason: String,
    /// When it was parked, or retried last.
    pub at: Timestamp,
    /// Somebody asked the follower to try again.
    pub retry: bool,
}

/// A patient who was erased, and the key that must not exist any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erasure {
    /// The patient.
    pub patient: PatientId,
    /// The data key that all her content was sealed under.
    pub kid: KeyId,
}

/// Which activity to show; every member that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActivityFilter {
    /// One of the patients concerned.
    pub patient: Option<PatientId>,
    /// The actor's id.
    pub actor: Option<Name>,
    /// What happened.
    pub record_type: Option<RecordType>,
    /// Why.
    pub purpose: Option<Purpose>,
    /// What came of it.
    pub outcome: Option<Outcome>,
    /// Recorded at this time or later.
    pub from: Option<Timestamp>,
    /// Recorded before this time.
    pub until: Option<Timestamp>,
}

impl ActivityFilter {
    /// Whether a document is to be shown.
    pub fn fits(&self, document: &ActivityDoc) -> bool {
        self.patient.is_none_or(|patient| document.patients.contains(&patient))
            && self.actor.as_ref().is_none_or(|actor| *actor == document.actor.id)
            && self.record_type.is_none_or(|it| it == document.record_type)
            && self.purpose.is_none_or(|it| it == document.purpose)
            && self.outcome.is_none_or(|it| it == document.outcome)
            && self.from.is_none_or(|from| document.at >= from)
            && self.until.is_none_or(|until| document.at < until)
    }
}

/// Activity, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivityPage {
    /// The documents; perhaps none though there are more, where few of those looked at fit.
    pub documents: Vec<ActivityDoc>,
    /// Where the next page begins: it is asked for with this as `before`. `None` where there is
    /// no more.
    pub next: Option<u64>,
}
