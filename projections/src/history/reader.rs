//! Reading a patient's stream page by page: nothing is kept but what the caller makes of it.

use audit_client::AuditClient;
use domain::{
    event::Recorded,
    ids::{KeyId, PatientId, Stream},
    record::Record,
    sealed::parse_compact,
};

use super::{HistoryError, records_of};
use crate::{
    erasure::is_erasure,
    key_ring::KeyRing,
    sealing::{Content, Opened, open_events},
};

/// Lines asked for at once. An answer of the audit service has 8 MB at most.
const PAGE: usize = 500;

/// Events of one stream read for one request at most: a patient with a test a day for half a
/// century. What is beyond is for the ledger's own export.
pub const MAX_EVENTS: u64 = 20_000;

/// Bytes of such events' lines at most: what is made of them takes no more memory.
pub const MAX_BYTES: usize = 64 * 1024 * 1024;

/// How much of one stream is read at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Events.
    pub events: u64,
    /// Bytes of their lines.
    pub bytes: usize,
}

/// What is made of the events.
pub trait Reading {
    /// Whether the event is to be opened. After the first that is not, none is.
    fn wants(&self, record: &Record) -> bool;

    /// Takes the next event, and the record and line that hold it.
    fn take(&mut self, record: &Record, line: &str, recorded: Recorded);
}

/// A place in a patient's stream.
pub struct Reader {
    audit: AuditClient,
    ring: KeyRing,
    patient: PatientId,
    bounds: Bounds,
    version: u64,
    /// Of the lines read so far.
    bytes: usize,
    /// Her data key, from the first event on.
    kid: Option<KeyId>,
    /// The first event that could not be opened, because its key is gone.
    gone: Option<u64>,
    erased: bool,
}

impl Reader {
    /// Begins before the first event; nothing is read yet.
    pub fn new(audit: AuditClient, ring: KeyRing, patient: PatientId) -> Self {
        Self {
            audit,
            ring,
            patient,
            bounds: Bounds { events: MAX_EVENTS, bytes: MAX_BYTES },
            version: 0,
            bytes: 0,
            kid: None,
            gone: None,
            erased: false,
        }
    }

    /// The same within other bounds than [`MAX_EVENTS`] and [`MAX_BYTES`].
    #[must_use]
    pub fn within(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// Version of the last event read; 0 where there is none.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The patient was erased by an event read so far. What was taken before must not be shown.
    pub fn is_erased(&self) -> bool {
        self.erased
    }

    /// Reads on to where the stream ends now. From the page on that has the patient's erasure
    /// nothing is opened, and her key is dropped from memory. A stream that goes on beyond the
    /// bounds is [`HistoryError::TooLong`].
    ///
    /// After an error it is unknown how far `reading` got: neither may be used on.
    pub async fn read_on(&mut self, reading: &mut impl Reading) -> Result<(), HistoryError> {
        let stream = Stream::Patient(self.patient);
        let mut looked_again = false;
        loop {
            let from = self.version + 1;
            let (lines, more) = self.audit.stream_page(stream, from, PAGE).await?;
            self.read_page(from, &lines, reading).await?;
            if !more || lines.is_empty() {
                // An erasure is in the ledger before the key is destroyed, but perhaps not yet
                // when these lines were asked for.
                if self.gone.is_none() || self.erased || looked_again {
                    break;
                }
                looked_again = true;
            }
            self.bytes += lines.iter().map(String::len).sum::<usize>();
            if self.version >= self.bounds.events || self.bytes >= self.bounds.bytes {
                return Err(HistoryError::TooLong);
            }
        }
        match self.gone {
            Some(version) if !self.erased => Err(HistoryError::KeyLost { version }),
            _ => Ok(()),
        }
    }

    async fn read_page(
        &mut self,
        from: u64,
        lines: &[String],
        reading: &mut impl Reading,
    ) -> Result<(), HistoryError> {
        let records = records_of(self.patient, from, lines)?;
        self.version += records.len() as u64;
        self.kid = self.kid.or_else(|| records.iter().find_map(sealed_under));
        self.erased |= records.iter().any(is_erasure);
        if self.erased
            && let Some(kid) = self.kid
        {
            self.ring.forget(kid);
        }
        if self.erased || self.gone.is_some() {
            return Ok(());
        }
        let wanted = records.iter().take_while(|record| reading.wants(record)).count();
        let opened = open_events(&self.ring, &records[..wanted]).await?;
        for ((record, line), event) in records.iter().zip(lines).zip(opened) {
            let Opened { kid, content, .. } = event;
            let recorded = match content {
                Content::Open(recorded) => recorded,
                Content::KeyGone { version, .. } => {
                    self.gone = Some(version);
                    return Ok(());
                }
            };
            if kid.is_some() && kid != self.kid {
                return Err(HistoryError::KeyChanged { version: recorded.version });
            }
            reading.take(record, line, recorded);
        }
        Ok(())
    }
}

fn sealed_under(record: &Record) -> Option<KeyId> {
    Some(parse_compact(record.data.as_deref()?).ok()?.header.kid)
}
