//! Bounds on what a client may send.

use http::Method;
use runtime::serve::MAX_BODY_BYTES;

use crate::harness::{Door, KEY_HEADER, got};

fn whole(bytes: usize) -> reqwest::Body {
    vec![b'x'; bytes].into()
}

fn chunked(bytes: usize) -> reqwest::Body {
    const PIECE: usize = 64 * 1024;
    let sizes = (0..bytes).step_by(PIECE).map(move |start| PIECE.min(bytes - start));
    let pieces = sizes.map(|size| Ok::<_, std::io::Error>(vec![b'x'; size]));
    reqwest::Body::wrap_stream(futures::stream::iter(pieces.collect::<Vec<_>>()))
}

#[tokio::test]
async fn a_body_of_a_mebibyte_passes_and_one_byte_more_is_413() {
    let door = Door::open().await;
    for make in [whole, chunked] {
        let answer = got(door.clinic(Method::POST, "/patient").body(make(MAX_BODY_BYTES))).await;
        assert_eq!(answer.status, 200);
        assert_eq!(door.patients.last().body.len(), MAX_BODY_BYTES);
        let before = door.patients.count();
        for over in [MAX_BODY_BYTES + 1, 3 * MAX_BODY_BYTES] {
            let answer = got(door.clinic(Method::PUT, "/patient/1").body(make(over))).await;
            assert!(answer.problem(413).contains("1048576"));
        }
        assert_eq!(door.patients.count(), before);
    }
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let door = Door::open().await;
    for make in [whole, chunked] {
        let wrong = door.request(Method::POST, "/patient").header(KEY_HEADER, "canary-wrong");
        got(wrong.body(make(MAX_BODY_BYTES))).await.problem(401);
    }
}

#[tokio::test]
async fn multipart_and_octet_stream_are_415_and_everything_else_passes() {
    let door = Door::open().await;
    for refused in [
        "multipart/form-data; boundary=x",
        "Multipart/Mixed",
        "application/octet-stream",
        "APPLICATION/OCTET-STREAM ; a=b",
    ] {
        let request = door.clinic(Method::POST, "/patient").header("content-type", refused);
        got(request.body("{}")).await.problem(415);
    }
    assert_eq!(door.patients.count(), 0);
    for accepted in ["application/json", "text/plain; charset=utf-8", "x", "application/xml"] {
        let request = door.clinic(Method::POST, "/patient").header("content-type", accepted);
        assert_eq!(got(request.body("{}")).await.status, 200, "{accepted}");
        assert_eq!(door.patients.last().header("content-type"), Some(accepted));
    }
    // Neither the type nor the body is made up where there is none.
    assert_eq!(got(door.clinic(Method::POST, "/patient")).await.status, 200);
    let seen = door.patients.last();
    assert_eq!((seen.header("content-type"), seen.body.len()), (None, 0));
}

#[tokio::test]
async fn the_scope_is_checked_before_what_is_sent() {
    let door = Door::open().await;
    let request = door
        .request(Method::POST, "/patient")
        .header(KEY_HEADER, crate::harness::READER)
        .header("content-type", "multipart/form-data");
    got(request.body(whole(MAX_BODY_BYTES + 1))).await.problem(403);
}

#[tokio::test]
async fn long_addresses_and_headers_are_refused() {
    let door = Door::open().await;
    let long = format!("/patient/1?x={}", "y".repeat(8 * 1024));
    got(door.clinic(Method::GET, &long)).await.problem(414);
    let large = door.clinic(Method::GET, "/patient/1").header("if-match", "z".repeat(16 * 1024));
    got(large).await.problem(431);
    assert_eq!(door.patients.count(), 0);
}
