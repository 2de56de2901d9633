//! The one place where the gateway's refusals and failures become answers.

use std::fmt;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, StatusCode};
use runtime::problem::{Outcome, Problem};

use crate::bulkheads::Compartment;
use crate::oidc::TokenFault;
use crate::subscriptions::Scope;

/// The longest path and query, in bytes: ids and a cursor are far shorter.
pub(crate) const MAX_URI_BYTES: usize = 8 * 1024;

/// The most bytes of header names and values together.
pub(crate) const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Header lines of one request at most; with those that are added they stay under the hundred
/// that the services take.
pub(crate) const MAX_HEADERS: usize = 64;

/// The wording that clients of API Management know (contract, "Statuses").
const MISSING_KEY: &str = "Access denied due to missing subscription key. Make sure to include subscription key when making requests to an API.";

/// Why the gateway itself does not answer with what an upstream said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No key was sent.
    NoKey,
    /// The key is not known, or there are several.
    WrongKey,
    /// The caller made more requests than its rate allows.
    RateExceeded {
        /// Until the next one is allowed, rounded up.
        seconds: u32,
    },
    /// The subscription is suspended.
    Suspended,
    /// The subscription has expired.
    Expired,
    /// The subscription may not be used from where the request came.
    Network,
    /// The subscription has used its quota up.
    QuotaExceeded {
        /// Until the period ends, rounded up.
        seconds: u32,
    },
    /// The subscription lacks a scope.
    NoScope(Scope),
    /// The subscription has no scope at all.
    NoScopes,
    /// Neither a key nor a token was sent, where both are taken.
    NoCredential,
    /// A key and a token were sent.
    TwoCredentials,
    /// The token shows nobody.
    Token(TokenFault),
    /// The token lacks a scope; `None` where any would do.
    TokenScope(Option<Scope>),
    /// The keys by which tokens are checked are not at hand; for a command, nothing was stored.
    NoTokenKeys(Option<Outcome>),
    /// Too many requests from one address showed nobody.
    TooManyUnknown {
        /// Until the next one is told what was wrong with it, rounded up.
        seconds: u32,
    },
    /// The request names no host, several, or something else.
    Host,
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
    /// The same of somebody who came with a token.
    pub(crate) fn of_token(self) -> Self {
        match self {
            Self::NoScope(scope) => Self::TokenScope(Some(scope)),
            Self::NoScopes => Self::TokenScope(None),
            other => other,
        }
    }

    /// Whether what was sent shows nobody: it is answered 401.
    pub(crate) const fn is_of_nobody(self) -> bool {
        matches!(
            self,
            Self::NoKey
                | Self::WrongKey
                | Self::NoCredential
                | Self::TwoCredentials
                | Self::Token(_)
        )
    }

    /// Whether somebody known was kept from what they may not do, which is for the ledger. A rate
    /// or quota that is used up says nothing about what they may do.
    pub(crate) const fn is_denial(self) -> bool {
        matches!(
            self,
            Self::Suspended
                | Self::Expired
                | Self::Network
                | Self::NoScope(_)
                | Self::NoScopes
                | Self::TokenScope(_)
        )
    }

    /// The reason as metrics name it.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::NoKey | Self::NoCredential => "no_key",
            Self::WrongKey => "wrong_key",
            Self::TwoCredentials => "two_credentials",
            Self::Token(_) => "token",
            Self::NoTokenKeys(_) => "no_token_keys",
            Self::RateExceeded { .. } => "rate",
            Self::TooManyUnknown { .. } => "unauthenticated_rate",
            Self::Suspended => "suspended",
            Self::Expired => "expired",
            Self::Network => "network",
            Self::QuotaExceeded { .. } => "quota",
            Self::NoScope(_) | Self::NoScopes | Self::TokenScope(_) => "scope",
            Self::Host => "host",
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
            Refusal::NoKey => Self::unauthorized(MISSING_KEY),
            // RFC 6750, section 3: no error code where no credential was sent.
            Refusal::NoCredential => Self::unauthorized(MISSING_KEY).header(
                WWW_AUTHENTICATE,
                HeaderValue::from_static(r#"Bearer realm="vitalog", ApiKey realm="vitalog""#),
            ),
            Refusal::TwoCredentials => {
                let detail = "there are a subscription key and a bearer token: send one of them";
                Self::unauthorized(detail)
                    .header(WWW_AUTHENTICATE, challenge("invalid_request", detail))
            }
            Refusal::Token(fault) => {
                let detail = fault.to_string();
                let challenge = challenge("invalid_token", &detail);
                Self::unauthorized(detail).header(WWW_AUTHENTICATE, challenge)
            }
            Refusal::TokenScope(scope) => {
                let detail = match scope {
                    Some(scope) => format!("the token does not have the scope {scope}"),
                    None => "the token does not have any scope".to_owned(),
                };
                let challenge = challenge("insufficient_scope", &detail);
                Self::forbidden(detail).header(WWW_AUTHENTICATE, challenge)
            }
            Refusal::NoTokenKeys(outcome) => unavailable(
                "the keys of the token issuer cannot be fetched at the moment, try again; subscription keys work",
                outcome,
            ),
            Refusal::WrongKey => Self::unauthorized(
                "Access denied due to invalid subscription key. Make sure to provide a valid key for an active subscription.",
            ),
            Refusal::RateExceeded { seconds } | Refusal::TooManyUnknown { seconds } => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                format!("Rate limit is exceeded. Try again in {seconds} seconds."),
            )
            .retry_after(seconds),
            Refusal::QuotaExceeded { seconds } => Self::forbidden(format!(
                "Out of call volume quota. Quota will be replenished in {}.",
                Span(seconds)
            ))
            .retry_after(seconds),
            Refusal::Suspended => Self::forbidden("the subscription is suspended"),
            Refusal::Expired => Self::forbidden("the subscription has expired"),
            Refusal::Network => {
                Self::forbidden("the subscription may not be used from this network address")
            }
            Refusal::NoScope(scope) => {
                Self::forbidden(format!("the subscription does not have the scope {scope}"))
            }
            Refusal::NoScopes => Self::forbidden("the subscription does not have any scope"),
            Refusal::Host => Self::bad_request("send one Host header, with a host and a port"),
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

/// What is wrong with a bearer token (RFC 6750, section 3). `description` has no quotes.
fn challenge(error: &str, description: &str) -> HeaderValue {
    let text =
        format!(r#"Bearer realm="vitalog", error="{error}", error_description="{description}""#);
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(r#"Bearer realm="vitalog""#))
}

/// Seconds as API Management shows them: `03:04:05`, or `2.03:04:05` with days.
struct Span(u32);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (minutes, seconds) = (self.0 / 60, self.0 % 60);
        let (hours, minutes) = (minutes / 60, minutes % 60);
        let (days, hours) = (hours / 24, hours % 24);
        if days > 0 {
            write!(f, "{days}.")?;
        }
        write!(f, "{hours:02}:{minutes:02}:{seconds:02}")
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
