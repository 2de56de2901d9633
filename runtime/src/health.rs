//! Liveness and readiness.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use serde::Serialize;

/// Whether the parts of this process that serving needs are there. Without parts it is ready.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    components: Arc<Mutex<BTreeMap<&'static str, Component>>>,
}

/// One part of a [`Readiness`], such as a store. Clones are the same part.
#[derive(Clone, Debug)]
pub struct Component {
    name: &'static str,
    /// Whether the process is ready without it.
    advisory: bool,
    /// Why it is not ready; `None` when it is.
    reason: Arc<Mutex<Option<&'static str>>>,
}

impl Readiness {
    /// The part of this name, which starts as not ready; asked again, the same part.
    pub fn component(&self, name: &'static str) -> Component {
        self.part(name, false)
    }

    /// As [`component`](Self::component), but shown alone: the process is ready without it, because
    /// some of those that it serves do not need it.
    pub fn advisory(&self, name: &'static str) -> Component {
        self.part(name, true)
    }

    fn part(&self, name: &'static str, advisory: bool) -> Component {
        let mut components = self.components.lock().unwrap_or_else(PoisonError::into_inner);
        let starting = || Arc::new(Mutex::new(Some("starting")));
        let component = components.entry(name);
        component.or_insert_with(|| Component { name, advisory, reason: starting() }).clone()
    }

    /// Whether every part is ready that serving needs.
    pub fn is_ready(&self) -> bool {
        self.components
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .all(|component| component.advisory || component.is_ready())
    }
}

impl Component {
    /// Says that the part can be used.
    pub fn ready(&self) {
        self.set(None);
    }

    /// Says why the part cannot be used, for operators to read.
    pub fn not_ready(&self, reason: &'static str) {
        self.set(Some(reason));
    }

    /// Whether the part can be used.
    pub fn is_ready(&self) -> bool {
        self.reason().is_none()
    }

    fn reason(&self) -> Option<&'static str> {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs changes between ready and not ready, and nothing else: this is called often.
    fn set(&self, reason: Option<&'static str>) {
        let before = std::mem::replace(
            &mut *self.reason.lock().unwrap_or_else(PoisonError::into_inner),
            reason,
        );
        match (before, reason) {
            (Some(_), None) => tracing::info!(component = self.name, "component is ready"),
            (None, Some(reason)) => {
                tracing::warn!(component = self.name, reason, "component is not ready");
            }
            _ => {}
        }
    }
}

#[derive(Serialize)]
struct Report {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    components: Option<BTreeMap<&'static str, &'static str>>,
}

/// `GET /healthz`, 200 while the process runs, and `GET /readyz`, 200 or 503 with the parts.
pub fn routes(readiness: Readiness) -> Router {
    Router::new()
        .route("/healthz", get(async || Json(Report { status: "ok", components: None })))
        .route("/readyz", get(readyz))
        .with_state(readiness)
}

async fn readyz(State(readiness): State<Readiness>) -> (StatusCode, Json<Report>) {
    let mut ready = true;
    let components = readiness
        .components
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
        .map(|(name, component)| {
            let reason = component.reason();
            ready &= component.advisory || reason.is_none();
            (*name, reason.unwrap_or("ready"))
        })
        .collect();
    let (code, status) = if ready {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    };
    (code, Json(Report { status, components: Some(components) }))
}
