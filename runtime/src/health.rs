//! Liveness and readiness.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
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
        let mut components = self.lock();
        let starting = || Arc::new(Mutex::new(Some("starting")));
        let component = components.entry(name);
        component.or_insert_with(|| Component { name, advisory, reason: starting() }).clone()
    }

    /// Whether every part is ready that serving needs.
    pub fn is_ready(&self) -> bool {
        self.lock().values().all(Component::lets_serve)
    }

    /// Shows it in the metrics: `vitalog.ready` and `vitalog.component.ready`, 1 or 0.
    pub fn measure(&self, meter: &Meter) {
        let readiness = self.clone();
        meter
            .u64_observable_gauge("vitalog.ready")
            .with_description("1 where the process is ready")
            .with_callback(move |ready| ready.observe(readiness.is_ready().into(), &[]))
            .build();
        let readiness = self.clone();
        meter
            .u64_observable_gauge("vitalog.component.ready")
            .with_description("1 where a part of the process is ready")
            .with_callback(move |ready| {
                for (name, component) in readiness.lock().iter() {
                    let labels = [KeyValue::new("component", *name)];
                    ready.observe(component.is_ready().into(), &labels);
                }
            })
            .build();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Component>> {
        self.components.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Whether the process may be ready as far as this part is concerned.
    fn lets_serve(&self) -> bool {
        self.advisory || self.is_ready()
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

#[derive(Serialize)]
struct Version {
    version: &'static str,
}

/// `GET /healthz`, 200 while the process runs, `GET /readyz`, 200 or 503 with the state of each
/// part, and `GET /version`.
pub fn routes(readiness: Readiness) -> Router {
    Router::new()
        .route("/healthz", get(async || Json(Report { status: "ok", components: None })))
        .route("/readyz", get(readyz))
        .route("/version", get(async || Json(Version { version: env!("CARGO_PKG_VERSION") })))
        .with_state(readiness)
}

async fn readyz(State(readiness): State<Readiness>) -> (StatusCode, Json<Report>) {
    let components = readiness.lock().clone();
    let ready = components.values().all(Component::lets_serve);
    let state = |component: &Component| component.reason().unwrap_or("ready");
    let components = components.iter().map(|(name, component)| (*name, state(component))).collect();
    let (code, status) = if ready {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    };
    (code, Json(Report { status, components: Some(components) }))
}
