//! What happens on a connection, and how long it may go on.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Version};
use hyper::body::{Frame, SizeHint};
use tokio::time::Instant;

use super::limits::Limits;

/// How long a connection may be idle while others wait for a place.
const IDLE_UNDER_PRESSURE: Duration = Duration::from_secs(1);

/// What a connection is doing, noted by its stream and its requests.
pub(super) struct Activity {
    state: Mutex<State>,
    /// Whether answers say that they are the last.
    last_answers: AtomicBool,
}

struct State {
    opened: Instant,
    /// Of the requests so far.
    version: Option<Version>,
    in_flight: Vec<Request>,
    next_id: u64,
    /// When the last request ended.
    ended: Instant,
    /// When the peer last took a byte.
    wrote: Instant,
    /// When the first byte came that belongs to no request yet.
    head_since: Option<Instant>,
    closing_since: Option<Instant>,
}

struct Request {
    id: u64,
    /// Since when it is being answered.
    answered_since: Option<Instant>,
    /// Since when the connection does not ask for more of the answer: the peer takes nothing.
    stalled_since: Option<Instant>,
}

/// What to do with a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing before then.
    Wait(Instant),
    /// Close it in the protocol's own way.
    Close,
    /// Drop it, for this reason.
    Cut(&'static str),
}

/// What bears on a verdict from outside of the connection.
#[derive(Clone, Copy)]
pub(super) struct Surroundings {
    /// Since when the server drains.
    pub(super) draining_since: Option<Instant>,
    /// Whether others wait for a place.
    pub(super) crowded: bool,
}

impl Activity {
    pub(super) fn new(now: Instant) -> Self {
        let state = State {
            opened: now,
            version: None,
            in_flight: Vec::new(),
            next_id: 0,
            ended: now,
            wrote: now,
            head_since: None,
            closing_since: None,
        };
        Self { state: Mutex::new(state), last_answers: AtomicBool::new(false) }
    }

    pub(super) fn read(&self) {
        let mut state = self.state();
        if state.in_flight.is_empty() && state.head_since.is_none() {
            state.head_since = Some(Instant::now());
        }
    }

    pub(super) fn wrote(&self) {
        self.state().wrote = Instant::now();
    }

    /// From now on an HTTP/1.1 answer is the last of its connection and says so.
    pub(super) fn make_answers_last(&self) {
        self.last_answers.store(true, Ordering::Release);
    }

    /// The connection was asked to close.
    pub(super) fn closing(&self, now: Instant) {
        self.state().closing_since.get_or_insert(now);
    }

    pub(super) fn begin(self: &Arc<Self>, version: Version) -> InFlight {
        let mut state = self.state();
        let id = state.next_id;
        state.next_id += 1;
        state.version = Some(version);
        state.head_since = None;
        state.in_flight.push(Request { id, answered_since: None, stalled_since: None });
        drop(state);
        InFlight { activity: Arc::clone(self), id }
    }

    pub(super) fn verdict(
        &self,
        now: Instant,
        limits: &Limits,
        surroundings: Surroundings,
    ) -> Verdict {
        let state = self.state();
        let (deadline, then) = state.deadline(limits, surroundings);
        drop(state);
        if now < deadline { Verdict::Wait(deadline) } else { then }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn deadline(&self, limits: &Limits, surroundings: Surroundings) -> (Instant, Verdict) {
        if !self.in_flight.is_empty() {
            if surroundings.draining_since.is_some()
                && self.is_http2()
                && self.closing_since.is_none()
            {
                return (self.opened, Verdict::Close);
            }
            return self.answers_deadline(limits);
        }
        if let Some(since) = self.closing_since {
            let since = since.max(self.ended);
            return (since + limits.write_timeout, Verdict::Cut("the peer does not close"));
        }
        // HTTP/2 has frames that belong to no request.
        if let Some(since) = self.head_since.filter(|_| !self.is_http2()) {
            // Before the first request the handshake counts, too.
            let since = if self.version.is_none() { self.opened } else { since };
            return (since + limits.header_read_timeout, Verdict::Cut("a head took too long"));
        }
        if let Some(since) = surroundings.draining_since {
            if self.is_http2() {
                return (since, Verdict::Close);
            }
            return (since.max(self.ended) + limits.drain_idle, Verdict::Close);
        }
        if self.version.is_none() {
            let until = self.opened + limits.header_read_timeout;
            return (until, Verdict::Cut("no request came"));
        }
        (self.idle_deadline(limits, surroundings), Verdict::Close)
    }

    fn answers_deadline(&self, limits: &Limits) -> (Instant, Verdict) {
        let of = |request: &Request| {
            let whole = request.answered_since.map(|since| since + limits.answer_timeout);
            let stall = request.stalled_since.map(|since| since + limits.write_timeout);
            whole.into_iter().chain(stall).min()
        };
        // What handlers take is their own matter; they are looked at again.
        let far = Instant::now() + limits.answer_timeout;
        let deadline = self.in_flight.iter().filter_map(of).min().unwrap_or(far);
        (deadline, Verdict::Cut("the peer does not take its answer"))
    }

    fn idle_deadline(&self, limits: &Limits, surroundings: Surroundings) -> Instant {
        let idle = if surroundings.crowded {
            limits.idle_timeout.min(IDLE_UNDER_PRESSURE)
        } else {
            limits.idle_timeout
        };
        if self.is_http2() {
            return self.ended + idle;
        }
        // The last answer may still be on its way to a slow peer.
        (self.ended.max(self.wrote) + idle).min(self.ended + limits.answer_timeout + idle)
    }

    fn is_http2(&self) -> bool {
        self.version == Some(Version::HTTP_2)
    }
}

/// A request from its head to the end of its answer.
pub(super) struct InFlight {
    activity: Arc<Activity>,
    id: u64,
}

impl InFlight {
    /// The answer on its way.
    pub(super) fn answer(self, response: Response) -> http::Response<Answer> {
        let now = Instant::now();
        self.update(|request| {
            request.answered_since = Some(now);
            request.stalled_since = Some(now);
        });
        let last = self.activity.last_answers.load(Ordering::Acquire);
        let http2 = self.activity.state().is_http2();
        let mut response = response.map(|body| Answer { body, in_flight: self });
        if last && !http2 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn update(&self, change: impl FnOnce(&mut Request)) {
        let mut state = self.activity.state();
        if let Some(request) = state.in_flight.iter_mut().find(|request| request.id == self.id) {
            change(request);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.in_flight.retain(|request| request.id != self.id);
        state.ended = Instant::now();
    }
}

/// The body of an answer, which notes when the connection asks for more of it.
pub(super) struct Answer {
    body: Body,
    in_flight: InFlight,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        // While the handler has nothing to give, the peer is not to blame.
        let stalled_since = polled.is_ready().then(Instant::now);
        self.in_flight.update(|request| request.stalled_since = stalled_since);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
