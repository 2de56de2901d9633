//! A request to a service and its answer's head, with the one retry that it may have.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use runtime::problem::Outcome;
use runtime::spans::Call;
use runtime::trace_context::{TRACEPARENT, method_name};
use tokio::time::timeout_at;
use tower::retry::budget::Budget;

use crate::breaker::Failed;
use crate::connections::Answered;
use crate::upstream::Upstream;

/// Before another try. A service that restarts breaks connections first and takes none then, but is
/// soon there again.
const PAUSE: Duration = Duration::from_millis(250);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The breaker is open.
    Open,
    /// There was no connection.
    Connecting,
    /// The connection broke before the head of the answer was there.
    Broken,
    /// The head of the answer was not there in time.
    Late,
}

impl Failure {
    /// Each of them.
    pub(crate) const ALL: [Self; 4] = [Self::Open, Self::Connecting, Self::Broken, Self::Late];

    /// For the log.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Open => "it was not reached lately",
            Self::Connecting => "it cannot be connected to",
            Self::Broken => "the connection to it broke",
            Self::Late => "it does not answer in time",
        }
    }

    /// For metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Open => "breaker_open",
            Self::Connecting => "connecting",
            Self::Broken => "broken",
            Self::Late => "late",
        }
    }

    /// What became of a command.
    pub(crate) const fn outcome(self) -> Outcome {
        match self {
            Self::Open | Self::Connecting => Outcome::NothingStored,
            Self::Broken | Self::Late => Outcome::Unknown,
        }
    }
}

/// When a request may be sent a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// Not at all.
    Never,
    /// Where nothing of it was sent.
    IfNotSent,
    /// Where nothing of an answer came.
    IfNotAnswered,
}

impl Retry {
    fn allows(self, failure: Failure) -> bool {
        match self {
            Self::Never => false,
            Self::IfNotSent => failure == Failure::Connecting,
            Self::IfNotAnswered => matches!(failure, Failure::Connecting | Failure::Broken),
        }
    }
}

impl Upstream {
    /// Sends what `request` makes and waits for the head of the answer, all tries together no
    /// longer than `patience`. `route` is the template of what is asked for.
    pub(crate) async fn exchange(
        &self,
        route: &'static str,
        request: impl Fn() -> Request<Full<Bytes>>,
        patience: Duration,
        retry: Retry,
    ) -> Result<Response<Answered>, Failure> {
        let deadline = tokio::time::Instant::now() + patience;
        self.retry_budget().deposit();
        let first = self.attempt(route, request(), deadline).await;
        let Err(failure) = first else { return first };
        if !retry.allows(failure) || !self.retry_budget().withdraw() {
            return first;
        }
        self.metrics().retried(self.name());
        tokio::time::sleep(PAUSE).await;
        self.attempt(route, request(), deadline).await
    }

    async fn attempt(
        &self,
        route: &'static str,
        mut request: Request<Full<Bytes>>,
        deadline: tokio::time::Instant,
    ) -> Result<Response<Answered>, Failure> {
        if self.breaker().is_open() {
            self.metrics().upstream_failed(self.name(), Failure::Open.label());
            return Err(Failure::Open);
        }
        let call = Call::start(self.name(), method_name(request.method()), route);
        if let Some(place) = call.traceparent() {
            request.headers_mut().insert(TRACEPARENT, place);
        }
        let failure = match timeout_at(deadline, self.connections().send(request)).await {
            Ok(Ok(response)) => {
                let change = self.breaker().answered();
                self.note(change);
                call.answered(response.status());
                return Ok(response);
            }
            Ok(Err(failure)) => failure,
            Err(_) => Failure::Late,
        };
        call.failed(failure.label());
        let how = if failure == Failure::Connecting { Failed::Connecting } else { Failed::Waiting };
        let change = self.breaker().failed(how, Instant::now());
        self.note(change);
        self.metrics().upstream_failed(self.name(), failure.label());
        Err(failure)
    }
}
