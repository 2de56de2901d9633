//! Bodies of requests and answers.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use runtime::problem::Problem;
use runtime::serve::{BODY_READ_TIMEOUT, MAX_BODY_BYTES};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::connections::Answered;

/// How much of a body that nobody wants is still read, in bytes.
pub(crate) const DISCARD_BYTES: usize = 4 * MAX_BODY_BYTES;

/// The same of somebody who is not known: a stranger's noise should cost little.
pub(crate) const DISCARD_OF_STRANGERS_BYTES: usize = 64 * 1024;

/// How long reading it may take.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads a whole body of at most [`MAX_BODY_BYTES`]. Unlike `runtime::serve::read_body` it leaves
/// what is over the limit to [`discard`].
pub(crate) async fn read(body: &mut Body) -> Result<Bytes, Problem> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > MAX_BODY_BYTES {
        return Err(Problem::payload_too_large(MAX_BODY_BYTES));
    }
    match timeout(BODY_READ_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => {
            Err(Problem::payload_too_large(MAX_BODY_BYTES))
        }
        Ok(Err(_)) => Err(Problem::bad_request("the body broke off")),
        Err(_) => {
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body took too long to arrive"))
        }
    }
}

/// Reads and forgets the rest of a body, if it has at most so many bytes; whether it came to its
/// end. Where it did not, the answer is the last of its connection.
///
/// A connection that is closed while the peer still sends is reset, and a reset can take the answer
/// away before the peer has read it: it would see a broken connection in place of a 401 or 413. The
/// listener goes on reading for a moment after the last answer, which is enough for most; what is
/// read here is for slow peers, and keeps the connection.
pub(crate) async fn discard(body: &mut Body, bytes: usize) -> bool {
    if body.is_end_stream() {
        return true;
    }
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > bytes {
        return false;
    }
    let reading = async {
        let mut left = bytes;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            let length = frame.data_ref().map_or(0, Bytes::len);
            let Some(less) = left.checked_sub(length) else { return false };
            left = less;
        }
        true
    };
    timeout(DISCARD_TIMEOUT, reading).await.unwrap_or(false)
}

/// An upstream stopped in the middle of an answer.
#[derive(Debug, thiserror::Error)]
#[error("the service stopped in the middle of its answer")]
struct Stalled;

/// How long an upstream is waited for within the body of its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Between two parts.
    pub(crate) silence: Duration,
    /// All waits together, so that one that trickles comes to an end.
    pub(crate) total: Duration,
}

/// The body of an upstream's answer on its way to the client. It counts as in flight until its end,
/// and breaks off when the upstream lets wait for too long; how slowly the client reads is another
/// matter, so time only runs while the upstream is waited for.
pub(crate) struct Answer {
    body: Answered,
    /// What is left of it.
    patience: Patience,
    /// Made at the first wait: most answers are there at once.
    silence: Option<Pin<Box<Sleep>>>,
    waiting_since: Option<Instant>,
    _in_flight: OwnedSemaphorePermit,
}

impl Answer {
    pub(crate) fn new(body: Answered, patience: Patience, in_flight: OwnedSemaphorePermit) -> Self {
        Self { body, patience, silence: None, waiting_since: None, _in_flight: in_flight }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            if let Some(since) = this.waiting_since.take() {
                this.patience.total = this.patience.total.saturating_sub(since.elapsed());
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let patience = this.patience.silence.min(this.patience.total);
        let silence = this.silence.get_or_insert_with(|| Box::pin(sleep(patience)));
        if this.waiting_since.is_none() {
            let now = Instant::now();
            this.waiting_since = Some(now);
            silence.as_mut().reset(now + patience);
        }
        silence.as_mut().poll(context).map(|()| Some(Err(Stalled.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}
