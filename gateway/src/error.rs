//! The one place where the gateway's refusals and failures become answers.

use http::StatusCode;
use runtime::problem::{Outcome, Problem};

use crate::bulkheads::Compartment;
use crate::subscriptions::Scope;

/// The longest path and query, in bytes: ids and a cursor are far shorter.
pub(crate) const MAX_URI_BYTES: usize = 8 * 1024;

/// The most bytes of header names and values together.
pub(crate) const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Header lines of one request at most; with those that are added they stay under the hundred
/// that the services take.
pub(crate) const MAX_HEADERS: usize = 64;

/// Why the gateway itself does not answer with what an upstream said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No key was sent.
    NoKey,
    /// The key is not known, or there are several.
    WrongKey,
    /// The subscription lacks a scope.
    NoScope(Scope),
    /// The subscription has no scope at all.
    NoScopes,
    /// The body is of a kind that is not read.
    MediaType,
    /// Path and query are over [`MAX_URI_BYTES`].
    UriTooLong,
    /// The headers are over [`MAX_HEADER_BYTES`].
    HeadersTooLarge,
    /// Too many requests of this kind are under way; for a command, nothing was stored.
    Busy(Compartment, Option<Outcome>),
    /// The gateway stops and lets go of a request that only waits.
    Stopping,
    /// An upstream did not answer, or not as it should; for a command, with what became of it.
    Upstream(Option<Outcome>),
}

impl Refusal {
    /// The reason as metrics name it.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::NoKey => "no_key",
            Self::WrongKey => "wrong_key",
            Self::NoScope(_) | Self::NoScopes => "scope",
            Self::MediaType => "media_type",
            Self::UriTooLong => "uri_too_long",
            Self::HeadersTooLarge => "headers_too_large",
            Self::Busy(Compartment::Commands, _) => "busy_commands",
            Self::Busy(Compartment::Reads, _) => "busy_reads",
            Self::Busy(Compartment::Searches, _) => "busy_searches",
            Self::Busy(Compartment::Ledger, _) => "busy_ledger",
            Self::Stopping => "stopping",
            Self::Upstream(_) => "upstream",
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            // The wording that clients of API Management know (contract, "Statuses").
            Refusal::NoKey => Self::unauthorized(
                "Access denied due to missing subscription key. Make sure to include subscription key when making requests to an API.",
            ),
            Refusal::WrongKey => Self::unauthorized(
                "Access denied due to invalid subscription key. Make sure to provide a valid key for an active subscription.",
            ),
            Refusal::NoScope(scope) => {
                Self::forbidden(format!("the subscription does not have the scope {scope}"))
            }
            Refusal::NoScopes => Self::forbidden("the subscription does not have any scope"),
            Refusal::MediaType => Self::unsupported_media_type(
                "multipart and octet-stream bodies are not read: send JSON",
            ),
            Refusal::UriTooLong => Self::new(
                StatusCode::URI_TOO_LONG,
                format!("path and query are over the limit of {MAX_URI_BYTES} bytes"),
            ),
            Refusal::HeadersTooLarge => Self::new(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                format!(
                    "the headers are over the limit of {MAX_HEADER_BYTES} bytes and {MAX_HEADERS} lines"
                ),
            ),
            Refusal::Busy(_, outcome) => unavailable(
                match outcome {
                    None => "too many requests at once, try again later",
                    Some(_) => "too many requests at once; nothing was stored, try again later",
                },
                outcome,
            ),
            Refusal::Stopping => unavailable("this gateway is stopping, try again", None),
            Refusal::Upstream(outcome) => unavailable(
                match outcome {
                    None => "a service is not available, try again",
                    Some(Outcome::NothingStored) => {
                        "a service is not available; nothing was stored, try again with the same Idempotency-Key"
                    }
                    Some(Outcome::Unknown | Outcome::Recorded) => {
                        "a service did not answer; whether something was stored is not known, try again with the same Idempotency-Key"
                    }
                },
                outcome,
            ),
        }
    }
}

/// 503, with `Retry-After`.
fn unavailable(detail: &str, outcome: Option<Outcome>) -> Problem {
    let problem = Problem::unavailable(detail);
    match outcome {
        Some(outcome) => problem.outcome(outcome),
        None => problem,
    }
}
