//! From verified records to changes of the read models.

use std::{borrow::Cow, collections::HashMap};

use audit_client::AuditClient;
use domain::{
    event::Recorded,
    ids::{KeyId, PatientId, Stream},
    record::{Kind, Record},
};

use crate::{
    backoff::Transient,
    change::StreamChange,
    erasure,
    error::{NotApplicable, NotApplicableReason, RepairError},
    history::{self, HistoryError, records_of},
    key_ring::{KeyRing, KeyRingError},
    sealing::{Content, OpenError, Opened, open_events},
    tail::Verified,
};

/// The change of one stream, and where it comes from.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) change: StreamChange,
    /// `seq` of the first event in it.
    pub(crate) seq: u64,
}

/// The result of one stream: an event that cannot be applied concerns its own stream alone.
pub(crate) type PerStream = Result<Decoded, NotApplicable>;

/// The events of patients among records; those of one stream together and ascending.
pub(crate) fn events_by_stream(records: Vec<Verified>) -> Vec<Record> {
    let mut events: Vec<Record> =
        records.into_iter().map(|verified| verified.record).filter(is_event).collect();
    // Stable: within a stream the order of the ledger stays.
    events.sort_by_key(Record::patient);
    events
}

fn is_event(record: &Record) -> bool {
    record.kind == Kind::Event && record.patient().is_some()
}

/// The patients of events that [`events_by_stream`] ordered, each once.
pub(crate) fn patients(events: &[Record]) -> Vec<PatientId> {
    streams(events).filter_map(|stream| stream.first()?.patient()).collect()
}

/// Drops the events that the cursors have passed.
pub(crate) fn drop_applied(events: &mut Vec<Record>, cursors: &HashMap<PatientId, u64>) {
    events.retain(|record| {
        let patient = record.patient();
        let cursor = patient.and_then(|patient| cursors.get(&patient)).copied().unwrap_or(0);
        record.version.is_some_and(|version| version > cursor)
    });
}

fn streams(events: &[Record]) -> impl Iterator<Item = &[Record]> {
    events.chunk_by(|one, next| one.stream == next.stream)
}

/// The patient of one stream's events, and the `seq` of the first.
fn head(stream: &[Record]) -> Option<(PatientId, u64)> {
    let first = stream.first()?;
    Some((first.patient()?, first.seq))
}

/// Decrypts events that [`events_by_stream`] ordered and folds each stream's. Of an erased
/// patient's nothing is decrypted, whatever the keys.
///
/// Fails as a whole only where nothing can be said of any stream.
pub(crate) async fn changes(
    audit: &AuditClient,
    ring: &KeyRing,
    events: &[Record],
) -> Result<Vec<PerStream>, RepairError> {
    let mut results = Vec::new();
    let mut alive = Cow::Borrowed(events);
    if events.iter().any(erasure::is_erasure) {
        let (erased, rest): (Vec<_>, Vec<_>) =
            streams(events).partition(|stream| stream.iter().any(erasure::is_erasure));
        for stream in erased {
            results.extend(self::erased(audit, stream).await?);
        }
        alive = Cow::Owned(rest.concat());
    }
    match open_events(ring, &alive).await {
        Ok(opened) => {
            for stream in split(opened) {
                results.push(change(audit, ring, stream).await?);
            }
        }
        Err(error) if error.is_transient() => return Err(error.into()),
        Err(_) => results.extend(changes_one_by_one(audit, ring, &alive).await?),
    }
    Ok(results)
}

/// The change of a stream that one of these events ends; `None` for no events.
async fn erased(audit: &AuditClient, stream: &[Record]) -> Result<Option<PerStream>, RepairError> {
    let Some((patient, seq)) = head(stream) else { return Ok(None) };
    let error = match erasure::find(audit, patient).await {
        Ok(Some(change)) => return Ok(Some(Ok(Decoded { change, seq }))),
        Ok(None) => RepairError::NothingToLoad { at: 0 },
        Err(error) => error.into(),
    };
    if error.is_transient() {
        return Err(error);
    }
    let reason = NotApplicableReason::Erasure(Box::new(error));
    Ok(Some(Err(NotApplicable { patient, seq, reason })))
}

/// As [`changes`], to find out whose event it is that cannot be opened.
async fn changes_one_by_one(
    audit: &AuditClient,
    ring: &KeyRing,
    events: &[Record],
) -> Result<Vec<PerStream>, RepairError> {
    let mut results = Vec::new();
    for stream in streams(events) {
        let Some((patient, first)) = head(stream) else { continue };
        results.push(match open_events(ring, stream).await {
            Ok(opened) => change(audit, ring, opened).await?,
            Err(error) if error.is_transient() => return Err(error.into()),
            Err(error) => Err(NotApplicable {
                patient,
                seq: seq_of(&error).unwrap_or(first),
                reason: NotApplicableReason::Open(error),
            }),
        });
    }
    Ok(results)
}

