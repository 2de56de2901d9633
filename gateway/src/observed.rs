//! What is done for every request, whoever answers it: a place in a trace, a count, one host.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use runtime::problem::Problem;
use runtime::trace_context::{method_name, traced};

use crate::SERVICE;
use crate::error::Refusal;
use crate::host::has_one_host;
use crate::metrics::Metrics;
use crate::routes::ROUTES;

/// Answers a request for a route, which is a template of the table, with what `answer` says.
pub(crate) async fn observe<F>(
    metrics: &Metrics,
    route: &'static str,
    request: Request,
    answer: impl FnOnce(Request) -> F,
) -> Response
where
    F: Future<Output = Response>,
{
    let method = method_name(request.method());
    let one_host = has_one_host(&request);
    let answering = traced(SERVICE, route, request, async |request| {
        if one_host {
            return answer(request).await;
        }
        metrics.refused(Refusal::Host);
        Problem::from(Refusal::Host).into_response()
    });
    let response = answering.await;
    metrics.answered(method, route, response.status());
    response
}

/// Middleware that does it for a route that was matched.
pub(crate) async fn observe_matched(
    State(metrics): State<Arc<Metrics>>,
    request: Request,
    next: Next,
) -> Response {
    observe(&metrics, template(&request), request, |request| next.run(request)).await
}

/// The template of the matched route, as the table has it.
pub(crate) fn template(request: &Request) -> &'static str {
    let Some(matched) = request.extensions().get::<MatchedPath>() else { return "unmatched" };
    let known = ROUTES.iter().find(|route| route.path == matched.as_str());
    known.map_or("unmatched", |route| route.path)
}
