//! No key shows anywhere.

use http::Method;

use crate::harness::{
    BARE, CANARY, CLINIC, COMPLIANCE, Door, KEY_HEADER, READER, Upstream, got, logs, problem,
};

#[tokio::test]
async fn keys_are_in_no_log_and_no_answer() {
    let patients = Upstream::answering(|_| problem(http::StatusCode::NOT_FOUND));
    let door = Door::before(patients.await, |_| {}).await;
    let wrong = "canary-wrong";
    for key in [CLINIC, READER, COMPLIANCE, BARE, wrong] {
        for path in ["/patient/1", "/patient", "/audit/key", "/echo/resource", "/none", "/docs"] {
            for method in [Method::GET, Method::POST, Method::PATCH] {
                let in_query = format!("{path}/?a=1&subscription-key={key}");
                for request in [
                    door.request(method.clone(), path).header(KEY_HEADER, key),
                    door.request(method.clone(), &in_query),
                ] {
                    let answer = got(request.body("{}")).await;
                    assert!(!answer.text.contains(CANARY), "{answer:?}");
                    assert!(!format!("{:?}", answer.headers).contains(CANARY), "{answer:?}");
                }
            }
        }
    }
    assert!(door.patients.count() > 0);
    for seen in door.patients.seen() {
        assert!(!seen.uri.contains(CANARY), "{}", seen.uri);
    }
    let logs = logs();
    assert!(logs.contains("request answered"), "nothing was logged");
    let line = logs.lines().find(|line| line.contains(CANARY));
    assert_eq!(line, None);
}
