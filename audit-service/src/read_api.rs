//! Reading the ledger over HTTP: lines as they are stored.

use std::time::Duration;

use axum::{
    Extension,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use domain::{
    actor::{Actor, Purpose},
    ids::{Mac, Stream, TraceId},
    record::Record,
    wire::Receipt,
};
use runtime::{headers, problem::Problem, service_keys::Caller, trace_context::TraceContext};

use crate::{
    append_api::{RECEIPT_HEADER, source},
    ledger_reads::Read,
    lines::{Lines, LinesQuery, ndjson, number},
    roles::{Readable, Role},
    routes::AppState,
    store::StoreError,
};

/// Blocks read at once.
const PAGE_BLOCKS: usize = 64;

/// How long a record of another process may take until it is verified here; it takes a fraction
/// of a second.
const MAX_VERIFY: Duration = Duration::from_secs(5);

/// `GET /records?from=&limit=&wait=`: NDJSON lines from a seq on.
pub async fn records(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Extension(trace): Extension<TraceContext>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = LinesQuery::parse(query.as_deref(), &["from", "limit", "wait"])?;
    // Seen before the read is recorded: what comes while that waits must wake this reader too.
    let seen = *state.ledger.head.borrow();
    let receipt = permit_read(&state, &caller, Readable::Lines, trace, &headers).await?;
    if query.from >= seen.size && !query.wait.is_zero() {
        wait_for(&state, query.from, seen.wakes, query.wait).await;
    }
    let size = state.ledger.head.borrow().size;
    let mut answer = Lines::new(query.limit);
    let mut from = query.from;
    while from < size && !answer.is_full() {
        let blocks = state.ledger.store.blocks_from(from, PAGE_BLOCKS).await;
        let blocks = blocks.map_err(|error| store_problem(&error))?;
        let before = from;
        for block in &blocks {
            // Blocks beyond the verified head are not served.
            if block.first > from || block.end() > size {
                break;
            }
            from = answer.add(block, from);
        }
        if from == before {
            // What was read so far is served; without anything, a reader would ask for ever.
            if from == query.from {
                return Err(missing(from));
            }
            break;
        }
    }
    Ok(with_receipt(receipt, answer.into_response(from < size)))
}

/// `GET /records/{seq}`: one line.
pub async fn record(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Extension(trace): Extension<TraceContext>,
    headers: HeaderMap,
    Path(seq): Path<String>,
) -> Result<Response, Problem> {
    let seq = number("seq", &seq)?;
    let receipt = permit_read(&state, &caller, Readable::Line, trace, &headers).await?;
    let head = state.ledger.head.borrow().size;
    if seq >= head {
        // Its receipt may be a moment old and of another process.
        if find_line(&state, seq).await?.is_none() {
            let problem = Problem::not_found("no such record").into_response();
            return Ok(with_receipt(receipt, problem));
        }
        verified(&state, seq).await?;
    }
    Ok(with_receipt(receipt, ndjson(format!("{}\n", stored_line(&state, seq).await?))))
}

/// `GET /streams/{stream}/records?from=&limit=`: the lines of one stream's events.
pub async fn stream(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let stream = path.strip_suffix("/records").ok_or_else(Problem::route_not_found)?;
    let stream: Option<Stream> = stream.parse().ok();
    may_read(
        &caller,
        match stream {
            Some(Stream::LedgerKeys | Stream::GatewaySubscriptions) => Readable::OtherStream,
            // Who may read none learns nothing of what is a stream.
            Some(Stream::Patient(_)) | None => Readable::PatientStream,
        },
    )?;
    let stream = stream.ok_or_else(|| Problem::not_found("no such stream"))?;
    let query = LinesQuery::parse(query.as_deref(), &["from", "limit"])?;
    let lines = state.ledger.store.stream_lines(stream, query.from, query.limit + 1).await;
    let lines = lines.map_err(|error| store_problem(&error))?;
    if let Some(last) = lines.last() {
        verified(&state, seq_of(last)?).await?;
    }
    let mut answer = Lines::new(query.limit);
    let taken = lines.iter().take_while(|line| answer.push(line)).count();
    Ok(answer.into_response(taken < lines.len()))
}

/// `GET /commands/{id}`: the line of the record that a command caused.
pub async fn command(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    may_read(&caller, Readable::Command)?;
    let id: Mac = id.parse().map_err(|_| Problem::not_found("no such command"))?;
    let found = state.ledger.store.find_commands(&[id]).await;
    let found = found.map_err(|error| store_problem(&error))?;
    let Some(seq) = found.get(&id).copied() else {
        return Err(Problem::not_found("no such command"));
    };
    verified(&state, seq).await?;
    let line = stored_line(&state, seq).await?;
    if Record::parse(&line).ok().and_then(|record| record.command).is_none_or(|c| c.id != id) {
        return Err(missing(seq));
    }
    Ok(ndjson(format!("{line}\n")))
}

/// `GET /checkpoint?witnessed=`: the signed checkpoint of the head, or the newest that every
/// witness cosigned (else the one that most did). Not recorded.
pub async fn checkpoint(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    may_read(&caller, Readable::Head)?;
    if witnessed(query.as_deref())? {
        // It was remembered before it was shown to the first witness.
        let note = state.ledger.witnessed_checkpoint();
        let note = note.ok_or_else(|| Problem::not_found("no witness has cosigned yet"))?;
        return Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], note).into_response());
    }
    let note = state.ledger.checkpoint().await.map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "no checkpoint was given out");
        Problem::unavailable("a checkpoint cannot be remembered now, so none is given out")
    })?;
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], note).into_response())
}

