//! The `OpenAPI` document, and Swagger UI to render it. Nothing is loaded from elsewhere.

use std::sync::{Arc, LazyLock};

use axum::body::Body;
use axum::extract::{Path, rejection::PathRejection};
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use runtime::problem::Problem;
use utoipa_swagger_ui::Config;

/// The document.
const OPENAPI: &str = include_str!("../openapi.json");

/// Swagger UI sets styles in the page and has its icons as `data:` URLs.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'self'; frame-ancestors 'none'",
);

/// They only change with the program.
const CACHED: HeaderValue = HeaderValue::from_static("public, max-age=3600");

static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    // The validator is a service on the internet, to which the document's address would be told.
    Arc::new(Config::new(["/openapi.json"]).validator_url("none"))
});

/// `GET /openapi.json`
pub(crate) async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], OPENAPI)
}

/// `GET /docs`. The page's links are relative to `/docs/`, whichever way it was asked for.
pub(crate) async fn page() -> Response {
    let page = asset("index.html").and_then(|asset| {
        let html = std::str::from_utf8(&asset.bytes).ok()?;
        Some(html.replacen("<head>", "<head>\n    <base href=\"/docs/\">", 1))
    });
    match page {
        Some(html) => {
            let html_type = HeaderValue::from_static("text/html; charset=utf-8");
            let headers = [(CONTENT_TYPE, html_type), (CONTENT_SECURITY_POLICY, POLICY)];
            (headers, html).into_response()
        }
        None => Problem::internal().into_response(),
    }
}

/// `GET /docs/{file}`
pub(crate) async fn file(name: Result<Path<String>, PathRejection>) -> Response {
    let Ok(Path(name)) = name else { return Problem::route_not_found().into_response() };
    if name == "index.html" {
        return page().await;
    }
    let Some(asset) = asset(&name) else {
        return Problem::route_not_found().into_response();
    };
    let mut response = Response::new(Body::from(asset.bytes.into_owned()));
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::try_from(asset.content_type) {
        headers.insert(CONTENT_TYPE, value);
    }
    headers.insert(CACHE_CONTROL, CACHED);
    response
}

fn asset(name: &str) -> Option<utoipa_swagger_ui::SwaggerFile<'static>> {
    utoipa_swagger_ui::serve(name, Arc::clone(&CONFIG)).ok().flatten()
}