fn split(opened: Vec<Opened>) -> Vec<Vec<Opened>> {
    let mut streams: Vec<Vec<Opened>> = Vec::new();
    for event in opened {
        match streams.last_mut() {
            Some(stream) if stream.first().is_some_and(|of| of.patient == event.patient) => {
                stream.push(event);
            }
            _ => streams.push(vec![event]),
        }
    }
    streams
}

/// Folds the events of one stream; never called with none.
async fn change(
    audit: &AuditClient,
    ring: &KeyRing,
    opened: Vec<Opened>,
) -> Result<PerStream, RepairError> {
    let Some((patient, seq)) = opened.first().map(|event| (event.patient, event.seq)) else {
        return Err(RepairError::NothingToLoad { at: 0 });
    };
    let refuse = |seq, reason| Ok(Err(NotApplicable { patient, seq, reason }));
    if let Some(seq) = first_out_of_order(&opened) {
        return refuse(seq, NotApplicableReason::Version);
    }
    if let Some(seq) = first_under_another_key(&opened) {
        return refuse(seq, NotApplicableReason::KeyChanged);
    }
    let first_gone = opened.iter().find(|event| matches!(event.content, Content::KeyGone { .. }));
    let change = if let Some(gone) = first_gone {
        // Only the ledger's own word that the patient was erased excuses a missing key; it may
        // stand further on than these events.
        let gone = gone.seq;
        let at = opened.first().map_or(0, version_of).saturating_sub(1);
        match load_change(audit, ring, patient, at).await {
            Ok(change) => change,
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => return refuse(gone, NotApplicableReason::KeyGone(Box::new(error))),
        }
    } else {
        let (kid, events) = readable(opened);
        match StreamChange::fold(patient, kid, &events) {
            Some(change) => change,
            None => return refuse(seq, NotApplicableReason::Version),
        }
    };
    Ok(Ok(Decoded { change, seq }))
}

fn readable(opened: Vec<Opened>) -> (Option<KeyId>, Vec<Recorded>) {
    let kid = opened.iter().find_map(|event| event.kid);
    let events = opened.into_iter().filter_map(|event| match event.content {
        Content::Open(recorded) => Some(recorded),
        Content::KeyGone { .. } => None,
    });
    (kid, events.collect())
}

/// The change that the ledger's events of a stream after version `at` come to.
pub(crate) async fn load_change(
    audit: &AuditClient,
    ring: &KeyRing,
    patient: PatientId,
    at: u64,
) -> Result<StreamChange, RepairError> {
    let from_version = at.saturating_add(1);
    let lines = audit.stream(Stream::Patient(patient), from_version).await;
    let lines = lines.map_err(HistoryError::from)?;
    if records_of(patient, from_version, &lines)?.iter().any(erasure::is_erasure) {
        let erased = erasure::find(audit, patient).await?;
        return erased.ok_or(RepairError::NothingToLoad { at });
    }
    let history = match history::read_lines(ring, patient, from_version, &lines).await {
        // Perhaps she was erased between her lines and her key.
        Err(lost @ HistoryError::KeyLost { .. }) => {
            return Ok(erasure::find(audit, patient).await?.ok_or(lost)?);
        }
        history => history?,
    };
    StreamChange::fold(patient, history.kid, &history.events)
        .ok_or(RepairError::NothingToLoad { at })
}

fn first_out_of_order(opened: &[Opened]) -> Option<u64> {
    let steps = opened.iter().zip(opened.iter().skip(1));
    steps
        .filter(|(one, next)| version_of(next) != version_of(one) + 1)
        .map(|(_, next)| next.seq)
        .next()
}

fn first_under_another_key(opened: &[Opened]) -> Option<u64> {
    let mut sealed = opened.iter().filter_map(|event| Some((event.kid?, event.seq)));
    let (first, _) = sealed.next()?;
    sealed.find(|(kid, _)| *kid != first).map(|(_, seq)| seq)
}

fn version_of(event: &Opened) -> u64 {
    match &event.content {
        Content::Open(recorded) => recorded.version,
        Content::KeyGone { version, .. } => *version,
    }
}

fn seq_of(error: &OpenError) -> Option<u64> {
    match error {
        OpenError::Keys(_) => None,
        OpenError::Record { seq }
        | OpenError::Unauthentic { seq }
        | OpenError::Content { seq, .. } => Some(*seq),
    }
}

impl Transient for OpenError {
    /// A key-encryption key that is not at hand is what this process lacks and not what is wrong
    /// with a stream; with it, trying again succeeds.
    fn is_transient(&self) -> bool {
        matches!(self, Self::Keys(KeyRingError::WrongKek { .. }))
            || matches!(self, Self::Keys(error) if error.is_transient())
    }
}
