//! API8, security misconfiguration: what every answer says, and what none does.

use http::Method;

use crate::harness::{CLINIC, Door, Got, KEY_HEADER, Upstream, got, problem};

async fn answers(door: &Door) -> Vec<(String, Got)> {
    let mut answers = Vec::new();
    for path in [
        "/patient/1",
        "/patient",
        "/patient/search",
        "/audit/checkpoint",
        "/audit/records",
        "/echo/resource?a=b",
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/docs",
        "/docs/swagger-ui.css",
        "/none",
    ] {
        for method in [Method::GET, Method::HEAD, Method::POST, Method::OPTIONS, Method::TRACE] {
            for key in [None, Some("canary-wrong"), Some(CLINIC)] {
                let mut request = door
                    .request(method.clone(), path)
                    .header("origin", "https://evil.example")
                    .header("access-control-request-method", "DELETE")
                    .header("access-control-request-headers", KEY_HEADER);
                if let Some(key) = key {
                    request = request.header(KEY_HEADER, key);
                }
                answers.push((format!("{method} {path} {key:?}"), got(request).await));
            }
        }
    }
    answers
}

#[tokio::test]
async fn api8_every_answer_tells_browsers_to_keep_out_and_no_origin_to_come_in() {
    let door = Door::open().await;
    for (what, answer) in answers(&door).await {
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{what}");
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{what}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("frame-ancestors 'none'"), "{what}: {policy}");
        let kept = answer.header("cache-control").unwrap();
        let of_the_program = what.contains("/docs/");
        assert!(kept.contains("no-store") || of_the_program, "{what}: {kept}");
        for name in answer.headers.keys() {
            let name = name.as_str();
            assert!(!name.starts_with("access-control-"), "{what}: {name}");
            let telling = ["server", "x-powered-by", "via", "set-cookie", "x-aspnet-version"];
            assert!(!telling.contains(&name), "{what}: {name}");
        }
        if !what.starts_with("HEAD") && answer.status >= 400 && !what.contains("/readyz") {
            answer.problem(answer.status);
        }
        // A TRACE that came back would show what scripts cannot read.
        assert!(!answer.text.contains("evil.example"), "{what}: {answer:?}");
    }
}

#[tokio::test]
async fn api8_no_error_tells_how_the_gateway_is_made() {
    let door =
        Door::before(Upstream::answering(|_| problem(http::StatusCode::NOT_FOUND)).await, |_| {})
            .await;
    for (what, answer) in answers(&door).await.into_iter().filter(|(_, it)| it.status >= 400) {
        let text = answer.text.to_lowercase();
        for telling in
            ["panicked", ".rs:", "backtrace", "hyper", "axum", "reqwest", "tokio", "rust"]
        {
            assert!(!text.contains(telling), "{what}: {answer:?}");
        }
        assert!(!text.contains(&door.patients.address.port().to_string()), "{what}: {answer:?}");
    }
}
