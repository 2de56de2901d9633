//! Errors as clients see them: RFC 9457 problem details.
//!
//! The body also carries `statusCode` and `message`, which clients of API Management rely on.

use std::any::Any;
use std::future::{Ready, ready};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Serialize;

/// The media type of every error.
pub const PROBLEM_JSON: &str = "application/problem+json";

pub use domain::validation::FieldError;

/// What became of a command that was answered with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Nothing was stored: the command may be sent again.
    NothingStored,
    /// It is not known whether the command was stored: send it again with the same
    /// `Idempotency-Key` to learn it.
    Unknown,
    /// The command is in the ledger, and what it causes is not complete yet.
    Recorded,
}

/// An error answer. The texts must never contain what a client sent, nor internals.
#[derive(Clone, Debug)]
pub struct Problem(Box<Parts>);

/// Boxed, so that `Result<_, Problem>` stays small on the path that succeeds.
#[derive(Clone, Debug)]
struct Parts {
    status: StatusCode,
    title: Option<String>,
    detail: String,
    message: Option<String>,
    errors: Vec<FieldError>,
    retry_after: Option<u32>,
    outcome: Option<Outcome>,
    trace: Option<String>,
    headers: HeaderMap,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    status_code: u16,
    message: &'a str,
    #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
    errors: &'a [FieldError],
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<&'a str>,
}

impl Problem {
    /// A problem whose title is the status's usual phrase and whose message is the detail.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            status,
            title: None,
            detail: detail.into(),
            message: None,
            errors: Vec::new(),
            retry_after: None,
            outcome: None,
            trace: None,
            headers: HeaderMap::new(),
        }))
    }

    /// Sets `title`, the short text that is the same for every problem of this kind.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.0.title = Some(title.into());
        self
    }

    /// Sets `message` where existing clients expect another text than the detail.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.0.message = Some(message.into());
        self
    }

    /// Sets `errors`, the wrong fields of the request.
    #[must_use]
    pub fn errors(mut self, errors: Vec<FieldError>) -> Self {
        self.0.errors = errors;
        self
    }

    /// Sets `Retry-After`, in seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// Sets a header of the answer, in place of one of the same name.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// Says what became of the command.
    #[must_use]
    pub fn outcome(mut self, outcome: Outcome) -> Self {
        self.0.outcome = Some(outcome);
        self
    }

    /// Sets `trace`, the id by which the logs know this request. Behind
    /// [`trace_middleware`](crate::trace_context::trace_middleware) that happens by itself.
    #[must_use]
    pub fn trace(mut self, trace_id: impl Into<String>) -> Self {
        self.0.trace = Some(trace_id.into());
        self
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The detail of the answer.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The body.
    pub fn json(&self) -> Vec<u8> {
        let parts = &*self.0;
        let status = parts.status.as_u16();
        let wire = Wire {
            r#type: "about:blank",
            title: parts.title.as_deref().or(parts.status.canonical_reason()).unwrap_or("Error"),
            status,
            detail: &parts.detail,
            status_code: status,
            message: parts.message.as_deref().unwrap_or(&parts.detail),
            errors: &parts.errors,
            outcome: parts.outcome,
            trace: parts.trace.as_deref(),
        };
        serde_json::to_vec(&wire).expect("strings and numbers always serialise")
    }
}

/// Shortcuts for the statuses that services answer with.
impl Problem {
    /// 400.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 401; the answer has a `WWW-Authenticate` header, a generic one unless another is set.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail)
    }

    /// 403.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// 404.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 404 for a path that no route has.
    pub fn route_not_found() -> Self {
        Self::not_found("no such route").message("Resource not found")
    }

    /// 405 with `Allow`, such as `GET, PUT`. With an empty `allow` the header is left to the
    /// router, which knows the methods of the path.
    pub fn method_not_allowed(allow: &str) -> Self {
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
        match HeaderValue::from_str(allow) {
            Ok(value) if !allow.is_empty() => problem.header(ALLOW, value),
            _ => problem,
        }
    }

    /// 409.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    /// 413, naming the limit.
    pub fn payload_too_large(limit_bytes: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is over the limit of {limit_bytes} bytes"),
        )
    }

    /// 415.
    pub fn unsupported_media_type(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
    }

    /// 500 with a fixed text: internals never reach clients.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
    }

    /// 503, to be tried again in a second.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(1)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.json()));
        *response.status_mut() = self.0.status;
        let headers = response.headers_mut();
        *headers = self.0.headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = self.0.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        // RFC 9110 §15.5.2: a 401 says how to authenticate.
        if self.0.status == StatusCode::UNAUTHORIZED && !headers.contains_key(WWW_AUTHENTICATE) {
            let scheme = HeaderValue::from_static(r#"ApiKey realm="vitalog""#);
            headers.insert(WWW_AUTHENTICATE, scheme);
        }
        // The trace middleware finds the problem here and adds the trace id to the body.
        response.extensions_mut().insert(self);
        response
    }
}

/// For `Router::fallback`: the 404 of a path that no route has.
pub fn fallback_404() -> Ready<Problem> {
    ready(Problem::route_not_found())
}

/// For `Router::method_not_allowed_fallback`: the 405 to which the router adds `Allow`.
pub fn fallback_405() -> Ready<Problem> {
    ready(Problem::method_not_allowed(""))
}

/// The 500 of a handler that panicked.
///
/// The payload is dropped unread, because it may hold patient data.
pub fn panic_response(_payload: Box<dyn Any + Send + 'static>) -> Response {
    Problem::internal().into_response()
}
