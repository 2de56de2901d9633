//! A service that is up before its stores are.

use axum::{Router, body::Body, http::Request, routing::get};
use http::StatusCode;
use runtime::{gate::Gate, health::Readiness};
use tower::ServiceExt;

async fn status(app: &Router, path: &str) -> StatusCode {
    let request = Request::get(path).body(Body::empty()).unwrap();
    app.clone().oneshot(request).await.unwrap().status()
}

#[tokio::test]
async fn a_service_is_ready_no_sooner_than_its_routes_answer() {
    let readiness = Readiness::default();
    let gate = Gate::new("test");
    let app = gate.router(readiness.clone());
    readiness.component("store").ready();
    assert_eq!(status(&app, "/healthz").await, StatusCode::OK);
    assert_eq!(status(&app, "/version").await, StatusCode::OK);
    assert_eq!(status(&app, "/metrics").await, StatusCode::OK);
    assert_eq!(status(&app, "/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status(&app, "/records").await, StatusCode::SERVICE_UNAVAILABLE);
    gate.open(Router::new().route("/records", get(async || "lines")));
    assert_eq!(status(&app, "/readyz").await, StatusCode::OK);
    assert_eq!(status(&app, "/records").await, StatusCode::OK);
    gate.close();
    assert_eq!(status(&app, "/records").await, StatusCode::SERVICE_UNAVAILABLE);
}
