//! What a client sent: ids in the path, the headers of a command, and the body.

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, RawPathParams, Request},
};
use bytes::Bytes;
use domain::ids::{PatientId, TestId};
use http::{
    HeaderMap,
    header::{CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH},
    request::Parts,
};
use runtime::{
    problem::Problem,
    serve::{MAX_BODY_BYTES, read_body},
};

use crate::{
    command_id::IdempotencyKey,
    conditions::Condition,
    error::{Failure, Missing},
};

/// The ids in a path, as far as they are UUIDs.
pub(crate) struct Ids {
    patient: Option<PatientId>,
    test: Option<TestId>,
}

impl Ids {
    /// The patient; a path that names none has nothing to show.
    pub(crate) fn patient(&self) -> Result<PatientId, Failure> {
        self.patient.ok_or(Failure::NotFound(Missing::Patient, None))
    }

    /// The patient of a new test; there a wrong id is the client's mistake (contract,
    /// "Statuses").
    pub(crate) fn patient_of_new_test(&self) -> Result<PatientId, Failure> {
        self.patient.ok_or(Failure::PatientIdInPath)
    }

    /// The test.
    pub(crate) fn test(&self) -> Result<TestId, Failure> {
        self.test.ok_or(Failure::NotFound(Missing::Test, None))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Ids {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let mut ids = Self { patient: None, test: None };
        // A segment that is no UTF-8 is no UUID either.
        if let Ok(params) = RawPathParams::from_request_parts(parts, state).await {
            for (name, value) in &params {
                match name {
                    "id" => ids.patient = value.parse().ok(),
                    "testId" => ids.test = value.parse().ok(),
                    _ => {}
                }
            }
        }
        Ok(ids)
    }
}

/// The condition of a read.
pub(crate) struct IfNoneMatch(pub(crate) Option<Condition>);

impl<S: Sync> FromRequestParts<S> for IfNoneMatch {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Condition::from_headers(&parts.headers, &IF_NONE_MATCH).map(Self)
    }
}

/// A command as it was sent, nothing of its body looked at.
pub(crate) struct Sent {
    /// The client's own name for the command.
    pub(crate) key: Option<IdempotencyKey>,
    /// The revisions that the client insists on.
    pub(crate) if_match: Option<Condition>,
    /// The body.
    pub(crate) body: Bytes,
}

impl<S: Sync> FromRequest<S> for Sent {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let key = IdempotencyKey::from_headers(request.headers())?;
        let if_match = Condition::from_headers(request.headers(), &IF_MATCH)?;
        let body = body(request).await?;
        Ok(Self { key, if_match, body })
    }
}

/// A body alone.
pub(crate) struct SentBody(pub(crate) Bytes);

impl<S: Sync> FromRequest<S> for SentBody {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        body(request).await.map(Self)
    }
}

async fn body(request: Request) -> Result<Bytes, Failure> {
    if is_refused(request.headers()) {
        return Err(Failure::Body(Problem::unsupported_media_type(
            "send the content as JSON; multipart and application/octet-stream are not read",
        )));
    }
    let body: Body = request.into_body();
    read_body(body, MAX_BODY_BYTES).await.map_err(Failure::Body)
}

/// Bodies are JSON whatever they are called, but for the two that existing clients know to be
/// refused (contract, "Requests").
fn is_refused(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_TYPE).iter().any(|value| {
        let essence = value.as_bytes().split(|b| *b == b';').next().unwrap_or_default();
        let essence = essence.trim_ascii().to_ascii_lowercase();
        essence.starts_with(b"multipart/") || essence == b"application/octet-stream"
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_multipart_and_octet_streams_are_refused() {
        #[track_caller]
        fn check(content_type: &str, refused: bool) {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())]);
            assert_eq!(is_refused(&headers), refused, "{content_type}");
        }
        check("application/json", false);
        check("text/plain; charset=utf-8", false);
        check("", false);
        check("Multipart/Form-Data; boundary=x", true);
        check(" application/octet-stream ; x=y", true);
        assert!(!is_refused(&HeaderMap::new()));
    }
}
