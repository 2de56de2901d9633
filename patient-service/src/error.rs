//! What can go wrong with a request, and the one place where that becomes a status.

use audit_client::{AppendError, ReadError};
use axum::response::{IntoResponse, Response};
use domain::{
    content::MAX_CONTENT_BYTES,
    decide::Refusal,
    strict_json::JsonError,
    validation::Invalid,
    wire::{Receipt, Stored},
};
use http::{HeaderName, StatusCode};
use projections::{
    erasure::EraseError,
    history::{HistoryError, MAX_BYTES, MAX_EVENTS},
    key_ring::KeyRingError,
    sealing::OpenError,
    store::StoreError,
};
use runtime::{
    headers::HeaderError,
    problem::{FieldError, Outcome, Problem},
};

use crate::{
    answer::{AUDIT_RECEIPT, receipt_value},
    as_of::AsOfError,
    streams::NoTurn,
};

/// Seconds after which a request that failed for others' sake may be tried again.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Why a request has no success to answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The body is not acceptable JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The content breaks rules.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The path of a new test names no patient.
    #[error("the path's patient id is not a UUID")]
    PatientIdInPath,
    /// A malformed or repeated `Idempotency-Key`.
    #[error("malformed Idempotency-Key")]
    IdempotencyKey,
    /// A malformed condition.
    #[error("malformed {0}")]
    Condition(HeaderName),
    /// A `Purpose-Of-Use` that is not in the list, or several.
    #[error("unknown purpose of use")]
    Purpose,
    /// The gateway did not say who asks.
    #[error(transparent)]
    Identity(#[from] HeaderError),
    /// `cursor` of a page.
    #[error("malformed cursor")]
    Cursor,
    /// The query is not of names and values.
    #[error("malformed query")]
    MalformedQuery,
    /// A parameter of the query that may be given once.
    #[error("{0} given twice")]
    GivenTwice(&'static str),
    /// `limit` of a page, which is at most this.
    #[error("malformed limit")]
    Limit(u64),
    /// `asOf` of a read.
    #[error(transparent)]
    AsOf(#[from] AsOfError),
    /// The body could not be read or is not of a kind that is read.
    #[error("the body was refused")]
    Body(Problem),
    /// The event's content would not fit a record.
    #[error("content of {0} bytes")]
    ContentTooLarge(usize),
    /// There is nothing to read or change; where the attempt was recorded, its receipt.
    #[error("not found")]
    NotFound(Missing, Option<Box<Receipt>>),
    /// The resource is at another revision.
    #[error("another revision")]
    PreconditionFailed,
    /// The command id was used with another body.
    #[error("command id reused")]
    CommandReused,
    /// The command's patient was erased.
    #[error("erased")]
    Erased,
    /// The patient whose past was asked for was erased; the receipt of the attempt.
    #[error("erased")]
    PatientErased(Box<Receipt>),
    /// The erasure is in the ledger, and not everything of the patient is gone yet.
    #[error("the erasure is recorded and not complete yet")]
    ErasurePending(Box<Receipt>),
    /// Other commands came first, every time.
    #[error("still in conflict")]
    StillInConflict,
    /// The patient changed while she was read, every time.
    #[error("still changing")]
    StillChanging,
    /// The queue of the stream did not move.
    #[error(transparent)]
    NoTurn(#[from] NoTurn),
    /// A fresh random id was taken.
    #[error("a fresh id is taken")]
    IdTaken,
    /// The record of a command was not acknowledged.
    #[error("the command was not acknowledged")]
    CommandNotAcknowledged {
        /// What may be in the ledger.
        stored: Stored,
        /// The client can send the command again under its own key.
        keyed: bool,
    },
    /// The record of an access was not acknowledged.
    #[error("the access was not acknowledged")]
    AccessNotAcknowledged(Stored),
    /// The audit service refused a record: a defect of this program.
    #[error("the audit service refused the record: {0}")]
    Refused(String),
    /// The ledger could not be read.
    #[error(transparent)]
    Ledger(#[from] ReadError),
    /// A line of the ledger is no record, or not the one that was asked for.
    #[error("the ledger answered with another record than the one asked for")]
    WrongRecord,
    /// A stream could not be read back.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The read models could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No data key could be had.
    #[error(transparent)]
    KeyRing(#[from] KeyRingError),
    /// A patient's data key is not in the ring, though she was not erased.
    #[error("the data key of a patient is missing from the key ring")]
    KeyMissing,
    /// The follower has not passed the record of a request in time.
    #[error("the follower is behind")]
    FollowerBehind {
        /// The request's record.
        receipt: Box<Receipt>,
        /// The record that the follower comes to next.
        next_seq: u64,
    },
    /// Too many requests for the past wait for their turn.
    #[error("too many requests for the past")]
    TooManyPasts,
    /// Too many accountings are under way.
    #[error("too many accountings")]
    TooManyAccountings,
    /// The stores are not open yet.
    #[error("starting")]
    Starting,
    /// A read took too long.
    #[error("timed out")]
    ReadTimedOut,
    /// What an erasure leaves could not be written in time.
    #[error("completing the erasure takes too long")]
    CompletingTimedOut,
    /// A task ended without a result.
    #[error("a task panicked")]
    Panicked,
}

/// What was not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Patient,
    Test,
    Matches,
}

impl Missing {
    fn text(self) -> &'static str {
        match self {
            Self::Patient => "Patient not found",
            Self::Test => "Test not found.",
            Self::Matches => "No patients found with provided criteria",
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::PatientNotFound => Self::NotFound(Missing::Patient, None),
            Refusal::TestNotFound => Self::NotFound(Missing::Test, None),
            Refusal::IdTaken => Self::IdTaken,
            Refusal::Erased => Self::Erased,
            Refusal::PreconditionFailed { .. } => Self::PreconditionFailed,
        }
    }
}

impl From<EraseError> for Failure {
    fn from(error: EraseError) -> Self {
        match error {
            EraseError::Keys(error) => Self::KeyRing(error),
            EraseError::Store(error) => Self::Store(error),
        }
    }
}

impl Failure {
    /// Why the access could not be recorded.
    pub(crate) fn of_access(error: AppendError) -> Self {
        match error {
            AppendError::Unavailable(stored) => Self::AccessNotAcknowledged(stored),
            other => Self::Refused(other.to_string()),
        }
    }

    /// The failure behind a receipt: the command is in the ledger, whatever failed after it.
    pub(crate) fn after_append(self, keyed: bool) -> Self {
        match self {
            final_answer @ (Self::Erased | Self::CommandReused | Self::ErasurePending(_)) => {
                final_answer
            }
            other => {
                tracing::warn!(error = %other, "an earlier command could not be answered");
                Self::CommandNotAcknowledged { stored: Stored::Unknown, keyed }
            }
        }
    }

    /// Logs what operators have to know; the rest is the client's affair.
    fn log(&self) {
        match self {
            Self::Refused(_) | Self::WrongRecord | Self::KeyMissing => {
                tracing::error!(error = %self, "a request failed");
            }
            // What is behind these may be the address of a request, and so hold ids.
            Self::Ledger(_) | Self::History(_) => {
                tracing::warn!(error = %self, "a request failed");
            }
            Self::Store(_) | Self::KeyRing(_) => {
                let source = std::error::Error::source(self).map(ToString::to_string);
                tracing::warn!(error = %self, source, "a request failed");
            }
            Self::StillInConflict
            | Self::StillChanging
            | Self::NoTurn(_)
            | Self::FollowerBehind { .. } => {
                tracing::warn!(error = %self, "a request gave up");
            }
            _ => {}
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        failure.log();
        match failure {
            Failure::Json(error) => Self::bad_request(error.to_string()),
            Failure::Invalid(invalid) => Self::bad_request(invalid.to_string()).errors(invalid.0),
            Failure::PatientIdInPath => {
                let detail = "\"patientId\" must be a valid GUID";
                let error = FieldError { field: "patientId".into(), detail: detail.into() };
                Self::bad_request(detail).errors(vec![error])
            }
            Failure::IdempotencyKey => Self::bad_request(
                "Idempotency-Key must be sent once, with 1 to 255 visible ASCII characters",
            ),
            Failure::Condition(name) => Self::bad_request(format!(
                "{name} must be * or a list of entity tags such as \"3\""
            )),
            Failure::Purpose => Self::bad_request(format!(
                "Purpose-Of-Use {}, and be sent at most once",
                domain::actor::UnknownPurpose
            )),
            Failure::Identity(error) => Self::bad_request(error.to_string()),
            Failure::Cursor => {
                Self::bad_request("cursor must be taken from a Link of an earlier page")
            }
            Failure::MalformedQuery => {
                Self::bad_request("the query is malformed; send it as name=value&name=value")
            }
            Failure::GivenTwice(name) => {
                Self::bad_request(format!("{name} must be given at most once"))
            }
            Failure::Limit(most) => {
                Self::bad_request(format!("limit must be a number from 1 to {most}"))
            }
            Failure::AsOf(error) => Self::bad_request(error.to_string()),
            Failure::Body(problem) => problem,
            Failure::ContentTooLarge(_) => Self::payload_too_large(MAX_CONTENT_BYTES)
                .message(format!("the content is over the limit of {MAX_CONTENT_BYTES} bytes")),
            Failure::History(HistoryError::TooLong) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!(
                    "the patient has more than {MAX_EVENTS} events or {MAX_BYTES} bytes of them; \
                     a past as long as this is not shown"
                ),
            ),
            Failure::PatientErased(receipt) => {
                Self::new(StatusCode::GONE, "the patient was erased; nothing of her can be shown")
                    .header(AUDIT_RECEIPT, receipt_value(&receipt))
            }
            Failure::NotFound(missing, receipt) => not_found(missing, receipt.as_deref()),
            Failure::PreconditionFailed => Self::new(
                StatusCode::PRECONDITION_FAILED,
                "the resource is at another revision than If-Match names; load it again",
            ),
            Failure::CommandReused => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "the Idempotency-Key was used before with another body; use a new one",
            ),
            Failure::Erased => {
                Self::new(StatusCode::GONE, "the patient of this command was erased")
            }
            failure => unavailable_or_internal(&failure),
        }
    }
}

/// The failures that are not the client's: 503 where trying again may help, otherwise 500.
fn unavailable_or_internal(failure: &Failure) -> Problem {
    match failure {
        Failure::CommandNotAcknowledged { stored, keyed } => not_acknowledged(*stored, *keyed),
        Failure::AccessNotAcknowledged(stored) => Problem::unavailable(
            "the access could not be recorded, so no data is returned; try again",
        )
        .outcome(outcome(*stored)),
        Failure::StillInConflict | Failure::IdTaken | Failure::NoTurn(_) => nothing_stored(
            "other commands for this patient came first; nothing was stored, try again",
        ),
        Failure::ErasurePending(receipt) => Problem::unavailable(
            "the erasure is recorded, but not everything of the patient is gone yet; it is being \
             completed, and may be asked for again to learn when it is",
        )
        .retry_after(RETRY_AFTER_SECONDS)
        .outcome(Outcome::Recorded)
        .header(AUDIT_RECEIPT, receipt_value(receipt)),
        Failure::StillChanging => {
            nothing_stored("the patient is changing too fast to be read; try again")
        }
        Failure::Ledger(_) => nothing_stored("the audit service is not available; try again"),
        Failure::Store(StoreError::Unavailable(_)) => {
            nothing_stored("the projection store is not available; try again")
        }
        Failure::KeyRing(KeyRingError::Unavailable(_)) => {
            nothing_stored("the key ring is not available; try again")
        }
        Failure::History(error) if may_pass(error) => {
            nothing_stored("the ledger cannot be read now; try again")
        }
        Failure::FollowerBehind { receipt, next_seq } => Problem::unavailable(format!(
            "the request is record {}, and activity is known only before record {next_seq}; try \
             again",
            receipt.seq
        ))
        .header(AUDIT_RECEIPT, receipt_value(receipt)),
        Failure::TooManyAccountings => {
            nothing_stored("too many accountings are under way; try again")
        }
        Failure::TooManyPasts => {
            nothing_stored("too many requests for the past are under way; try again")
        }
        Failure::Starting => nothing_stored("the service is starting; try again"),
        Failure::ReadTimedOut => Problem::unavailable("reading took too long; try again"),
        _ => Problem::internal(),
    }
}

/// Whether reading a stream again may help.
fn may_pass(error: &HistoryError) -> bool {
    match error {
        HistoryError::Audit(_) => true,
        HistoryError::Open(OpenError::Keys(error)) => matches!(error, KeyRingError::Unavailable(_)),
        _ => false,
    }
}

fn nothing_stored(detail: &'static str) -> Problem {
    Problem::unavailable(detail).retry_after(RETRY_AFTER_SECONDS).outcome(Outcome::NothingStored)
}

fn not_acknowledged(stored: Stored, keyed: bool) -> Problem {
    let detail = match (stored, keyed) {
        (Stored::NothingStored, true) => {
            "the audit service is not available; nothing was stored, and the command may be sent \
             again with the same Idempotency-Key"
        }
        (Stored::NothingStored, false) => {
            "the audit service is not available; nothing was stored, and the command may be sent \
             again"
        }
        (Stored::Unknown, true) => {
            "it is not known whether the command was stored; send it again with the same \
             Idempotency-Key to learn it"
        }
        (Stored::Unknown, false) => {
            "it is not known whether the command was stored; look before sending it again, and \
             send an Idempotency-Key with commands so that they can be sent again safely"
        }
    };
    Problem::unavailable(detail).retry_after(RETRY_AFTER_SECONDS).outcome(outcome(stored))
}

fn outcome(stored: Stored) -> Outcome {
    match stored {
        Stored::NothingStored => Outcome::NothingStored,
        Stored::Unknown => Outcome::Unknown,
    }
}

fn not_found(missing: Missing, receipt: Option<&Receipt>) -> Problem {
    let problem = Problem::not_found(missing.text());
    match receipt {
        Some(receipt) => problem.header(AUDIT_RECEIPT, receipt_value(receipt)),
        None => problem,
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        Problem::from(self).into_response()
    }
}
