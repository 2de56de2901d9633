//! What an error of the driver says about the block that was being stored.

use mongodb::error::{Error, ErrorKind, WriteFailure};

use crate::store::{AppendError, StoreError};

/// `DuplicateKey`. The collection has no unique index but `_id` (checked at opening).
const DUPLICATE_KEY: i32 = 11000;

/// Errors by which a server says that it did not take a document and never will:
/// `Unauthorized`, `AuthenticationFailed`, `DocumentValidationFailure`, `BSONObjectTooLarge`.
const NEVER_STORED: [i32; 4] = [13, 18, 121, 10334];

/// Sorts an error of an insert. Whatever is not certain is [`AppendError::Ambiguous`]: the
/// price of that is one more insert of the same bytes, the price of a wrong
/// [`AppendError::Refused`] is a second history.
///
/// So also `NotWritablePrimary` and its kin, which a server may answer after it stored, 16500
/// (Cosmos DB throttles, maybe half-way), 50 (out of time) and every write concern error.
pub(super) fn append_error(first: u64, error: Error) -> AppendError {
    let code = match error.kind.as_ref() {
        // Nothing was sent: the driver has retries switched off, so there was no try before.
        ErrorKind::ServerSelection { .. }
        | ErrorKind::Authentication { .. }
        | ErrorKind::InvalidTlsConfig { .. }
        | ErrorKind::SessionsNotSupported
        | ErrorKind::Shutdown => return AppendError::Refused(Box::new(error)),
        ErrorKind::Write(WriteFailure::WriteError(error)) => error.code,
        ErrorKind::Command(error) => error.code,
        _ => return AppendError::Ambiguous(Box::new(error)),
    };
    match code {
        DUPLICATE_KEY => AppendError::Occupied { first },
        code if NEVER_STORED.contains(&code) => AppendError::Refused(Box::new(error)),
        _ => AppendError::Ambiguous(Box::new(error)),
    }
}

/// Whether an upsert found its place taken.
pub(super) fn is_duplicate_key(error: &Error) -> bool {
    match error.kind.as_ref() {
        ErrorKind::Write(WriteFailure::WriteError(error)) => error.code == DUPLICATE_KEY,
        ErrorKind::Command(error) => error.code == DUPLICATE_KEY,
        _ => false,
    }
}

pub(super) fn read_error(error: Error) -> StoreError {
    StoreError::Unavailable(Box::new(error))
}
