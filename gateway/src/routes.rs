//! Every public route, in one table.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, get, on};
use futures::{FutureExt, TryFutureExt};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderName, HeaderValue, Method, Uri};
use percent_encoding::percent_decode_str;
use runtime::gate::Gate;
use runtime::health::Readiness;
use runtime::problem::{fallback_404, fallback_405};
use runtime::serve::App;
use tower::{Service, service_fn};

use crate::bulkheads::Compartment;
use crate::config::EdgeSettings;
use crate::cors;
use crate::docs;
use crate::forwarded::with_client_address;
use crate::metrics::Metrics;
use crate::observed::{observe, observe_matched, template};
use crate::proxy::Gateway;
use crate::subscriptions::Scope;

/// The longest segment of a path that goes on to an upstream; ids have 36 characters.
const MAX_SEGMENT_BYTES: usize = 64;

/// What goes on in place of a segment that cannot be an id, and is none either. It keeps dots,
/// slashes and whatever else a URL parser has opinions on away from the upstream's paths.
const NO_ID: &str = "-";

/// One public route. A route for GET answers HEAD too.
#[derive(Debug)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, with `{name}` for a segment that varies.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
    /// Who answers.
    pub target: Target,
}

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Open,
    /// Every subscription.
    AnyKey,
    /// Subscriptions with at least one scope, whichever it is: hashes alone are shown.
    AnyScope,
    /// Subscriptions with this scope.
    Scope(Scope),
}

/// Who answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// patient-service, under the same path.
    Patients,
    /// audit-service, under this path, with the same varying segments in the same order; one that
    /// ends in `{*name}` takes all that follows.
    Audit(&'static str),
    /// The gateway: the parameters of the query.
    Echo,
    /// The gateway: liveness and readiness.
    Health,
    /// The gateway: the `OpenAPI` document.
    Document,
    /// The gateway: the document rendered for people.
    Docs,
    /// The gateway: a file that this page loads.
    DocsFile,
}

const fn route(method: Method, path: &'static str, access: Access, target: Target) -> Route {
    Route { method, path, access, target }
}

const READ: Access = Access::Scope(Scope::PatientRead);
const WRITE: Access = Access::Scope(Scope::PatientWrite);
const ERASE: Access = Access::Scope(Scope::PatientErase);
const AUDIT: Access = Access::Scope(Scope::AuditRead);

const SEARCH: &str = "/patient/search";
const PATIENT: &str = "/patient/{id}";
const HISTORY: &str = "/patient/{id}/history";
const TESTS: &str = "/patient/{id}/tests";
const TEST: &str = "/patient/{id}/tests/{testId}";
const ACTIVITY: &str = "/patient/{id}/activity";
const ALL_ACTIVITY: &str = "/audit/activity";
const AUDIT_EVENTS: &str = "/audit/fhir/AuditEvent";

/// The public API. What is not here is not public.
#[rustfmt::skip]
pub static ROUTES: &[Route] = &[
    route(Method::POST,   "/patient",             WRITE, Target::Patients),
    route(Method::POST,   SEARCH,                 READ,  Target::Patients),
    route(Method::GET,    PATIENT,                READ,  Target::Patients),
    route(Method::PUT,    PATIENT,                WRITE, Target::Patients),
    route(Method::DELETE, PATIENT,                WRITE, Target::Patients),
    route(Method::GET,    HISTORY,                READ,  Target::Patients),
    route(Method::POST,   "/patient/{id}/erase",  ERASE, Target::Patients),
    route(Method::GET,    TESTS,                  READ,  Target::Patients),
    route(Method::POST,   TESTS,                  WRITE, Target::Patients),
    route(Method::GET,    TEST,                   READ,  Target::Patients),
    route(Method::PUT,    TEST,                   WRITE, Target::Patients),
    route(Method::DELETE, TEST,                   WRITE, Target::Patients),
    route(Method::GET,    ACTIVITY,               READ,  Target::Patients),
    route(Method::GET,    ALL_ACTIVITY,           AUDIT, Target::Patients),
    route(Method::GET,    AUDIT_EVENTS,           AUDIT, Target::Patients),
    route(Method::GET,    "/audit/records",       AUDIT, Target::Audit("/records")),
    route(Method::GET,    "/audit/records/{seq}", AUDIT, Target::Audit("/records/{seq}")),
    route(Method::GET,    "/audit/records/{seq}/proof", Access::AnyScope, Target::Audit("/records/{seq}/proof")),
    route(Method::GET,    "/audit/consistency",   Access::AnyScope, Target::Audit("/consistency")),
    route(Method::GET,    "/audit/tile/{*path}",  AUDIT, Target::Audit("/tile/{*path}")),
    route(Method::GET,    "/audit/checkpoint",    Access::AnyScope, Target::Audit("/checkpoint")),
    route(Method::GET,    "/audit/key",           Access::AnyScope, Target::Audit("/key")),
    route(Method::GET,    "/audit/keys",          Access::AnyScope, Target::Audit("/keys")),
    route(Method::GET,    "/echo/resource",       Access::AnyKey, Target::Echo),
    route(Method::GET,    "/healthz",             Access::Open,   Target::Health),
    route(Method::GET,    "/readyz",              Access::Open,   Target::Health),
    route(Method::GET,    "/openapi.json",        Access::Open,   Target::Document),
    route(Method::GET,    "/docs",                Access::Open,   Target::Docs),
    route(Method::GET,    "/docs/{file}",         Access::Open,   Target::DocsFile),
];

