//! The witness as a server (C2SP tlog-witness).

use std::{io, sync::Arc};

use audit_verify::{checkpoint::LedgerKey, cosignature::WitnessSecret};
use axum::{
    Router,
    body::Body,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::post,
};
use runtime::{
    health::{self, Readiness},
    problem::{self, Problem},
    serve::{read_body, serve},
    trace_context,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use super::{
    cosigner::{Cosigner, Refusal},
    request::{AddCheckpoint, MAX_REQUEST_BYTES},
    state::{StateError, WitnessState},
};
use crate::clock::Clock;

/// The media type of the size that a 409 carries.
pub const TREE_SIZE: &str = "text/x.tlog.size";

/// Requests that wait for files at once; each takes a thread.
const MAX_AT_ONCE: usize = 16;

/// What a witness needs.
pub struct WitnessConfig {
    /// Cosigns.
    pub secret: WitnessSecret,
    /// Keys of the ledgers that are watched; several of one origin while it rotates its key.
    pub ledgers: Vec<LedgerKey>,
    /// Folder of what was seen; it must never be set back.
    pub state: std::path::PathBuf,
    /// The time.
    pub clock: Clock,
}

/// Why a witness does not run.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The state's folder cannot be used.
    #[error("the witness cannot use its state")]
    State(#[from] StateError),
    /// The listener failed.
    #[error("the witness cannot serve")]
    Serve(#[from] io::Error),
}

#[derive(Clone)]
struct Witness {
    cosigner: Arc<Cosigner>,
    slots: Arc<Semaphore>,
}

/// Serves `POST /add-checkpoint`, `/healthz` and `/readyz` until `shutdown`.
pub async fn run(
    listener: TcpListener,
    config: WitnessConfig,
    shutdown: CancellationToken,
) -> Result<(), WitnessError> {
    let WitnessConfig { secret, ledgers, state, clock } = config;
    let state = WitnessState::open(state)?;
    let key = secret.public();
    let origins: Vec<&str> = ledgers.iter().map(|key| key.origin().as_str()).collect();
    tracing::info!(%key, ?origins, "the witness is open");
    let cosigner = Arc::new(Cosigner::new(secret, ledgers, state, clock));
    Ok(serve(listener, router(cosigner), shutdown).await?)
}

fn router(cosigner: Arc<Cosigner>) -> Router {
    let witness = Witness { cosigner, slots: Arc::new(Semaphore::new(MAX_AT_ONCE)) };
    let routes = Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .fallback(problem::fallback_404)
        .method_not_allowed_fallback(problem::fallback_405)
        .layer(axum::middleware::from_fn_with_state(
            "audit-witness",
            trace_context::trace_middleware,
        ))
        .with_state(witness);
    health::routes(Readiness::default()).merge(routes)
}

async fn add_checkpoint(State(witness): State<Witness>, body: Body) -> Result<Response, Problem> {
    let body = read_body(body, MAX_REQUEST_BYTES).await?;
    let request =
        AddCheckpoint::parse(&body).map_err(|error| Problem::bad_request(error.to_string()))?;
    let Witness { cosigner, slots } = witness;
    let slot = slots.acquire_owned().await.map_err(|_| Problem::internal())?;
    let added = tokio::task::spawn_blocking(move || {
        // Kept for as long as the thread is busy, even if the sender has gone.
        let _slot = slot;
        cosigner.add(&request)
    });
    match added.await.map_err(|_| Problem::internal())? {
        Ok(line) => Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], line).into_response()),
        Err(refusal) => Ok(answer(&refusal)),
    }
}

fn answer(refusal: &Refusal) -> Response {
    let status = match refusal {
        Refusal::OtherSize { size } => {
            let body = format!("{size}\n");
            return (StatusCode::CONFLICT, [(CONTENT_TYPE, TREE_SIZE)], body).into_response();
        }
        Refusal::State(error) => {
            tracing::error!(error = error as &dyn std::error::Error, "nothing can be cosigned");
            return Problem::unavailable("the witness cannot use its state now").into_response();
        }
        Refusal::Malformed | Refusal::OldTooLarge => StatusCode::BAD_REQUEST,
        Refusal::UnknownOrigin => StatusCode::NOT_FOUND,
        Refusal::Untrusted => StatusCode::FORBIDDEN,
        Refusal::Fork => StatusCode::CONFLICT,
        Refusal::Inconsistent(_) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Problem::new(status, refusal.to_string()).into_response()
}