fn witnessed(query: Option<&str>) -> Result<bool, Problem> {
    match query.unwrap_or_default() {
        "" | "witnessed=false" => Ok(false),
        "witnessed=true" => Ok(true),
        _ => Err(Problem::bad_request("the query takes witnessed=true or witnessed=false only")),
    }
}

/// `GET /key`: the verifier key (C2SP vkey) of the newest checkpoints. Not recorded.
pub async fn key(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Problem> {
    may_read(&caller, Readable::Head)?;
    let key = format!("{}\n", state.ledger.keys().newest());
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], key).into_response())
}

/// `GET /keys`: the ledger's key history, oldest first: one line a key with the smallest size of
/// a checkpoint that it signs, a space, and the verifier key. Not recorded.
pub async fn keys(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Problem> {
    may_read(&caller, Readable::Keys)?;
    let keys = state.ledger.keys().to_string();
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], keys).into_response())
}

/// Waits until a waiting reader should look, or the time is over, or the process goes down.
async fn wait_for(state: &AppState, from: u64, wakes: u64, wait: Duration) {
    let mut head = state.ledger.head.clone();
    let grown = head.wait_for(|head| head.wakes != wakes && head.size > from);
    tokio::select! {
        _ = tokio::time::timeout(wait, grown) => {}
        () = state.shutdown.cancelled() => {}
    }
}

/// A client's read, which comes through the gateway, is recorded; the services' own are not.
pub(crate) async fn permit_read(
    state: &AppState,
    caller: &Caller,
    what: Readable,
    trace: TraceContext,
    headers: &HeaderMap,
) -> Result<Option<Receipt>, Problem> {
    may_read(caller, what)?;
    if Role::of(caller.name()) != Role::Gateway {
        return Ok(None);
    }
    let actor: Actor = headers::decode_actor(headers)
        .map_err(|_| Problem::bad_request("the caller's identity is missing"))?;
    let purpose = match headers.get("purpose-of-use").map(|value| value.to_str()) {
        None => Purpose::Compliance,
        Some(Ok(text)) => text.parse().map_err(|error: domain::actor::UnknownPurpose| {
            Problem::bad_request(format!("Purpose-Of-Use {error}"))
        })?,
        Some(Err(_)) => return Err(Problem::bad_request("Purpose-Of-Use is not text")),
    };
    let read = Read {
        actor,
        client: headers::decode_client(headers).ok(),
        trace: trace.trace_id_hex().parse::<TraceId>().ok(),
        source: source(caller)?,
        purpose,
    };
    state.reads.record(&state.ledger, read).await
}

pub(crate) fn may_read(caller: &Caller, what: Readable) -> Result<(), Problem> {
    if Role::of(caller.name()).may_read(what) {
        Ok(())
    } else {
        Err(Problem::forbidden("this caller may not read this"))
    }
}

/// Waits until the block that holds `seq` is verified. Another process may have stored it, and
/// only the appender can tell whether it was one of ours.
pub(crate) async fn verified(state: &AppState, seq: u64) -> Result<(), Problem> {
    let mut head = state.ledger.head.clone();
    let folded = head.wait_for(|head| head.size > seq);
    match tokio::time::timeout(MAX_VERIFY, folded).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err(Problem::unavailable("the newest records are not verified yet")),
    }
}

/// A line below the verified head.
async fn stored_line(state: &AppState, seq: u64) -> Result<String, Problem> {
    find_line(state, seq).await?.ok_or_else(|| missing(seq))
}

/// A line as the store has it, verified or not.
pub(crate) async fn find_line(state: &AppState, seq: u64) -> Result<Option<String>, Problem> {
    let blocks = state.ledger.store.blocks_from(seq, 1).await;
    let block = blocks.map_err(|error| store_problem(&error))?.into_iter().next();
    Ok(block.and_then(|block| block.line_at(seq).cloned()))
}

fn seq_of(line: &str) -> Result<u64, Problem> {
    Record::parse(line).map(|record| record.seq).map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "a stored line is no record");
        Problem::unavailable("the ledger cannot be read now")
    })
}

/// A record that was verified once and is not there now.
pub(crate) fn missing(seq: u64) -> Problem {
    tracing::error!(seq, "the ledger store no longer holds a record");
    Problem::unavailable(format!("the ledger store no longer holds record {seq}"))
}

pub(crate) fn store_problem(error: &StoreError) -> Problem {
    tracing::error!(error = error as &dyn std::error::Error, "the ledger store failed a read");
    Problem::unavailable("the ledger cannot be read now")
}

/// An answer that caused a record shows where it stands.
pub(crate) fn with_receipt(receipt: Option<Receipt>, mut response: Response) -> Response {
    if let Some(value) = receipt.and_then(|receipt| receipt.header_value().parse().ok()) {
        response.headers_mut().insert(RECEIPT_HEADER, value);
    }
    response
}
