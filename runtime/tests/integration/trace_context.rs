//! `traceparent` by the letter of the specification, and what the middleware does with it.

use axum::body::Body;
use axum::routing::get;
use axum::{Extension, Router};
use http::Request;
use runtime::trace_context::{TraceContext, TraceState, trace_middleware};
use tower::ServiceExt;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn text_of(context: TraceContext) -> String {
    context.header_value().to_str().unwrap().to_owned()
}

#[track_caller]
fn check(text: &str, read_as: Option<&str>) {
    let read = TraceContext::parse(text).map(text_of);
    assert_eq!(read.as_deref(), read_as, "{text:?}");
}

#[test]
fn traceparent_is_read_as_the_specification_demands() {
    let sampled = format!("00-{TRACE}-{SPAN}-01");
    let unsampled = format!("00-{TRACE}-{SPAN}-00");
    check(&sampled, Some(&sampled));
    check(&unsampled, Some(&unsampled));
    check(&format!("00-{TRACE}-{SPAN}-ff"), Some(&sampled));
    check(&format!("01-{TRACE}-{SPAN}-01"), Some(&sampled));
    check(&format!("cc-{TRACE}-{SPAN}-01-what-the-future-brings"), Some(&sampled));

    check("", None);
    check(&format!("ff-{TRACE}-{SPAN}-01"), None);
    check(&format!("00-{TRACE}-{SPAN}-01-more"), None);
    check(&format!("00-{TRACE}-{SPAN}-01-"), None);
    check(&format!("cc-{TRACE}-{SPAN}-01.more"), None);
    check(&format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), None);
    check(&format!("00-{TRACE}-{}-01", SPAN.to_uppercase()), None);
    check(&format!("00-{}-{SPAN}-01", "0".repeat(32)), None);
    check(&format!("00-{TRACE}-{}-01", "0".repeat(16)), None);
    check(&format!("00_{TRACE}-{SPAN}-01"), None);
    check(&format!("0g-{TRACE}-{SPAN}-01"), None);
    check(&format!("00-{TRACE}-{SPAN}-0x"), None);
    check(&format!("00-{TRACE}-{SPAN}-1"), None);
    check(&format!(" 00-{TRACE}-{SPAN}-01"), None);
    check(&format!("00-{}é-{SPAN}-01", &TRACE[2..]), None);
}

#[test]
fn a_child_keeps_the_trace_and_has_a_span_of_its_own() {
    let parent = TraceContext::generate();
    let child = parent.child();
    assert_eq!(parent.trace_id_hex(), child.trace_id_hex());
    assert_ne!(parent.header_value(), child.header_value());
    assert_eq!(TraceContext::parse(&text_of(child)), Some(child));
}

/// The `traceparent` of the answer, and the `tracestate` that the handler saw.
async fn pass(request: Request<Body>) -> (String, String) {
    let handler = async |context: Extension<TraceContext>, state: Option<Extension<TraceState>>| {
        let state = state.map(|Extension(TraceState(value))| value);
        let state = state.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
        format!("{} {state}", text_of(*context))
    };
    let app = Router::new()
        .route("/", get(handler))
        .layer(axum::middleware::from_fn_with_state("test", trace_middleware));
    let response = app.oneshot(request).await.unwrap();
    let header = response.headers()["traceparent"].to_str().unwrap().to_owned();
    let bytes = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let (seen, state) = text.split_once(' ').unwrap();
    assert_eq!(seen, header);
    (header, state.to_owned())
}

#[tokio::test]
async fn the_middleware_continues_a_trace_with_its_state() {
    let request = Request::get("/")
        .header("traceparent", format!("00-{TRACE}-{SPAN}-01"))
        .header("tracestate", "a=1")
        .header("tracestate", "b=2");
    let (header, state) = pass(request.body(Body::empty()).unwrap()).await;
    assert!(header.contains(TRACE) && !header.contains(SPAN), "{header}");
    assert_eq!(state, "a=1,b=2");
}

#[tokio::test]
async fn the_middleware_starts_a_trace_where_there_is_none_and_drops_long_state() {
    let request = Request::get("/").header("traceparent", "nonsense").header("tracestate", "a=1");
    let (header, state) = pass(request.body(Body::empty()).unwrap()).await;
    assert!(TraceContext::parse(&header).is_some());
    assert_eq!(state, "");
    let request = Request::get("/")
        .header("traceparent", format!("00-{TRACE}-{SPAN}-01"))
        .header("tracestate", format!("a={}", "x".repeat(511)));
    let (_, state) = pass(request.body(Body::empty()).unwrap()).await;
    assert_eq!(state, "");
}
