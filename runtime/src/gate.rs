//! A service that answers health from its first moment and opens when its stores are there.

use std::{
    convert::Infallible,
    sync::{Arc, PoisonError, RwLock},
};

use axum::{
    Router,
    extract::Request,
    response::{IntoResponse, Response},
};
use tower::{ServiceExt, service_fn};

use crate::{
    health::{self, Readiness},
    problem::Problem,
};

/// The routes of a service, which may not be there yet.
#[derive(Clone, Default)]
pub struct Gate(Arc<RwLock<Option<Router>>>);

impl Gate {
    /// Health, and whatever routes the gate is opened with; 503 while it is closed.
    pub fn router(&self, readiness: Readiness) -> Router {
        let gate = self.clone();
        health::routes(readiness).fallback_service(service_fn(move |request| {
            let routes = gate.routes();
            async move { Ok::<_, Infallible>(answer(routes, request).await) }
        }))
    }

    /// Opens the gate.
    pub fn open(&self, routes: Router) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(routes);
    }

    /// Closes the gate and drops the routes with everything that they hold.
    pub fn close(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn routes(&self) -> Option<Router> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn answer(routes: Option<Router>, request: Request) -> Response {
    match routes {
        Some(routes) => routes.oneshot(request).await.into_response(),
        None => Problem::unavailable("the service is starting or stopping; nothing was stored")
            .outcome(crate::problem::Outcome::NothingStored)
            .into_response(),
    }
}
