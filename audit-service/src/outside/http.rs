//! Requests to servers that are not ours: bounded in time and size, and never shown with their
//! URL, which may carry a token.

use std::time::Duration;

use http::StatusCode;
use reqwest::{RequestBuilder, header::HeaderMap};

/// How long one request may take, with its answer.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

/// A request without a usable answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No answer, or not in time.
    #[error("no answer")]
    Transport(#[source] reqwest::Error),
    /// The answer is longer than what such an answer may have.
    #[error("the answer is longer than {limit} bytes")]
    TooLong {
        /// The limit, in bytes.
        limit: usize,
    },
}

impl HttpError {
    /// Wraps an error of the client without the URL.
    fn transport(error: reqwest::Error) -> Self {
        Self::Transport(error.without_url())
    }
}

/// Sends a request and reads its answer, of at most `limit` bytes.
pub async fn send(request: RequestBuilder, limit: usize) -> Result<Answer, HttpError> {
    let sent = request.timeout(REQUEST_TIMEOUT).send().await;
    let mut response = sent.map_err(HttpError::transport)?;
    let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(HttpError::transport)? {
        if body.len() + chunk.len() > limit {
            return Err(HttpError::TooLong { limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, headers, body })
}
