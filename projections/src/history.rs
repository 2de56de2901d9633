//! One patient's events, straight from the ledger: where a read model lags or has a gap, and for
//! what read models do not hold.

mod reader;

pub use reader::{Bounds, MAX_BYTES, MAX_EVENTS, Reader, Reading};

use audit_client::{AuditClient, ReadError};
use domain::{
    event::{Event, Recorded},
    ids::{KeyId, PatientId, Stream},
    patient::Patient,
    record::{ParseError, Record},
};

use crate::{
    key_ring::KeyRing,
    sealing::{Content, OpenError, Opened, open_events},
};

/// A patient's whole stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The patient's data key; `None` where nothing is recorded yet.
    pub kid: Option<KeyId>,
    /// Her events, ascending. Of an erased patient those alone that had no content to lose.
    pub events: Vec<Recorded>,
    /// What they come to.
    pub state: Patient,
}

/// The later part of a patient's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// The patient's data key, as far as these events name it.
    pub kid: Option<KeyId>,
    /// The events, ascending. Of an erased patient those alone that had no content to lose.
    pub events: Vec<Recorded>,
}

/// Why a history could not be had. Never shows any of it.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The audit service gave no answer.
    #[error(transparent)]
    Audit(#[from] ReadError),
    /// The audit service answered with a line that is no record.
    #[error("the audit service answered with a line that is no record")]
    Line(#[from] ParseError),
    /// The audit service answered with a record of another stream or kind.
    #[error("the audit service answered with record {seq}, which is no event of the stream")]
    Foreign {
        /// Position of the record.
        seq: u64,
    },
    /// A version is missing or stands twice.
    #[error("the stream has version {found} where {expected} belongs")]
    Gap {
        /// The version that should follow.
        expected: u64,
        /// The version that did.
        found: u64,
    },
    /// The keys could not be had, or a record could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A key is gone though the ledger holds no erasure of the patient: it was lost.
    #[error("the data key of version {version} is gone, and the patient was not erased")]
    KeyLost {
        /// The first event that cannot be opened.
        version: u64,
    },
    /// The patient was erased, and nothing of hers was ever sealed under a key.
    #[error("version {version} erases a patient of whom nothing was sealed")]
    NothingSealed {
        /// The erasure.
        version: u64,
    },
    /// There are more events than are read for one request.
    #[error("the stream has more than {MAX_EVENTS} events or {MAX_BYTES} bytes")]
    TooLong,
    /// The events are sealed under different keys: destroying one would not erase the patient.
    #[error("version {version} is sealed under another key than the events before it")]
    KeyChanged {
        /// The first event under another key.
        version: u64,
    },
}

/// Reads a patient's whole stream. One that was never registered has an empty history.
pub async fn load(
    audit: &AuditClient,
    ring: &KeyRing,
    patient: PatientId,
) -> Result<History, HistoryError> {
    let Events { kid, events } = load_from(audit, ring, patient, 1).await?;
    let state = Patient::replay(&events);
    Ok(History { kid, events, state })
}

/// Reads a patient's stream from a version on (1 is the first).
pub async fn load_from(
    audit: &AuditClient,
    ring: &KeyRing,
    patient: PatientId,
    from_version: u64,
) -> Result<Events, HistoryError> {
    let lines = audit.stream(Stream::Patient(patient), from_version).await?;
    match read_lines(ring, patient, from_version, &lines).await {
        // An erasure is in the ledger before the key is destroyed, but perhaps not yet when these
        // lines were asked for.
        Err(HistoryError::KeyLost { .. }) => {
            let lines = audit.stream(Stream::Patient(patient), from_version).await?;
            read_lines(ring, patient, from_version, &lines).await
        }
        result => result,
    }
}

/// Reads the lines of one patient's stream. Public for those who have the lines already.
pub async fn read_lines(
    ring: &KeyRing,
    patient: PatientId,
    from_version: u64,
    lines: &[String],
) -> Result<Events, HistoryError> {
    readable(open_events(ring, &records_of(patient, from_version, lines)?).await?)
}

/// The records of one patient's events, consecutive from a version on.
pub fn records_of(
    patient: PatientId,
    from_version: u64,
    lines: &[String],
) -> Result<Vec<Record>, HistoryError> {
    let mut records = Vec::with_capacity(lines.len());
    for (line, expected) in lines.iter().zip(from_version..) {
        let record = Record::parse(line)?;
        match record.stream_version() {
            Some((stream, version)) if stream == Stream::Patient(patient) => {
                if version != expected {
                    return Err(HistoryError::Gap { expected, found: version });
                }
            }
            _ => return Err(HistoryError::Foreign { seq: record.seq }),
        }
        records.push(record);
    }
    Ok(records)
}

/// The events that can be read, if those that cannot are accounted for.
fn readable(opened: Vec<Opened>) -> Result<Events, HistoryError> {
    let mut kid = None;
    let mut events = Vec::with_capacity(opened.len());
    let mut first_gone = None;
    for Opened { kid: sealed_under, content, .. } in opened {
        let version = match &content {
            Content::Open(recorded) => recorded.version,
            Content::KeyGone { version, .. } => *version,
        };
        if kid.is_some() && sealed_under.is_some() && kid != sealed_under {
            return Err(HistoryError::KeyChanged { version });
        }
        kid = kid.or(sealed_under);
        match content {
            Content::Open(recorded) => events.push(recorded),
            Content::KeyGone { .. } => first_gone = first_gone.or(Some(version)),
        }
    }
    let erased = events.iter().any(|recorded| recorded.event == Event::PatientErased);
    match first_gone {
        Some(version) if !erased => Err(HistoryError::KeyLost { version }),
        _ => Ok(Events { kid, events }),
    }
}
