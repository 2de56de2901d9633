//! A service that answers health from its first moment and opens when its stores are there.

use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use axum::{Router, extract::Request, middleware::from_fn_with_state};
use tower::{ServiceExt, service_fn};

use crate::{
    health::{self, Component, Readiness},
    metrics,
    problem::{Outcome, Problem},
    trace_context::trace_middleware,
};

/// The routes of a service, which may not be there yet.
#[derive(Clone)]
pub struct Gate(Arc<RwLock<State>>);

struct State {
    service: &'static str,
    routes: Router,
    /// Of each router that this gate was made into.
    parts: Vec<Component>,
}

impl Gate {
    /// A closed gate of a service of this name.
    pub fn new(service: &'static str) -> Self {
        let state = State { service, routes: closed(service), parts: Vec::new() };
        Self(Arc::new(RwLock::new(state)))
    }

    /// Health, metrics, and whatever routes the gate is opened with; 503 while it is closed. Until
    /// it is opened the service is not ready, whatever its stores are. For internal listeners.
    pub fn router(&self, readiness: Readiness) -> Router {
        let gate = self.clone();
        readiness.measure(&metrics::meter());
        self.health(readiness)
            .merge(metrics::process().routes())
            .fallback_service(service_fn(move |request: Request| gate.routes().oneshot(request)))
    }

    /// Health alone, for who asks for [`routes`](Self::routes) by itself.
    pub fn health(&self, readiness: Readiness) -> Router {
        self.write().parts.push(readiness.component("routes"));
        health::routes(readiness)
    }

    /// Opens the gate.
    pub fn open(&self, routes: Router) {
        let mut state = self.write();
        state.routes = routes;
        state.parts.iter().for_each(Component::ready);
    }

    /// Closes the gate and drops the routes with everything that they hold.
    pub fn close(&self) {
        let mut state = self.write();
        state.routes = closed(state.service);
    }

    /// What the gate was opened with, or 503 for everything while it is closed.
    pub fn routes(&self) -> Router {
        self.0.read().unwrap_or_else(PoisonError::into_inner).routes.clone()
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed(service: &'static str) -> Router {
    let refuse = async || {
        Problem::unavailable("the service is starting or stopping; nothing was stored")
            .outcome(Outcome::NothingStored)
    };
    Router::new().fallback(refuse).layer(from_fn_with_state(service, trace_middleware))
}
