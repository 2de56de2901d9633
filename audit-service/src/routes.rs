//! All routes of the service.

use std::sync::Arc;

use axum::{
    Router, middleware,
    routing::{get, post},
};
use runtime::{
    health::{self, Readiness},
    problem,
    service_keys::{self, Callers},
    trace_context,
};
use tokio_util::sync::CancellationToken;

use crate::{
    append_api, external_api, ledger_reads::LedgerReads, proof_api, read_api, run::SERVICE,
    service::AuditLedger,
};

/// What handlers use.
#[derive(Clone)]
pub struct AppState {
    /// The running ledger.
    pub ledger: AuditLedger,
    /// Who read the ledger lately.
    pub reads: Arc<LedgerReads>,
    /// Ends long polls when the process goes down.
    pub shutdown: CancellationToken,
}

/// The service's routes: everything but health needs a service key.
pub fn router(state: AppState, callers: Callers, readiness: Readiness) -> Router {
    let guarded = Router::new()
        .route("/records", get(read_api::records).post(append_api::one))
        .route("/records/batch", post(append_api::many))
        .route("/records/{seq}", get(read_api::record))
        .route("/records/{seq}/proof", get(proof_api::record))
        .route("/consistency", get(proof_api::consistency))
        .route("/tile/{*path}", get(proof_api::tile))
        .route("/streams/{*stream}", get(read_api::stream))
        .route("/commands/{id}", get(read_api::command))
        .route("/checkpoint", get(read_api::checkpoint))
        .route("/key", get(read_api::key))
        .route("/keys", get(read_api::keys))
        .route("/api/auditrecord", post(external_api::record))
        .route("/api/auditrecord/", post(external_api::record))
        .fallback(problem::fallback_404)
        .method_not_allowed_fallback(problem::fallback_405)
        .layer(middleware::from_fn_with_state(Arc::new(callers), service_keys::require_caller))
        .layer(middleware::from_fn_with_state(SERVICE, trace_context::trace_middleware))
        .with_state(state);
    health::routes(readiness).merge(guarded)
}
