//! Proofs and tiles over HTTP: hashes alone, except for the lines of `tile/entries/…`.

use axum::{
    Extension, Json,
    extract::{Path, RawQuery, State},
    http::{
        HeaderMap,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{
    hash::Hash,
    wire::{ConsistencyProof, SizedRoot},
};
use runtime::{problem::Problem, service_keys::Caller, trace_context::TraceContext};

use audit_verify::{
    proof_file::ProofFile,
    tile::{TileKind, TilePath},
};

use crate::{
    checkpoint::{CheckpointError, TreeHead},
    leaves::LeavesError,
    lines::number,
    proofs::{Consistency, NoProof},
    read_api::{find_line, may_read, missing, permit_read, store_problem, verified, with_receipt},
    roles::Readable,
    routes::AppState,
    store::tile_bytes,
    tiles::{LEVELS, TileId},
    tree::TreeError,
};

/// What a tile is never changes. It is for whoever asked alone: a cache that others share does
/// not know their keys.
const IMMUTABLE: &str = "private, max-age=31536000, immutable";

/// Of which tree something is to be proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    /// As many records.
    Exactly(u64),
    /// The newest.
    Latest,
}

/// `GET /records/{seq}/proof?size=`: a C2SP tlog-proof file. The tree is the one whose checkpoint
/// was signed right after the record's commit, unless `size` names another: a number of records,
/// or `latest`. Where no checkpoint of that commit can be signed any more, it is the newest one's.
/// Not recorded.
pub async fn record(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Path(seq): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    may_read(&caller, Readable::Proof)?;
    let seq = number("seq", &seq)?;
    let [size] = sizes(query.as_deref(), ["size"])?;
    if size.is_some_and(|size| matches!(size, Size::Exactly(size) if size <= seq)) {
        return Err(Problem::bad_request("a tree that holds the record is larger than its seq"));
    }
    reach(&state, seq + 1).await?;
    let file = if let Some(size) = size {
        prove(&state, seq, resolve(&state, size).await?).await?
    } else {
        let end = state.ledger.proofs.end_of_block(seq).await;
        match prove(&state, seq, end.map_err(|error| no_proof(&error))?).await? {
            // The key that signed that checkpoint may be gone.
            Err(_) => prove(&state, seq, state.ledger.proofs.size()).await?,
            signed => signed,
        }
    };
    let file = file.map_err(|error| no_checkpoint(&error))?;
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], file.to_string()).into_response())
}

/// The proof, unless the checkpoint cannot be signed: the inner error.
async fn prove(
    state: &AppState,
    seq: u64,
    size: u64,
) -> Result<Result<ProofFile, CheckpointError>, Problem> {
    let proven = state.ledger.proofs.inclusion(seq, size).await;
    let proven = proven.map_err(|error| no_proof(&error))?;
    let signed = state.ledger.sign(proven.head).await;
    Ok(signed.map(|checkpoint| ProofFile {
        extra: None,
        index: seq,
        hashes: proven.hashes,
        checkpoint,
    }))
}

/// `GET /consistency?from=&to=`: a [`ConsistencyProof`]; `to` may be `latest`. Not recorded.
pub async fn consistency(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
) -> Result<Json<ConsistencyProof>, Problem> {
    may_read(&caller, Readable::Consistency)?;
    let [Some(Size::Exactly(from)), Some(to)] = sizes(query.as_deref(), ["from", "to"])? else {
        return Err(Problem::bad_request("from and to must be given: sizes of two trees"));
    };
    let to = resolve(&state, to).await?;
    if from > to {
        return Err(Problem::bad_request("from must not be larger than to"));
    }
    let proven = state.ledger.proofs.consistency(from, to).await;
    let Consistency { from, to, hashes } = proven.map_err(|error| no_proof(&error))?;
    let hashes = hashes.iter().map(base64).collect();
    Ok(Json(ConsistencyProof { from: sized_root(from), to: sized_root(to), hashes }))
}

