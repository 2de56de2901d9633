//! What pages of other origins may do.

use http::Method;

use crate::harness::{CLINIC, Door, Got, KEY_HEADER, Upstream, got};

const PORTAL: &str = "https://portal.example";

async fn door_for_portal() -> Door {
    let change = |settings: &mut gateway::config::Settings| {
        settings.edge.cors_origins = vec![PORTAL.parse().unwrap()];
    };
    Door::before(Upstream::start().await, change).await
}

/// The question that a browser asks before it sends a key along.
async fn preflight(door: &Door, origin: &str) -> Got {
    let request = door
        .request(Method::OPTIONS, "/patient/1")
        .header("origin", origin)
        .header("access-control-request-method", "PUT")
        .header("access-control-request-headers", "ocp-apim-subscription-key,if-match");
    got(request).await
}

async fn read(door: &Door, origin: &str) -> Got {
    let request = door.request(Method::GET, "/patient/1").header(KEY_HEADER, CLINIC);
    got(request.header("origin", origin)).await
}

fn cors_headers(answer: &Got) -> Vec<&str> {
    let names = answer.headers.keys().map(http::HeaderName::as_str);
    names.filter(|name| name.starts_with("access-control-")).collect()
}

#[tokio::test]
async fn without_origins_nothing_is_said() {
    let door = Door::open().await;
    let asked = preflight(&door, PORTAL).await;
    asked.problem(405);
    assert!(cors_headers(&asked).is_empty() && asked.header("vary").is_none(), "{asked:?}");
    let answer = read(&door, PORTAL).await;
    assert_eq!(answer.status, 200);
    assert!(cors_headers(&answer).is_empty() && answer.header("vary").is_none(), "{answer:?}");
}

#[tokio::test]
async fn a_named_origin_may_use_the_api_with_its_own_key() {
    let door = door_for_portal().await;
    let asked = preflight(&door, PORTAL).await;
    assert_eq!(asked.status, 200);
    assert_eq!(asked.header("access-control-allow-origin"), Some(PORTAL));
    let list = |name| asked.header(name).unwrap().to_ascii_lowercase();
    for method in ["get", "head", "post", "put", "delete"] {
        assert!(list("access-control-allow-methods").contains(method), "{method}");
    }
    for header in [
        "ocp-apim-subscription-key",
        "authorization",
        "content-type",
        "idempotency-key",
        "if-match",
        "prefer",
        "purpose-of-use",
    ] {
        assert!(list("access-control-allow-headers").contains(header), "{header}");
    }
    assert_eq!(door.patients.count(), 0);

    let answer = read(&door, PORTAL).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), Some(PORTAL));
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    let exposed = answer.header("access-control-expose-headers").unwrap();
    for header in ["audit-receipt", "audit-proof", "etag", "location", "retry-after"] {
        assert!(exposed.contains(header), "{header}");
    }
    assert!(answer.header("vary").unwrap().contains("origin"));
    // A refusal can be read by the page, too.
    let refused = got(door.request(Method::GET, "/patient/1").header("origin", PORTAL)).await;
    assert_eq!(
        (refused.status, refused.header("access-control-allow-origin")),
        (401, Some(PORTAL))
    );
}

#[tokio::test]
async fn other_origins_may_nothing() {
    let door = door_for_portal().await;
    for origin in
        ["https://evil.example", "https://portal.example.evil", "http://portal.example", "null"]
    {
        assert_eq!(preflight(&door, origin).await.header("access-control-allow-origin"), None);
        assert_eq!(read(&door, origin).await.header("access-control-allow-origin"), None);
    }
}

#[tokio::test]
async fn only_a_preflight_is_answered_as_one() {
    let door = door_for_portal().await;
    let method = ("access-control-request-method", "PUT");
    for (headers, path, status) in [
        (&[][..], "/patient/1", 405),
        (&[], "/none", 404),
        (&[("origin", PORTAL)], "/patient/1", 405),
        (&[("origin", PORTAL)], "/none", 404),
        (&[method], "/patient/1", 405),
        (&[method], "/none", 404),
    ] {
        let mut request = door.request(Method::OPTIONS, path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = got(request).await;
        answer.problem(status);
        assert!(cors_headers(&answer).is_empty(), "{headers:?} {path} {answer:?}");
    }
}
