//! A service that answers health from its first moment and opens when its stores are there.

use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use axum::{Router, extract::Request, middleware::from_fn};
use tower::{ServiceExt, service_fn};

use crate::{
    health::{self, Component, Readiness},
    problem::{Outcome, Problem},
    trace_context::trace_middleware,
};

/// The routes of a service, which may not be there yet.
#[derive(Clone, Default)]
pub struct Gate(Arc<RwLock<State>>);

struct State {
    routes: Router,
    /// Of each router that this gate was made into.
    parts: Vec<Component>,
}

impl Default for State {
    fn default() -> Self {
        Self { routes: closed(), parts: Vec::new() }
    }
}

impl Gate {
    /// Health, and whatever routes the gate is opened with; 503 while it is closed. Until it is
    /// opened the service is not ready, whatever its stores are.
    pub fn router(&self, readiness: Readiness) -> Router {
        let gate = self.clone();
        self.health(readiness)
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
        self.write().routes = closed();
    }

    /// What the gate was opened with, or 503 for everything while it is closed.
    pub fn routes(&self) -> Router {
        self.0.read().unwrap_or_else(PoisonError::into_inner).routes.clone()
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> Router {
    let refuse = async || {
        Problem::unavailable("the service is starting or stopping; nothing was stored")
            .outcome(Outcome::NothingStored)
    };
    Router::new().fallback(refuse).layer(from_fn(trace_middleware))
}
