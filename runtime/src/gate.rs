//! A service that answers health from its first moment and opens when its stores are there.

use std::{
    convert::Infallible,
    sync::{Arc, PoisonError, RwLock, RwLockWriteGuard},
};

use axum::{
    Router,
    extract::Request,
    response::{IntoResponse, Response},
};
use tower::{ServiceExt, service_fn};

use crate::{
    health::{self, Component, Readiness},
    problem::Problem,
};

/// The routes of a service, which may not be there yet.
#[derive(Clone, Default)]
pub struct Gate(Arc<RwLock<State>>);

#[derive(Default)]
struct State {
    routes: Option<Router>,
    /// Of each router that this gate was made into.
    parts: Vec<Component>,
}

impl Gate {
    /// Health, and whatever routes the gate is opened with; 503 while it is closed. Until it is
    /// opened the service is not ready, whatever its stores are.
    pub fn router(&self, readiness: Readiness) -> Router {
        let gate = self.clone();
        self.write().parts.push(readiness.component("routes"));
        health::routes(readiness).fallback_service(service_fn(move |request| {
            let routes = gate.routes();
            async move { Ok::<_, Infallible>(answer(routes, request).await) }
        }))
    }

    /// Opens the gate.
    pub fn open(&self, routes: Router) {
        let mut state = self.write();
        state.routes = Some(routes);
        state.parts.iter().for_each(Component::ready);
    }

    /// Closes the gate and drops the routes with everything that they hold.
    pub fn close(&self) {
        self.write().routes = None;
    }

    fn routes(&self) -> Option<Router> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).routes.clone()
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
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
