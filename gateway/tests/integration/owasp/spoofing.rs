//! API5 and API8: headers that other servers believe change nothing here, and reach nobody.

use std::collections::BTreeSet;

use http::Method;

use crate::harness::{CLINIC, Door, Seen, got};

/// Headers that some gateway, proxy, framework or service of this system believes.
const SPOOFED: [(&str, &str); 36] = [
    ("x-functions-key", "spoofed"),
    ("x-vitalog-actor", r#"{"id":"spoofed","kind":"service","roles":["spoofed"]}"#),
    ("x-vitalog-client", "6.6.6.6"),
    ("x-vitalog-anything", "spoofed"),
    ("x-vitalog-", "spoofed"),
    ("x-vitalog_actor", "spoofed"),
    ("x-forwarded-for", "6.6.6.6"),
    ("x-forwarded-for", "127.0.0.1, 6.6.6.6"),
    ("x-forwarded-host", "spoofed"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-prefix", "/spoofed"),
    ("x-forwarded-uri", "/patient/spoofed"),
    ("forwarded", "for=6.6.6.6;host=spoofed"),
    ("via", "1.1 spoofed"),
    ("x-real-ip", "6.6.6.6"),
    ("true-client-ip", "6.6.6.6"),
    ("cf-connecting-ip", "6.6.6.6"),
    ("x-client-ip", "6.6.6.6"),
    ("x-cluster-client-ip", "6.6.6.6"),
    ("x-azure-clientip", "6.6.6.6"),
    ("x-original-url", "/patient/spoofed"),
    ("x-rewrite-url", "/patient/spoofed"),
    ("x-original-method", "DELETE"),
    ("x-http-method-override", "DELETE"),
    ("x-http-method", "DELETE"),
    ("x-method-override", "DELETE"),
    ("x-user", "spoofed"),
    ("x-remote-user", "spoofed"),
    ("x-ms-client-principal", "spoofed"),
    ("x-ms-client-principal-id", "spoofed"),
    ("x-arr-ssl", "spoofed"),
    ("cookie", "spoofed=1"),
    ("range", "bytes=0-1"),
    ("expect", "100-continue"),
    ("max-forwards", "0"),
    ("baggage", "spoofed=1"),
];

/// Headers that a connection is told to take away: the gateway's own must not be among them.
const HOP_BY_HOP: [&str; 4] = [
    "x-functions-key",
    "x-vitalog-actor",
    "x-vitalog-client, x-functions-key",
    "close, traceparent",
];

/// Everything that an upstream was told, but for what is each request's own.
fn told(seen: &Seen) -> BTreeSet<(String, String)> {
    let own = |name: &str| name == "traceparent";
    let headers = seen.headers.iter().filter(|(name, _)| !own(name.as_str()));
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut told: BTreeSet<_> =
        headers.map(|(name, value)| (name.to_string(), text(value))).collect();
    told.insert((seen.method.to_string(), seen.uri.clone()));
    told.insert(("body".to_owned(), text(&http::HeaderValue::from_bytes(&seen.body).unwrap())));
    told
}

#[tokio::test]
async fn api8_spoofed_headers_change_nothing_that_an_upstream_is_told() {
    let door = Door::open().await;
    for (method, path) in [(Method::GET, "/patient/1"), (Method::POST, "/patient")] {
        let request = || {
            let request = door.clinic(method.clone(), path);
            if method == Method::POST { request.body("{\"a\":1}") } else { request }
        };
        assert_eq!(got(request()).await.status, 200);
        let honest = told(&door.patients.last());
        for (name, value) in SPOOFED {
            for name in [name.to_owned(), name.to_uppercase()] {
                let before = door.patients.count();
                let answer = got(request().header(&name, value)).await;
                assert_eq!(answer.status, 200, "{name}: {answer:?}");
                assert_eq!(door.patients.count(), before + 1, "{name}");
                assert_eq!(told(&door.patients.last()), honest, "{name}");
                assert!(!format!("{answer:?}").contains("spoofed"), "{name}: {answer:?}");
            }
        }
        for named in HOP_BY_HOP {
            assert_eq!(got(request().header("connection", named)).await.status, 200, "{named}");
            let seen = door.patients.last();
            assert_eq!(told(&seen), honest, "{named}");
            assert!(seen.header("traceparent").is_some(), "{named}");
        }
        let mut all = request();
        for (name, value) in SPOOFED {
            all = all.header(name, value);
        }
        assert_eq!(got(all).await.status, 200);
        assert_eq!(told(&door.patients.last()), honest);
    }
}

#[tokio::test]
async fn api8_spoofed_headers_open_nothing() {
    let door = Door::open().await;
    for (method, path) in
        [(Method::GET, "/patient/1"), (Method::GET, "/audit/records"), (Method::GET, "/records")]
    {
        let mut request = door.request(method, path);
        for (name, value) in SPOOFED {
            request = request.header(name, value);
        }
        let answer = got(request).await;
        assert!([401, 404].contains(&answer.status), "{path}: {answer:?}");
    }
    // A scope is not to be had either.
    let mut request = door.clinic(Method::GET, "/audit/records");
    for (name, value) in SPOOFED {
        request = request.header(name, value);
    }
    got(request).await.problem(403);
    assert_eq!(door.patients.count() + door.audit.count(), 0);
}

#[tokio::test]
async fn api8_a_trailing_query_or_an_override_in_it_changes_nothing() {
    let door = Door::open().await;
    for query in ["_method=DELETE", "method=DELETE", "x-http-method-override=DELETE", "debug=true"]
    {
        let path = format!("/patient/1?subscription-key={CLINIC}&{query}");
        assert_eq!(got(door.request(Method::GET, &path)).await.status, 200);
        let seen = door.patients.last();
        assert_eq!((seen.method, seen.uri), (Method::GET, format!("/patient/1?{query}")));
    }
}
