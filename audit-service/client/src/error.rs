//! What can go wrong between a service and the audit service.

use domain::{ids::Stream, wire::Stored};

/// Why an append gave no receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The stream is at another version; nothing was stored.
    #[error("{stream} is at version {actual}, not {expected}")]
    Conflict {
        /// The stream.
        stream: Stream,
        /// The version that the proposal expected.
        expected: u64,
        /// The version that the stream has.
        actual: u64,
    },
    /// The command id was used with another body; nothing was stored.
    #[error("the command id was used before with another body")]
    CommandReused,
    /// The proposal breaks a rule of the ledger: a defect of the caller.
    #[error("the audit service refused the record: {0}")]
    Refused(String),
    /// No acknowledgement.
    #[error("the audit service did not acknowledge the record")]
    Unavailable(Stored),
}

/// Why a read gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The audit service could not be reached or did not answer in time.
    #[error("the audit service could not be reached")]
    Unreachable(#[source] reqwest::Error),
    /// It answered with an error.
    #[error("the audit service answered with status {0}")]
    Status(u16),
    /// It answered with something unexpected.
    #[error("the audit service's answer cannot be read")]
    Malformed,
}
