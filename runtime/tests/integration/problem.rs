//! The shape of errors on the wire.

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use axum::routing::get;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, StatusCode};
use runtime::problem::{FieldError, Outcome, Problem, fallback_404, fallback_405};
use runtime::trace_context::trace_middleware;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::json as body;

fn wire(problem: &Problem) -> Value {
    serde_json::from_slice(&problem.json()).unwrap()
}

#[test]
fn a_plain_problem_has_exactly_the_members_that_every_error_has() {
    assert_eq!(
        wire(&Problem::not_found("Patient not found")),
        json!({
            "type": "about:blank",
            "title": "Not Found",
            "status": 404,
            "detail": "Patient not found",
            "statusCode": 404,
            "message": "Patient not found",
        })
    );
}

#[test]
fn a_full_problem_has_them_all() {
    let field = FieldError { field: "id".into(), detail: "\"id\" is required".into() };
    let problem = Problem::bad_request("d")
        .title("t")
        .message("m")
        .errors(vec![field])
        .outcome(Outcome::NothingStored)
        .trace("abc");
    assert_eq!(
        wire(&problem),
        json!({
            "type": "about:blank",
            "title": "t",
            "status": 400,
            "detail": "d",
            "statusCode": 400,
            "message": "m",
            "errors": [{"field": "id", "detail": "\"id\" is required"}],
            "outcome": "nothingStored",
            "trace": "abc",
        })
    );
    assert_eq!(wire(&problem.outcome(Outcome::Unknown))["outcome"], "unknown");
}

#[test]
fn the_answer_has_the_media_type_and_its_headers() {
    let response = Problem::unavailable("later").retry_after(7).into_response();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
    assert_eq!(response.headers()[RETRY_AFTER], "7");
    let allow = Problem::method_not_allowed("GET, PUT").into_response();
    assert_eq!(allow.headers()[ALLOW], "GET, PUT");
    assert!(Problem::payload_too_large(47_000).detail().contains("47000"));
}

#[test]
fn a_401_always_says_how_to_authenticate() {
    let plain = Problem::unauthorized("no key").into_response();
    assert!(plain.headers().contains_key(WWW_AUTHENTICATE));
    let own = HeaderValue::from_static("Bearer");
    let own = Problem::unauthorized("no key").header(WWW_AUTHENTICATE, own).into_response();
    assert_eq!(own.headers()[WWW_AUTHENTICATE], "Bearer");
}

fn app() -> Router {
    Router::new()
        .route("/a", get(async || "a").put(async || "a"))
        .fallback(fallback_404)
        .method_not_allowed_fallback(fallback_405)
        .layer(axum::middleware::from_fn_with_state("test", trace_middleware))
}

#[tokio::test]
async fn an_unknown_route_is_404_and_an_unknown_method_405_with_allow() {
    let unknown = Request::get("/b").body(Body::empty()).unwrap();
    let unknown = app().oneshot(unknown).await.unwrap();
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    assert_eq!(body(unknown).await["message"], "Resource not found");
    let method = Request::delete("/a").body(Body::empty()).unwrap();
    let method = app().oneshot(method).await.unwrap();
    assert_eq!(method.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(method.headers()[ALLOW], "GET,HEAD,PUT");
    assert_eq!(body(method).await["statusCode"], 405);
}

#[tokio::test]
async fn behind_the_trace_middleware_the_body_names_the_trace() {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = Request::get("/b").header("traceparent", parent).body(Body::empty()).unwrap();
    let response = app().oneshot(request).await.unwrap();
    let length: u64 = response.headers()[CONTENT_LENGTH].to_str().unwrap().parse().unwrap();
    assert_eq!(axum::body::HttpBody::size_hint(response.body()).exact(), Some(length));
    assert_eq!(body(response).await["trace"], "0af7651916cd43dd8448eb211c80319c");
}
