//! What the runtime promises to every service, tried from outside.
#![allow(clippy::unwrap_used)]

mod fake_vault;
mod gate;
mod headers;
mod health;
mod limits;
mod listener;
mod problem;
mod reloaded;
mod secrets;
mod serve;
mod service_keys;
mod telemetry;
mod tls;
mod trace_context;
mod vault;

use axum::body::Body;
use axum::response::Response;
use serde_json::Value;

/// The body of an answer as JSON.
async fn json(response: Response<Body>) -> Value {
    let bytes = axum::body::to_bytes(response.into_body(), 64 * 1024).await.unwrap();
    serde_json::from_slice(&bytes).unwrap()
}
