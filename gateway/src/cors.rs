//! Which pages may call the API from a browser.

use std::time::Duration;

use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, LINK, LOCATION,
    RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderName, Method};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::config::Origin;

/// How long a browser may remember what a preflight said.
const MAX_AGE: Duration = Duration::from_mins(10);

/// What answers every preflight and marks answers to these origins; `None` without any. Credentials
/// that a browser sends by itself are never allowed: callers have keys and tokens, which their pages
/// send.
pub(crate) fn layer(origins: &[Origin]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let custom = HeaderName::from_static;
    let origins = origins.iter().map(|origin| origin.header().clone());
    let layer = CorsLayer::new()
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
        .max_age(MAX_AGE);
    Some(layer)
}