/// `GET /tile/{*path}`: C2SP tlog-tiles. A client's reading of entries is recorded as that of
/// records is; hashes are not recorded.
pub async fn tile(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Extension(trace): Extension<TraceContext>,
    headers: HeaderMap,
    Path(path): Path<String>,
) -> Result<Response, Problem> {
    may_read(&caller, Readable::Tile)?;
    let no_tile = || Problem::not_found("no such tile");
    let tile = TilePath::parse(&path).map_err(|_| no_tile())?;
    let width = usize::try_from(tile.width).map_err(|_| no_tile())?;
    let proofs = &state.ledger.proofs;
    match tile.kind {
        TileKind::Hashes { level } if level < LEVELS => {
            let id = TileId { level, index: tile.index };
            let hashes = proofs.tile(id, width).await.map_err(|error| no_proof(&error))?;
            Ok(octets(tile_bytes(&hashes)))
        }
        TileKind::Hashes { .. } => Err(no_tile()),
        TileKind::Entries => {
            let receipt = permit_read(&state, &caller, Readable::Tile, trace, &headers).await?;
            let answer = match proofs.entries(tile.index, width).await {
                Ok(lines) => octets(bundle(&lines)),
                Err(error) => no_proof(&error).into_response(),
            };
            Ok(with_receipt(receipt, answer))
        }
    }
}

/// Entries of a bundle: each with its length before it, two bytes, big-endian.
fn bundle(lines: &[String]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(lines.iter().map(|line| line.len() + 2).sum());
    for line in lines {
        // A record's line is at most 65,535 bytes long; what was read is checked to be one.
        octets.extend(u16::try_from(line.len()).unwrap_or(u16::MAX).to_be_bytes());
        octets.extend(line.as_bytes());
    }
    octets
}

fn octets(octets: Vec<u8>) -> Response {
    let headers = [(CONTENT_TYPE, "application/octet-stream"), (CACHE_CONTROL, IMMUTABLE)];
    (headers, octets).into_response()
}

/// Waits, if another process has the records already, until they are verified here.
async fn reach(state: &AppState, size: u64) -> Result<(), Problem> {
    let Some(last) = size.checked_sub(1) else { return Ok(()) };
    if state.ledger.proofs.size() >= size {
        return Ok(());
    }
    if find_line(state, last).await?.is_none() {
        return Err(beyond());
    }
    verified(state, last).await
}

async fn resolve(state: &AppState, size: Size) -> Result<u64, Problem> {
    match size {
        Size::Latest => Ok(state.ledger.proofs.size()),
        Size::Exactly(size) => reach(state, size).await.map(|()| size),
    }
}

/// The sizes that a query names.
fn sizes<const N: usize>(
    query: Option<&str>,
    names: [&str; N],
) -> Result<[Option<Size>; N], Problem> {
    let mut sizes = [None; N];
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(place) = names.iter().position(|known| *known == name) else {
            let detail = format!("the query takes {} only", names.join(" and "));
            return Err(Problem::bad_request(detail));
        };
        // The last of two trees may be the newest.
        let latest = value == "latest" && place + 1 == N;
        let size = if latest { Size::Latest } else { Size::Exactly(number(name, value)?) };
        sizes[place] = Some(size);
    }
    Ok(sizes)
}

fn sized_root(head: TreeHead) -> SizedRoot {
    SizedRoot { size: head.size, root: base64(&head.root) }
}

fn base64(hash: &Hash) -> String {
    STANDARD.encode(hash.0)
}

fn beyond() -> Problem {
    Problem::not_found("the ledger does not reach that far")
}

fn no_checkpoint(error: &CheckpointError) -> Problem {
    tracing::error!(error = error as &dyn std::error::Error, "no checkpoint was given out");
    Problem::unavailable("a checkpoint of that size cannot be signed or remembered now")
}

fn no_proof(error: &NoProof) -> Problem {
    match error {
        NoProof::Tree(TreeError::Range) => beyond(),
        NoProof::Tree(TreeError::Leaves(LeavesError::Store(error))) => store_problem(error),
        NoProof::Tree(TreeError::Leaves(LeavesError::Missing { seq })) => missing(*seq),
        NoProof::Tree(TreeError::TooMuch(_)) => {
            tracing::warn!(error = error as &dyn std::error::Error, "no proof was made");
            Problem::unavailable("the ledger's tiles are being made; try again later")
        }
        NoProof::Tree(TreeError::Forged(_)) | NoProof::Wrong(_) => {
            tracing::error!(error = error as &dyn std::error::Error, "no proof was given out");
            Problem::unavailable("the stored ledger does not verify there")
        }
    }
}
