//! Errors of the driver, without the texts of the server: those may repeat a query, and a
//! query holds personal data.

use mongodb::error::{Error, ErrorKind, WriteFailure};

use super::DEADLINE;
use crate::store::StoreError;

/// What is told of a failure.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no connection to the server: {0}")]
    Connection(String),
    #[error("the server answered with error {code} ({name})")]
    Server { code: i32, name: String },
    #[error("the server refused a write with error {code}")]
    Write { code: i32 },
    #[error("a majority did not acknowledge the write (error {code})")]
    WriteConcern { code: i32 },
    #[error("no answer within {} seconds", DEADLINE.as_secs())]
    Deadline,
    #[error("other writers came first {0} times")]
    Contention(usize),
    #[error("the connection string or a setting of the driver is wrong")]
    Setting,
    #[error("the driver failed")]
    Driver,
}

fn store_error(failure: Failure) -> StoreError {
    StoreError::Unavailable(Box::new(failure))
}

/// The driver's error as the port's.
pub(super) fn unavailable(error: &Error) -> StoreError {
    store_error(match &*error.kind {
        ErrorKind::Io(_)
        | ErrorKind::ServerSelection { .. }
        | ErrorKind::DnsResolve { .. }
        | ErrorKind::ConnectionPoolCleared { .. } => Failure::Connection(error.kind.to_string()),
        ErrorKind::Command(error) => {
            Failure::Server { code: error.code, name: error.code_name.clone() }
        }
        ErrorKind::Write(WriteFailure::WriteError(error)) => Failure::Write { code: error.code },
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => {
            Failure::WriteConcern { code: error.code }
        }
        ErrorKind::InvalidArgument { .. } | ErrorKind::InvalidTlsConfig { .. } => Failure::Setting,
        _ => Failure::Driver,
    })
}

pub(super) fn deadline() -> StoreError {
    store_error(Failure::Deadline)
}

pub(super) fn write(code: i32) -> StoreError {
    store_error(Failure::Write { code })
}

pub(super) fn write_concern(code: i32) -> StoreError {
    store_error(Failure::WriteConcern { code })
}

pub(super) fn contention(rounds: usize) -> StoreError {
    store_error(Failure::Contention(rounds))
}

/// A reply, or a document to be written, that the driver's BSON cannot take.
pub(super) fn driver() -> StoreError {
    store_error(Failure::Driver)
}
