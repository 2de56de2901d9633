//! Reading the body of a request.

use axum::body::Body;
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as _;
use tokio::time::timeout;

use super::limits::BODY_READ_TIMEOUT;
use crate::problem::Problem;

/// The largest request body that a service reads, in bytes.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Reads a whole body.
///
/// # Errors
/// The problem to answer with: 413 naming the limit when the body is longer than `limit` bytes,
/// 408 when it takes longer than [`BODY_READ_TIMEOUT`], 400 when it breaks off.
pub async fn read_body(body: Body, limit: usize) -> Result<Bytes, Problem> {
    let announced = body.size_hint().lower();
    if usize::try_from(announced).map_or(true, |length| length > limit) {
        return Err(Problem::payload_too_large(limit));
    }
    match timeout(BODY_READ_TIMEOUT, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => {
            Err(Problem::payload_too_large(limit))
        }
        Ok(Err(_)) => Err(Problem::bad_request("the body broke off")),
        Err(_) => {
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body took too long to arrive"))
        }
    }
}
