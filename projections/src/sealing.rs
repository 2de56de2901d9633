//! Between events and records: content sealed on the way to the ledger, opened on the way back.

use std::collections::HashSet;

use domain::{
    content::MAX_CONTENT_BYTES,
    event::{ContentError, Event, Recorded},
    ids::{KeyId, PatientId, Stream},
    record::{Kind, Record, RecordType},
    sealed::{SealedParts, parse_compact},
    search::SearchCriteria,
    time::Timestamp,
};
use zeroize::Zeroizing;

use crate::{
    jwe,
    key_ring::{DataKey, KeyRing, KeyRingError},
};

/// An event's content does not fit a record's line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("content of {bytes} bytes is larger than {MAX_CONTENT_BYTES}")]
pub struct ContentTooLarge {
    /// Its size as JSON.
    pub bytes: usize,
}

/// An event of a patient as a record holds it, with what the data key gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Position of the record in the ledger.
    pub seq: u64,
    /// Whose event it is.
    pub patient: PatientId,
    /// The key that the content is sealed under; `None` for events without content.
    pub kid: Option<KeyId>,
    /// What is known of the event.
    pub content: Content,
}

/// What a record says, as far as it can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The event.
    Open(Recorded),
    /// The data key is not in the ring: the patient was erased.
    ///
    /// Legitimate only if the verified ledger holds a `PatientErased` of the same stream, which
    /// may stand further on than the records opened here. Whoever applies events checks that;
    /// without it a key was lost, and the event must not be skipped.
    KeyGone {
        /// Place of the event in the stream.
        version: u64,
        /// When it was recorded.
        at: Timestamp,
        /// What happened.
        record_type: RecordType,
    },
}

/// Why a record could not be opened. Names the record, never shows its content.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The keys could not be had.
    #[error(transparent)]
    Keys(#[from] KeyRingError),
    /// The record's members do not fit together; [`Record::parse`] would have refused it.
    #[error("record {seq} is not an event with its stream, version, schema and data")]
    Record {
        /// Position of the record.
        seq: u64,
    },
    /// The data was changed, or sealed under another key of the same id.
    #[error("the data of record {seq} does not authenticate under the key that it names")]
    Unauthentic {
        /// Position of the record.
        seq: u64,
    },
    /// The decrypted content is not that of the event.
    #[error("record {seq} cannot be read")]
    Content {
        /// Position of the record.
        seq: u64,
        /// What is wrong with it.
        #[source]
        source: ContentError,
    },
}

/// The `data` of an event's record; `None` where the event has no content.
pub fn seal_event(
    key: &DataKey,
    patient: PatientId,
    version: u64,
    event: &Event,
) -> Result<Option<String>, ContentTooLarge> {
    let Some(content) = event.content_json().map(Zeroizing::new) else { return Ok(None) };
    if content.len() > MAX_CONTENT_BYTES {
        return Err(ContentTooLarge { bytes: content.len() });
    }
    let stream = Stream::Patient(patient);
    Ok(Some(jwe::seal(key, Some(stream), event.record_type(), Some(version), &content)))
}

/// The `data` of a search's record, sealed under the key of the epoch
/// ([`KeyRing::epoch_key`]).
pub fn seal_search(key: &DataKey, criteria: &SearchCriteria) -> String {
    let content = serde_json::to_vec(criteria).expect("criteria are strings and dates");
    jwe::seal(key, None, RecordType::PatientsSearched, None, &Zeroizing::new(content))
}

/// Opens the events of patients among some records, in order, with one call for all keys.
/// Records of other kinds are skipped.
pub async fn open_events(ring: &KeyRing, records: &[Record]) -> Result<Vec<Opened>, OpenError> {
    let sealed = records
        .iter()
        .filter(|record| record.kind == Kind::Event)
        .map(SealedEvent::of)
        .collect::<Result<Vec<_>, _>>()?;
    let kids: HashSet<_> = sealed.iter().filter_map(SealedEvent::kid).collect();
    let keys = ring.get_many(&Vec::from_iter(kids)).await?;
    sealed.into_iter().map(|event| event.open(|kid| keys.get(&kid))).collect()
}

/// A record of an event, its parts found and its data taken apart.
struct SealedEvent<'a> {
    record: &'a Record,
    patient: PatientId,
    version: u64,
    schema: u32,
    data: Option<SealedParts<'a>>,
}

impl<'a> SealedEvent<'a> {
    fn of(record: &'a Record) -> Result<Self, OpenError> {
        let malformed = || OpenError::Record { seq: record.seq };
        let patient = record.patient().ok_or_else(malformed)?;
        let version = record.version.ok_or_else(malformed)?;
        let schema = record.schema.ok_or_else(malformed)?;
        let data =
            record.data.as_deref().map(parse_compact).transpose().map_err(|_| malformed())?;
        // Data of another record would authenticate: only its header says where it belongs.
        let belongs = data.as_ref().is_none_or(|data| {
            data.header.stream == record.stream
                && data.header.version == record.version
                && data.header.record_type == record.record_type
        });
        if !belongs {
            return Err(malformed());
        }
        Ok(Self { record, patient, version, schema, data })
    }

    fn kid(&self) -> Option<KeyId> {
        self.data.as_ref().map(|data| data.header.kid)
    }

    fn open<'k>(self, key: impl FnOnce(KeyId) -> Option<&'k DataKey>) -> Result<Opened, OpenError> {
        let Record { seq, recorded_at: at, record_type, .. } = *self.record;
        let (version, kid) = (self.version, self.kid());
        let opened = |content| Opened { seq, patient: self.patient, kid, content };
        let content = match &self.data {
            None => None,
            Some(data) => match key(data.header.kid) {
                None => return Ok(opened(Content::KeyGone { version, at, record_type })),
                Some(key) => {
                    Some(jwe::open_parts(key, data).map_err(|_| OpenError::Unauthentic { seq })?)
                }
            },
        };
        let content = content.as_ref().map(|content| content.as_slice());
        let event = Event::from_parts(record_type, self.record.test(), self.schema, content)
            .map_err(|source| OpenError::Content { seq, source })?;
        Ok(opened(Content::Open(Recorded { version, at, event })))
    }
}
