//! Which pages may call the API from a browser.

use std::time::Duration;

use axum::extract::Request;
use futures::future::Either;
use http::header::{
    ACCEPT, ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CONTENT_TYPE, ETAG, IF_MATCH,
    IF_NONE_MATCH, LINK, LOCATION, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, Method};
use runtime::serve::App;
use tower::{Layer, Service, service_fn};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::config::Origin;

/// How long a browser may remember what a preflight said.
const MAX_AGE: Duration = Duration::from_mins(10);

/// `app` as pages of these origins may use it.
pub(crate) fn shared<A: App>(app: A, origins: &[Origin]) -> impl App + use<A> {
    let shared = (!origins.is_empty()).then(|| layer(origins).layer(app.clone()));
    service_fn(move |request: Request| match &shared {
        // The layer would answer every OPTIONS, also where there is nothing.
        Some(shared) if request.method() != Method::OPTIONS || is_preflight(request.headers()) => {
            Either::Left(shared.clone().call(request))
        }
        _ => Either::Right(app.clone().call(request)),
    })
}

/// What only a browser asks, before it sends a request of a page (Fetch, "CORS-preflight request").
fn is_preflight(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN) && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// What answers every OPTIONS and marks answers to these origins. Credentials that a browser sends by
/// itself are never allowed: callers have keys and tokens, which their pages send.
fn layer(origins: &[Origin]) -> CorsLayer {
    let custom = HeaderName::from_static;
    let origins = origins.iter().map(|origin| origin.header().clone());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([
            ACCEPT,
            AUTHORIZATION,
            CONTENT_TYPE,
            IF_MATCH,
            IF_NONE_MATCH,
            custom("ocp-apim-subscription-key"),
            custom("idempotency-key"),
            custom("prefer"),
            custom("purpose-of-use"),
            custom("traceparent"),
        ])
        .expose_headers([
            ETAG,
            LINK,
            LOCATION,
            RETRY_AFTER,
            WWW_AUTHENTICATE,
            custom("audit-proof"),
            custom("audit-receipt"),
            custom("preference-applied"),
            custom("vitalog-as-of"),
            custom("x-projection"),
        ])
        .max_age(MAX_AGE)
}
