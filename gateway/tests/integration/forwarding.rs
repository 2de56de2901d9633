//! What goes through in both directions, and what does not.

use axum::body::Body;
use axum::response::Response;
use http::{Method, StatusCode};

use crate::harness::{
    AUDIT_SERVICE_KEY, CLINIC, COMPLIANCE, Door, KEY_HEADER, PATIENTS_SERVICE_KEY, Upstream, got,
    problem,
};

const ID: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";

#[tokio::test]
async fn an_upstream_sees_the_gateways_word_and_never_the_clients() {
    let door = Door::open().await;
    let request = door
        .clinic(Method::PUT, &format!("/patient/{ID}?subscription-key={CLINIC}&a=%20b"))
        .header("x-vitalog-actor", r#"{"id":"evil","kind":"service"}"#)
        .header("X-Vitalog-Client", "6.6.6.6")
        .header("x-functions-key", "evil")
        .header("x-vitalog-anything", "evil")
        .header("x-forwarded-for", "6.6.6.6")
        .header("forwarded", "for=6.6.6.6")
        .header("authorization", "Bearer evil")
        .header("cookie", "evil")
        .header("baggage", "evil")
        .header("connection", "x-functions-key, x-vitalog-actor")
        .header("content-type", "text/plain; charset=utf-8")
        .header("accept", "application/json")
        .header("if-match", "\"3\"")
        .header("if-none-match", "\"4\"")
        .header("idempotency-key", "once")
        .header("prefer", "return=minimal")
        .header("purpose-of-use", "ETREAT")
        .body(" {\"id\" : 1} ");
    assert_eq!(got(request).await.status, 200);

    let seen = door.patients.last();
    assert_eq!(seen.method, Method::PUT);
    assert_eq!(seen.uri, format!("/patient/{ID}?a=%20b"));
    assert_eq!(seen.body, " {\"id\" : 1} ");
    for (name, value) in [
        ("x-functions-key", PATIENTS_SERVICE_KEY),
        ("x-vitalog-actor", r#"{"id":"clinic","kind":"subscription"}"#),
        ("x-vitalog-client", "127.0.0.1"),
        ("content-type", "text/plain; charset=utf-8"),
        ("accept", "application/json"),
        ("if-match", "\"3\""),
        ("if-none-match", "\"4\""),
        ("idempotency-key", "once"),
        ("prefer", "return=minimal"),
        ("purpose-of-use", "ETREAT"),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name}");
        assert_eq!(seen.headers.get_all(name).iter().count(), 1, "{name}");
    }
    let mut names: Vec<_> = seen.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "accept",
            "content-length",
            "content-type",
            "host",
            "idempotency-key",
            "if-match",
            "if-none-match",
            "prefer",
            "purpose-of-use",
            "traceparent",
            "x-functions-key",
            "x-vitalog-actor",
            "x-vitalog-client",
        ]
    );
}

#[tokio::test]
async fn the_ledger_is_read_with_a_key_of_its_own_under_its_own_paths() {
    let door = Door::open().await;
    for (path, uri) in [
        ("/audit/records?from=3&limit=2&wait=0", "/records?from=3&limit=2&wait=0"),
        ("/audit/records/7", "/records/7"),
        ("/audit/records/batch", "/records/batch"),
        ("/audit/records/7/proof?size=latest", "/records/7/proof?size=latest"),
        ("/audit/consistency?from=3&to=7", "/consistency?from=3&to=7"),
        ("/audit/tile/0/x001/067.p/5", "/tile/0/x001/067.p/5"),
        ("/audit/tile/entries/000/", "/tile/entries/000"),
        ("/audit/tile/0/..%2f..%2frecords", "/tile/-"),
        ("/audit/checkpoint", "/checkpoint"),
        ("/audit/checkpoint?witnessed=true", "/checkpoint?witnessed=true"),
        ("/audit/key/?subscription-key=x", "/key"),
        ("/audit/keys", "/keys"),
    ] {
        let request = door.request(Method::GET, path).header(KEY_HEADER, COMPLIANCE);
        assert_eq!(got(request).await.status, 200, "{path}");
        let seen = door.audit.last();
        assert_eq!(seen.uri, uri);
        assert_eq!(seen.header("x-functions-key"), Some(AUDIT_SERVICE_KEY));
        assert!(seen.header("x-vitalog-actor").unwrap().contains("compliance"));
    }
    assert_eq!(door.patients.count(), 0);
}