impl Route {
    /// Whether its requests have a body that is read.
    pub fn has_body(&self) -> bool {
        self.method == Method::POST || self.method == Method::PUT
    }

    /// Whether it changes something, so that a failure must say what became of it.
    pub fn is_command(&self) -> bool {
        matches!(self.access, Access::Scope(Scope::PatientWrite | Scope::PatientErase))
    }

    /// The template of what is asked for at the upstream.
    pub(crate) fn onward(&self) -> &'static str {
        match self.target {
            Target::Audit(path) => path,
            _ => self.path,
        }
    }

    /// With which others its requests share places. Histories are read from the ledger page by page.
    pub fn compartment(&self) -> Compartment {
        match self.path {
            _ if self.is_command() => Compartment::Commands,
            _ if matches!(self.target, Target::Audit(_)) => Compartment::Ledger,
            SEARCH | HISTORY | ACTIVITY | ALL_ACTIVITY | AUDIT_EVENTS => Compartment::Searches,
            _ => Compartment::Reads,
        }
    }

    /// Whether its requests may ask to wait for an answer.
    pub fn long_poll(&self) -> bool {
        self.target == Target::Audit("/records")
    }

    /// The upstream's path: its template, filled with the varying segments of a public path.
    pub(crate) fn fill(&self, template: &str, path: &str) -> String {
        let varying = |part: &&str| part.starts_with('{');
        let mut values = self
            .path
            .split('/')
            .zip(path.split('/'))
            .filter(|(part, _)| varying(part))
            .map(|(_, value)| value);
        let mut filled = String::with_capacity(template.len() + MAX_SEGMENT_BYTES);
        for part in template.split('/').skip(1) {
            filled.push('/');
            if part.starts_with("{*") {
                let fixed = self.path.split('/').count() - 1;
                push_rest(&mut filled, path.splitn(fixed + 1, '/').nth(fixed).unwrap_or(NO_ID));
            } else if varying(&part) {
                push_segment(&mut filled, values.next().unwrap_or(NO_ID));
            } else {
                filled.push_str(part);
            }
        }
        filled
    }
}

fn push_segment(path: &mut String, segment: &str) {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    match percent_decode_str(segment).decode_utf8() {
        Ok(decoded)
            if (1..=MAX_SEGMENT_BYTES).contains(&decoded.len()) && decoded.bytes().all(plain) =>
        {
            path.push_str(&decoded);
        }
        _ => path.push_str(NO_ID),
    }
}

