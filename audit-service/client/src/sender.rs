//! The sending task: takes what waits and sends it as one request, without a timer.

use std::sync::Arc;

use domain::wire::{
    AppendRequest, AppendResponse, AppendResult, MAX_APPEND_BYTES, MAX_APPEND_ITEMS, Proposal,
    Receipt, Stored,
};
use reqwest::{Method, StatusCode};
use runtime::spans::Call;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::Instant,
};

use crate::{
    calls::{self, Appending, Service},
    error::AppendError,
};

/// Requests under way at once. While one waits for its block to become durable, the next
/// stands ready at the audit service for the following block; more would only thin them out.
const REQUESTS_IN_FLIGHT: usize = 2;

/// Bytes of a proposal's JSON without its variable parts, generously.
const FIXED_BYTES: usize = 1_024;

/// An append on its way.
pub(crate) struct Append {
    proposal: Proposal,
    appending: Appending,
    deadline: Instant,
    answer: oneshot::Sender<Result<Receipt, AppendError>>,
}

impl Append {
    pub(crate) fn new(
        proposal: Proposal,
        appending: Appending,
        deadline: Instant,
    ) -> (Self, oneshot::Receiver<Result<Receipt, AppendError>>) {
        let (answer, receiver) = oneshot::channel();
        (Self { proposal, appending, deadline, answer }, receiver)
    }

    fn bytes(&self) -> usize {
        const BYTES_PER_SUBJECT: usize = 39;
        let data = self.proposal.data.as_ref().map_or(0, String::len);
        let roles: usize =
            self.proposal.actor.roles.iter().map(|role| role.as_str().len() + "\"\",".len()).sum();
        FIXED_BYTES + data + roles + self.proposal.subjects.len() * BYTES_PER_SUBJECT
    }

    /// Whether somebody still waits for the answer. It was never sent where nobody does.
    fn is_waited_for(&self) -> bool {
        !self.answer.is_closed()
    }
}

/// Runs until every handle is gone.
pub(crate) async fn run(service: Arc<Service>, mut appends: mpsc::Receiver<Append>) {
    let in_flight = Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT));
    while let Some(first) = appends.recv().await {
        let Ok(permit) = in_flight.clone().acquire_owned().await else { return };
        let batch = take_waiting(first, &mut appends);
        if batch.is_empty() {
            continue;
        }
        let service = service.clone();
        tokio::spawn(async move {
            send(&service, batch).await;
            drop(permit);
        });
    }
}

fn take_waiting(first: Append, appends: &mut mpsc::Receiver<Append>) -> Vec<Append> {
    // One more item of the largest size must still fit.
    const FULL: usize = MAX_APPEND_BYTES - 128 * 1024;
    let mut bytes = 0;
    let mut batch = Vec::new();
    let mut next = Some(first);
    while let Some(append) = next {
        if append.is_waited_for() {
            bytes += append.bytes();
            batch.push(append);
        }
        let full = batch.len() >= MAX_APPEND_ITEMS || bytes >= FULL;
        next = if full { None } else { appends.try_recv().ok() };
    }
    batch
}

async fn send(service: &Service, batch: Vec<Append>) {
    const ROUTE: &str = "/records/batch";
    let call = Appending::call(batch.iter().map(|append| &append.appending), "POST", ROUTE);
    let deadline = batch.iter().map(|append| append.deadline).max().unwrap_or_else(Instant::now);
    let (items, answers): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|append| (append.proposal, append.answer)).unzip();
    let expected = items.len();
    let request = service
        .request(Method::POST, ROUTE)
        .timeout(deadline.saturating_duration_since(Instant::now()))
        .json(&AppendRequest { items });
    match exchange(request, call, expected).await {
        Ok(results) => {
            for (answer, result) in answers.into_iter().zip(results) {
                // A caller that has gone needs no answer.
                let _ = answer.send(outcome(result));
            }
        }
        Err(stored) => {
            for answer in answers {
                let _ = answer.send(Err(AppendError::Unavailable(stored)));
            }
        }
    }
}

async fn exchange(
    request: reqwest::RequestBuilder,
    call: Call,
    expected: usize,
) -> Result<Vec<AppendResult>, Stored> {
    let response = calls::send(request, call).await.map_err(|error| {
        let connected = !error.is_connect();
        let error = error.without_url();
        tracing::warn!(%error, connected, "the audit service could not be reached");
        if connected { Stored::Unknown } else { Stored::NothingStored }
    })?;
    match response.status() {
        StatusCode::OK => {
            let answer: AppendResponse = response.json().await.map_err(|_| Stored::Unknown)?;
            if answer.results.len() == expected { Ok(answer.results) } else { Err(Stored::Unknown) }
        }
        status @ (StatusCode::UNAUTHORIZED
        | StatusCode::FORBIDDEN
        | StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE) => {
            tracing::error!(status = status.as_u16(), "the audit service refused a request");
            Err(Stored::NothingStored)
        }
        status => {
            tracing::warn!(status = status.as_u16(), "the audit service failed a request");
            Err(stored(response).await)
        }
    }
}

/// What a failed request left behind, if its problem says so. One that is starting or stopping
/// has stored nothing.
async fn stored(response: reqwest::Response) -> Stored {
    #[derive(serde::Deserialize)]
    struct Problem {
        outcome: Stored,
    }
    let problem = response.json::<Problem>().await;
    problem.map_or(Stored::Unknown, |problem| problem.outcome)
}

fn outcome(result: AppendResult) -> Result<Receipt, AppendError> {
    match result {
        AppendResult::Appended(receipt) => Ok(receipt),
        AppendResult::Conflict { stream, expected, actual } => {
            Err(AppendError::Conflict { stream, expected, actual })
        }
        AppendResult::CommandReused => Err(AppendError::CommandReused),
        AppendResult::Refused { reason } => Err(AppendError::Refused(reason)),
        AppendResult::Unavailable { stored } => Err(AppendError::Unavailable(stored)),
    }
}
