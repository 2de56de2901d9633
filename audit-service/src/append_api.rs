//! Appending over HTTP, one record or many.

use std::time::Duration;

use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    http::{StatusCode, header::HeaderName},
    response::{IntoResponse, Response},
};
use domain::{
    ids::Name,
    wire::{
        AppendRequest, AppendResponse, AppendResult, MAX_APPEND_BYTES, MAX_APPEND_ITEMS, Proposal,
        Stored,
    },
};
use runtime::{
    problem::{Outcome, Problem},
    serve::read_body,
    service_keys::Caller,
};

use crate::{
    admit::admit,
    queue::{Admitted, Queue},
    roles::Role,
    routes::AppState,
};

/// How long a caller waits for its records to become durable.
pub const APPEND_DEADLINE: Duration = Duration::from_secs(5);

/// Header of answers that caused a record: `seq=<n>, hash="<hex>"`.
pub const RECEIPT_HEADER: HeaderName = HeaderName::from_static("audit-receipt");

/// `POST /records`: one [`Proposal`]; 201 with its [`domain::wire::Receipt`].
pub async fn one(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Response, Problem> {
    let body = read_body(body, MAX_APPEND_BYTES).await?;
    let proposal: Proposal = serde_json::from_slice(&body).map_err(|error| malformed(&error))?;
    let source = source(&caller)?;
    let role = Role::of(caller.name());
    if !role.may_append(proposal.record_type) {
        return Err(Problem::forbidden("this caller may not append records of this type"));
    }
    let admitted = admit(proposal, role, state.ledger.origin(), &source)
        .map_err(|reason| to_problem(state.ledger.queue.refused(reason)))?;
    let mut results = state.ledger.queue.submit(vec![admitted], APPEND_DEADLINE).await;
    match results.pop() {
        Some(AppendResult::Appended(receipt)) => {
            Ok((StatusCode::CREATED, [(RECEIPT_HEADER, receipt.header_value())], Json(receipt))
                .into_response())
        }
        Some(other) => Err(to_problem(other)),
        None => Err(Problem::internal()),
    }
}

/// `POST /records/batch`: an [`AppendRequest`]; 200 with one result a proposal, each decided
/// on its own.
pub async fn many(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Json<AppendResponse>, Problem> {
    let body = read_body(body, MAX_APPEND_BYTES).await?;
    let AppendRequest { items } =
        serde_json::from_slice(&body).map_err(|error| malformed(&error))?;
    if items.is_empty() || items.len() > MAX_APPEND_ITEMS {
        let detail = format!("an append takes 1 to {MAX_APPEND_ITEMS} items");
        return Err(Problem::bad_request(detail));
    }
    let source = source(&caller)?;
    let role = Role::of(caller.name());
    let origin = state.ledger.origin();
    let admitted = items.into_iter().map(|item| admit(item, role, origin, &source)).collect();
    Ok(Json(AppendResponse { results: submit(&state.ledger.queue, admitted).await }))
}

/// Submits what was admitted and puts the refusals of the rest in their places.
async fn submit(queue: &Queue, admitted: Vec<Result<Admitted, String>>) -> Vec<AppendResult> {
    let mut refused = Vec::with_capacity(admitted.len());
    let mut good = Vec::with_capacity(admitted.len());
    for item in admitted {
        match item {
            Ok(item) => {
                good.push(item);
                refused.push(None);
            }
            Err(reason) => refused.push(Some(queue.refused(reason))),
        }
    }
    if good.is_empty() {
        return refused.into_iter().flatten().collect();
    }
    let mut results = queue.submit(good, APPEND_DEADLINE).await.into_iter();
    let missing = || AppendResult::Unavailable { stored: Stored::Unknown };
    refused
        .into_iter()
        .map(|refusal| refusal.or_else(|| results.next()).unwrap_or_else(missing))
        .collect()
}

/// The one mapping from append results to problems.
pub fn to_problem(result: AppendResult) -> Problem {
    match result {
        AppendResult::Appended(_) => Problem::internal(),
        AppendResult::Conflict { stream, expected, actual } => {
            Problem::conflict(format!("{stream} is at version {actual}, not {expected}"))
        }
        AppendResult::CommandReused => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "the command id was used before with another body",
        ),
        AppendResult::Refused { reason } => Problem::bad_request(reason),
        AppendResult::Unavailable { stored: Stored::NothingStored } => {
            Problem::unavailable("the ledger cannot take the record now; nothing was stored")
                .outcome(Outcome::NothingStored)
        }
        AppendResult::Unavailable { stored: Stored::Unknown } => {
            Problem::unavailable("the record was not acknowledged in time; it may be stored")
                .outcome(Outcome::Unknown)
        }
    }
}

/// The caller's name as it stands in records.
pub fn source(caller: &Caller) -> Result<Name, Problem> {
    caller.name().parse().map_err(|_| Problem::internal())
}

fn malformed(error: &serde_json::Error) -> Problem {
    // The error's own text could repeat content; its position cannot.
    Problem::bad_request(format!(
        "the body is not an append of this version (line {}, column {})",
        error.line(),
        error.column()
    ))
}