#[tokio::test]
async fn no_path_leads_to_a_route_that_is_not_public() {
    let door = Door::open().await;
    for path in [
        "/audit/records/..%2Fcommands",
        "/audit/records/%2e%2e",
        "/patient/%2e%2e/tests",
        "/patient/a%3fb",
        "/patient/%00",
    ] {
        // Raw, as a client library would tidy the path up before it leaves.
        let status = raw_get(&door, path).await;
        assert!(status.contains(" 200 ") || status.contains(" 403 "), "{path}: {status}");
    }
    assert_eq!(door.patients.last().uri, "/patient/-");
    let compliance = format!("?subscription-key={COMPLIANCE}");
    raw_get(&door, &format!("/audit/records/%2e%2e{compliance}")).await;
    assert_eq!(door.audit.last().uri, "/records/-");
}

async fn raw_get(door: &Door, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(door.address).await.unwrap();
    let key =
        if path.contains('?') { String::new() } else { format!("{KEY_HEADER}: {CLINIC}\r\n") };
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{key}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_trace_is_continued_and_told() {
    let door = Door::open().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let request = door
        .clinic(Method::GET, &format!("/patient/{ID}"))
        .header("traceparent", &parent)
        .header("tracestate", "a=b");
    let answer = got(request).await;
    let seen = door.patients.last();
    let onward = seen.header("traceparent").unwrap();
    assert!(onward.contains(trace) && onward != parent, "{onward}");
    assert_eq!(seen.header("tracestate"), Some("a=b"));
    assert!(answer.header("traceparent").unwrap().contains(trace));
}

fn talkative(status: StatusCode, body: &'static str) -> Response {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .header("etag", "\"3\"")
        .header("location", "/patient/1")
        .header("link", "<?cursor=1>; rel=\"next\"")
        .header("audit-receipt", "seq=7, hash=\"00\"")
        .header("audit-proof", "p")
        .header("preference-applied", "return=minimal")
        .header("x-projection", "pending")
        .header("vitalog-as-of", "seq=7, version=3")
        .header("cache-control", "public, max-age=60")
        .header("server", "secret-server/1.0")
        .header("x-vitalog-more", "true")
        .header("set-cookie", "a=b")
        .header("x-powered-by", "axum")
        .body(Body::from(body))
        .unwrap()
}

#[tokio::test]
async fn a_client_sees_the_answer_and_nothing_of_the_inside() {
    let patients = Upstream::answering(|_| talkative(StatusCode::CREATED, "{\"a\": 1}")).await;
    let door = Door::before(patients, |_| {}).await;
    let answer = got(door.clinic(Method::POST, "/patient").body("{}")).await;
    assert_eq!((answer.status, answer.text.as_str()), (201, "{\"a\": 1}"));
    for (name, value) in [
        ("content-type", "application/json"),
        ("etag", "\"3\""),
        ("location", "/patient/1"),
        ("link", "<?cursor=1>; rel=\"next\""),
        ("audit-receipt", "seq=7, hash=\"00\""),
        ("audit-proof", "p"),
        ("preference-applied", "return=minimal"),
        ("x-projection", "pending"),
        ("vitalog-as-of", "seq=7, version=3"),
        ("content-length", "8"),
        // Patient data is never to be kept, whatever the service says.
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    for name in ["server", "x-vitalog-more", "set-cookie", "x-powered-by"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    let head = got(door.clinic(Method::HEAD, "/patient/1")).await;
    assert_eq!((head.status, head.header("content-length")), (201, Some("8")));
}

#[tokio::test]
async fn an_upstreams_problem_passes_as_it_is() {
    for status in [400, 404, 409, 410, 412, 413, 422, 500, 503] {
        let code = StatusCode::from_u16(status).unwrap();
        let patients = Upstream::answering(move |_| problem(code)).await;
        let door = Door::before(patients, |_| {}).await;
        let answer = got(door.clinic(Method::GET, "/patient/1")).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.json()["detail"], "from upstream");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
}

#[tokio::test]
async fn an_unchanged_resource_passes_as_304() {
    let patients = Upstream::answering(|_| {
        Response::builder().status(304).header("etag", "\"3\"").body(Body::empty()).unwrap()
    });
    let door = Door::before(patients.await, |_| {}).await;
    let answer = got(door.clinic(Method::GET, "/patient/1").header("if-none-match", "\"3\"")).await;
    assert_eq!((answer.status, answer.header("etag")), (304, Some("\"3\"")));
}
