//! The answer to a command that the ledger knows already: what the first answer was.
//!
//! The content is the caller's own: the digest says that it sent the same body then, so nothing
//! is shown that it does not have. Hence no access is recorded.

use domain::{
    hash::Hash,
    ids::{PatientId, Stream},
    patient::Lifecycle,
    record::{CommandRef, Record},
    wire::Receipt,
};
use projections::{erasure, history};
use tokio::time::Instant;

use crate::{answer::Answer, commands::apply, error::Failure, state::App};

/// Answers from the line of the command's record.
pub(crate) async fn answer(
    app: &App,
    apply_by: Instant,
    line: &str,
    identity: &CommandRef,
) -> Result<Answer, Failure> {
    let record = own(line, identity)?;
    let (stream, version) = record.stream_version().ok_or(Failure::WrongRecord)?;
    let patient = stream.patient().ok_or(Failure::WrongRecord)?;
    // The whole stream, because an erasure further on takes this answer back.
    let history = history::load(&app.audit, &app.ring, patient).await?;
    if history.state.lifecycle == Lifecycle::Erased {
        if let Some(kid) = history.kid {
            app.ring.forget(kid);
        }
        return Err(Failure::Erased);
    }
    let recorded = history
        .events
        .into_iter()
        .find(|recorded| recorded.version == version)
        .ok_or(Failure::WrongRecord)?;
    // The first try may have ended before it applied its event.
    let projection = apply(app, apply_by, patient, history.kid, &recorded).await;
    // Nor is anything shown of a patient whose erasure was answered while this waited.
    if erased_after(app, patient, history.state.version).await? {
        return Err(Failure::Erased);
    }
    Ok(Answer::of_event(patient, recorded, &receipt(line, &record), projection))
}

/// The record of the very command that the client sent, not of another under the same id.
pub(crate) fn own(line: &str, identity: &CommandRef) -> Result<Record, Failure> {
    let record = Record::parse(line).map_err(|_| Failure::WrongRecord)?;
    let command = record.command.filter(|command| command.id == identity.id);
    if command.ok_or(Failure::WrongRecord)?.digest != identity.digest {
        return Err(Failure::CommandReused);
    }
    Ok(record)
}

/// Whether the ledger holds an erasure of the patient after a version of her stream.
async fn erased_after(app: &App, patient: PatientId, version: u64) -> Result<bool, Failure> {
    let from = version + 1;
    let lines = app.audit.stream(Stream::Patient(patient), from).await?;
    Ok(history::records_of(patient, from, &lines)?.iter().any(erasure::is_erasure))
}

/// As [`answer`], for the record at a position.
pub(crate) async fn answer_at(
    app: &App,
    apply_by: Instant,
    seq: u64,
    identity: &CommandRef,
) -> Result<Answer, Failure> {
    let line = app.audit.record(seq).await?.ok_or(Failure::WrongRecord)?;
    answer(app, apply_by, &line, identity).await
}

/// The receipt that the record's first answer had.
pub(crate) fn receipt(line: &str, record: &Record) -> Receipt {
    Receipt {
        seq: record.seq,
        hash: Hash::of_line(line),
        stream: record.stream,
        version: record.version,
        recorded_at: record.recorded_at,
        current_version: None,
        replayed: true,
        proof: None,
        span: None,
    }
}
