//! Why a server gave no answer that can be used.

use std::time::Duration;

use runtime::{client::ClientError, secrets::SecretError};

use super::http::Door;

/// Why a server gave no answer that can be used. Never shows a key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// The address cannot be used.
    #[error(
        "not an address of a ledger: write http://HOST:PORT or https://HOST[:PORT], without user, password, query or fragment"
    )]
    Address,
    /// The key file cannot be read.
    #[error("the key cannot be used")]
    Key(#[from] SecretError),
    /// The key cannot stand in a header.
    #[error("the key in the key file cannot be sent: it should be one line of printable ASCII")]
    KeyNotSendable,
    /// The certificates cannot be used.
    #[error("the server cannot be reached with these certificates")]
    Client(#[from] ClientError),
    /// No connection, or none that lasted.
    #[error(
        "{url} cannot be reached or does not answer in time: check the address, that the service runs, and, for https, that its certificate is trusted here (--ca names its authority) and that it needs none of yours (--client-cert)"
    )]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The answer broke off.
    #[error("the answer of {url} broke off")]
    BrokenOff {
        /// Where.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// 401.
    #[error("the key in the key file is not accepted: {}", .door.expected_key())]
    NotAccepted {
        /// At which door.
        door: Door,
    },
    /// 401 at both doors.
    #[error(
        "the key in the key file is not accepted: give the key of a subscription with the scope audit:read for the gateway, or the service key of `audit` for the audit service"
    )]
    AcceptedNowhere,
    /// 403.
    #[error("the key in the key file may not read the ledger ({detail}): {}", .door.expected_key())]
    Forbidden {
        /// At which door.
        door: Door,
        /// What the server said.
        detail: String,
    },
    /// Nothing that looks like a ledger.
    #[error(
        "no ledger answers at {url}: neither the gateway (/audit/key) nor the audit service (/key)"
    )]
    NoLedger {
        /// Where.
        url: String,
    },
    /// Any other status.
    #[error("{url} answered with status {status}{}{detail}", if .detail.is_empty() { "" } else { ": " })]
    Status {
        /// Where.
        url: String,
        /// The status.
        status: u16,
        /// What the server said; may be empty.
        detail: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// Longer than any honest answer.
    #[error("the answer of {url} is longer than {bound} bytes, so it was not read to its end")]
    TooLong {
        /// Where.
        url: String,
        /// The bound.
        bound: usize,
    },
    /// Not what must stand there.
    #[error("the answer of {url} is not {expected}")]
    Malformed {
        /// Where.
        url: String,
        /// What it should be.
        expected: &'static str,
    },
}

impl SourceError {
    /// Whether it may pass if one waits and asks again.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::BrokenOff { .. } => true,
            Self::Status { status, .. } => matches!(status, 429 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// Whether no connection came about.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// How long the server wants to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The status of an answer that no other variant stands for.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}
