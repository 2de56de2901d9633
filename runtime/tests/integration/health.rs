//! Readiness, and waiting for it.

use axum::body::Body;
use http::{Request, StatusCode};
use runtime::health::{Readiness, routes};
use runtime::retry::until_ready;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::json as body;

async fn get(readiness: &Readiness, path: &str) -> (StatusCode, serde_json::Value) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = routes(readiness.clone()).oneshot(request).await.unwrap();
    (response.status(), body(response).await)
}

#[tokio::test]
async fn readyz_names_each_part_and_is_200_only_when_all_are_ready() {
    let readiness = Readiness::default();
    let store = readiness.component("store");
    readiness.component("peer").ready();
    let starting =
        json!({"status": "not ready", "components": {"store": "starting", "peer": "ready"}});
    assert_eq!(get(&readiness, "/readyz").await, (StatusCode::SERVICE_UNAVAILABLE, starting));
    assert_eq!(get(&readiness, "/healthz").await, (StatusCode::OK, json!({"status": "ok"})));

    readiness.component("store").ready();
    assert!(readiness.is_ready());
    assert_eq!(get(&readiness, "/readyz").await.0, StatusCode::OK);

    store.not_ready("no primary");
    assert!(!readiness.is_ready());
    assert_eq!(get(&readiness, "/readyz").await.1["components"]["store"], "no primary");
}

#[tokio::test]
async fn an_advisory_part_is_shown_and_decides_nothing() {
    let readiness = Readiness::default();
    let issuer = readiness.advisory("issuer");
    readiness.component("store").ready();
    for reason in ["starting", "too old", "ready"] {
        match reason {
            "starting" => {}
            "ready" => issuer.ready(),
            reason => issuer.not_ready(reason),
        }
        let shown = json!({"status": "ready", "components": {"store": "ready", "issuer": reason}});
        assert_eq!(get(&readiness, "/readyz").await, (StatusCode::OK, shown));
        assert!(readiness.is_ready());
    }
    readiness.component("store").not_ready("no primary");
    assert_eq!(get(&readiness, "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn until_ready_tries_again_until_it_succeeds() {
    let component = Readiness::default().component("store");
    let mut attempts = 0;
    let value = until_ready("open", &component, &CancellationToken::new(), || {
        attempts += 1;
        std::future::ready(if attempts < 3 { Err("down") } else { Ok(attempts) })
    })
    .await;
    assert_eq!(value, Some(3));
    assert!(component.is_ready());
}

#[tokio::test]
async fn until_ready_gives_up_at_shutdown_even_inside_an_attempt() {
    let component = Readiness::default().component("store");
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let value: Option<()> = until_ready("open", &component, &shutdown, || {
        stop.cancel();
        std::future::pending::<Result<(), String>>()
    })
    .await;
    assert_eq!(value, None);
    assert!(!component.is_ready());
}