/// What follows a prefix, if it can be the path of a tile: no dots but one within a segment.
fn push_rest(path: &mut String, rest: &str) {
    let plain = |segment: &str| {
        let id = segment.strip_suffix(".p").unwrap_or(segment);
        !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    let is_tile = rest.len() <= MAX_SEGMENT_BYTES && rest.split('/').all(plain);
    path.push_str(if is_tile { rest } else { NO_ID });
}

/// The routes that need the gateway to be there.
pub(crate) fn router(gateway: Arc<Gateway>) -> Router {
    // Observed by their own handlers, which know the route: a layer costs as much as the key check.
    let mut guarded = Router::new();
    let mut open = Router::new();
    for route in ROUTES {
        match route.target {
            Target::Patients | Target::Audit(_) | Target::Echo => {
                guarded = guarded.route(route.path, through_the_gateway(route));
            }
            Target::Document => open = open.route(route.path, get(docs::openapi)),
            Target::Docs => open = open.route(route.path, get(docs::page)),
            Target::DocsFile => open = open.route(route.path, get(docs::file)),
            // Both routes are there before: see `door`.
            Target::Health => {}
        }
    }
    let observe = from_fn_with_state(Arc::clone(&gateway.metrics), observe_matched);
    let open = open.fallback(fallback_404).method_not_allowed_fallback(fallback_405).layer(observe);
    guarded.method_not_allowed_fallback(not_allowed).with_state(gateway).merge(open)
}

/// The whole public service: health, and what the gate is opened with.
pub(crate) fn door(
    gate: &Gate,
    readiness: Readiness,
    metrics: &Arc<Metrics>,
    edge: &EdgeSettings,
) -> impl App + use<> {
    let observe = from_fn_with_state(Arc::clone(metrics), observe_matched);
    let health = gate.health(readiness).method_not_allowed_fallback(fallback_405).layer(observe);
    let gate = gate.clone();
    let app = service_fn(move |request: Request| {
        let is_health = ROUTES
            .iter()
            .any(|route| route.target == Target::Health && route.path == request.uri().path());
        let mut app = if is_health { health.clone() } else { gate.routes() };
        app.call(request)
    });
    let app = cors::shared(app, &edge.cors_origins);
    // Outside of routing, because the path decides about the route.
    let (proxies, tls) = (Arc::new(edge.trusted_proxies.clone()), edge.tls.is_some());
    service_fn(move |request| {
        let request = with_client_address(&proxies, without_trailing_slash(request));
        let mut app = app.clone();
        app.call(request).map_ok(move |response| secured(response, tls))
    })
}

fn through_the_gateway(route: &'static Route) -> MethodRouter<Arc<Gateway>> {
    let filter =
        MethodFilter::try_from(route.method.clone()).expect("the table has no other methods");
    on(
        filter,
        async move |State(gateway): State<Arc<Gateway>>,
                    ConnectInfo(peer): ConnectInfo<SocketAddr>,
                    request: Request| {
            let answer = |request| gateway.answer(route, peer.ip(), request);
            observe(&gateway.metrics, route.path, request, answer).await
        },
    )
}

async fn not_allowed(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let answer = |_| fallback_405().map(IntoResponse::into_response);
    observe(&gateway.metrics, template(&request), request, answer).await
}

/// A trailing slash is accepted everywhere (contract).
fn without_trailing_slash(mut request: Request) -> Request {
    let uri = request.uri();
    let Some(path) = uri.path().strip_suffix('/').filter(|path| !path.is_empty()) else {
        return request;
    };
    let path_and_query = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = path_and_query.parse().ok();
    // It cannot fail, as the parts come from a URI; the request would go on as it was.
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}

/// What every answer says to browsers, unless its handler said otherwise: patient data is not to be
/// kept, sniffed, framed, embedded or referred to, and where there is TLS, nothing goes without it.
fn secured(mut response: Response, tls: bool) -> Response {
    const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
    const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
    const NOTHING: HeaderValue =
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(NO_STORE);
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(NOTHING);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    if tls {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(template: &str, upstream: &str, path: &str, expected: &str) {
        let route = ROUTES.iter().find(|route| route.path == template).expect("a route");
        assert_eq!(route.fill(upstream, path), expected, "{path}");
    }

    #[test]
    fn an_upstream_sees_ids_or_nothing_of_a_path() {
        check(PATIENT, PATIENT, "/patient/6F96-1", "/patient/6F96-1");
        check(TEST, TEST, "/patient/a/tests/b", "/patient/a/tests/b");
        check("/audit/records/{seq}", "/records/{seq}", "/audit/records/7", "/records/7");
        check("/audit/records", "/records", "/audit/records", "/records");
        let (proof, upstream) = ("/audit/records/{seq}/proof", "/records/{seq}/proof");
        check(proof, upstream, "/audit/records/7/proof", "/records/7/proof");
        let (tile, upstream) = ("/audit/tile/{*path}", "/tile/{*path}");
        for path in ["0/000", "1/x001/067.p/5", "entries/x001/x234/067.p/255"] {
            check(tile, upstream, &format!("/audit/tile/{path}"), &format!("/tile/{path}"));
        }
        for evil in [
            "..",
            "../records",
            "0/../../records",
            "0/%2e%2e/1",
            "0//1",
            "0/.p/1",
            "0/.",
            "0/000?x",
            "0/000%2F1",
            "",
            &"0/".repeat(40),
        ] {
            check(tile, upstream, &format!("/audit/tile/{evil}"), "/tile/-");
        }
        check(PATIENT, PATIENT, "/patient/%36%2d1", "/patient/6-1");
        for evil in
            ["", "..", "%2e%2e", ".", "%2F", "a%2fb", "%", "%ff", "a;b", "%3f", &"x".repeat(65)]
        {
            check(TESTS, TESTS, &format!("/patient/{evil}/tests"), "/patient/-/tests");
        }
    }
}
