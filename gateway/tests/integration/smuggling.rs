//! One request is one request: whatever a client writes on the wire, the upstream sees at most
//! that, as one reading of it says, and the next request is not changed by what came before.

mod http2;

use std::time::Duration;

use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{CLINIC, Door, got};

/// How long an answer may take; what is refused by closing is seen at once.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the attacks try to get to the upstream. It carries no key: as a request of its own the
/// gateway refuses it, so that an upstream that sees it saw it smuggled.
const SMUGGLED: &str = "GET /patient/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// What a message may come to.
#[derive(Clone, Copy, Debug)]
enum Reading {
    /// Nothing of it passes.
    Refused,
    /// Refused, or passed with exactly this body.
    Body(&'static str),
}

use Reading::{Body, Refused};

fn keyed(head: &str, rest: &str) -> String {
    format!("{head}\r\nHost: a\r\nOcp-Apim-Subscription-Key: {CLINIC}\r\n{rest}")
}

fn post(rest: &str) -> String {
    keyed("POST /patient HTTP/1.1", rest)
}

fn get(rest: &str) -> String {
    keyed("GET /patient/1 HTTP/1.1", rest)
}

/// An honest request that ends the connection.
fn next() -> String {
    keyed("GET /patient/next HTTP/1.1", "Connection: close\r\n\r\n")
}

/// Writes bytes on a new connection, and returns what came back until it was closed.
async fn exchange(door: &Door, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(door.address).await.unwrap();
    // A peer that has refused already may have closed.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    // A reset ends it, too.
    let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "neither answered nor closed: {}", String::from_utf8_lossy(bytes));
    answer
}

/// Sends a message and, on the same connection and on a new one, an honest one after it.
async fn check(door: &Door, name: &str, message: &str, reading: Reading) {
    let before = door.patients.count();
    let answer = exchange(door, format!("{message}{}", next()).as_bytes()).await;
    let answer = String::from_utf8_lossy(&answer);
    let seen = door.patients.seen().split_off(before);
    let (after, seen): (Vec<_>, Vec<_>) =
        seen.into_iter().partition(|one| one.uri == "/patient/next");
    assert!(after.len() <= 1 && after.iter().all(|one| one.body.is_empty()), "{name}: {after:?}");
    match reading {
        Refused => {
            assert_eq!(seen.len(), 0, "{name}: {seen:?}");
            assert!(!answer.starts_with("HTTP/1.1 2"), "{name}: {answer}");
        }
        Body(body) => {
            assert!(seen.len() <= 1, "{name}: {seen:?}");
            assert!(seen.iter().all(|one| one.body == body), "{name}: {seen:?}");
        }
    }
    honest(door, name, before).await;
}

/// Whatever upstreams have seen of late is what the gateway makes of a request, and the next one
/// on its connection to them is as it was sent.
async fn honest(door: &Door, name: &str, before: usize) {
    let next = got(door.clinic(Method::GET, "/patient/next")).await;
    assert_eq!(next.status, 200, "{name}");
    let last = door.patients.last();
    assert_eq!((last.method.clone(), last.uri.as_str()), (Method::GET, "/patient/next"), "{name}");
    assert!(last.body.is_empty(), "{name}: {last:?}");
    for one in &door.patients.seen()[before..] {
        assert!(["/patient", "/patient/1", "/patient/next"].contains(&one.uri.as_str()), "{one:?}");
        assert_eq!(one.header("host"), Some(door.patients.address.to_string().as_str()), "{name}");
        let actor = r#"{"id":"clinic","kind":"subscription"}"#;
        assert_eq!(one.header("x-vitalog-actor"), Some(actor), "{name}");
        assert!(!format!("{:?}", one.headers).contains("smuggled"), "{name}: {one:?}");
        // One way alone to tell where a body ends.
        let ways = ["content-length", "transfer-encoding"];
        let ways = ways.map(|header| one.headers.get_all(header).iter().count());
        assert!(ways.iter().sum::<usize>() <= 1, "{name}: {one:?}");
    }
    assert_eq!(door.audit.count(), 0, "{name}");
}

#[tokio::test]
async fn bodies_of_two_lengths_are_refused_or_have_one_reading() {
    let door = Door::open().await;
    let smuggled = SMUGGLED;
    let length = smuggled.len();
    for (name, message, reading) in [
        (
            "CL.TE",
            post(&format!(
                "Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}",
                length + 5
            )),
            Body(""),
        ),
        (
            "TE.CL",
            post(&format!(
                "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{length:x}\r\n{smuggled}\r\n0\r\n\r\n"
            )),
            Body(SMUGGLED),
        ),
        (
            "two lengths, the shorter first",
            post(&format!("Content-Length: 0\r\nContent-Length: {length}\r\n\r\n{smuggled}")),
            Refused,
        ),
        (
            "two lengths, the longer first",
            post(&format!("Content-Length: {length}\r\nContent-Length: 0\r\n\r\n{smuggled}")),
            Refused,
        ),
        (
            "two lengths in one",
            post(&format!("Content-Length: 0, {length}\r\n\r\n{smuggled}")),
            Refused,
        ),
        ("a signed length", post(&format!("Content-Length: +{length}\r\n\r\n{smuggled}")), Refused),
        ("a negative length", post(&format!("Content-Length: -1\r\n\r\n{smuggled}")), Refused),
        (
            "a length in hexadecimal",
            post(&format!("Content-Length: 0x0\r\n\r\n{smuggled}")),
            Refused,
        ),
        (
            "a length past 64 bits",
            post(&format!("Content-Length: 18446744073709551616\r\n\r\n{smuggled}")),
            Refused,
        ),
        ("an empty length", post(&format!("Content-Length: \r\n\r\n{smuggled}")), Refused),
        (
            "chunked is not the last coding",
            post(&format!("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{smuggled}")),
            Refused,
        ),
        (
            "an unknown coding",
            post(&format!("Transfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n{smuggled}")),
            Refused,
        ),
        (
            "a coding with a vertical tab",
            post(&format!(
                "Transfer-Encoding: \u{b}chunked\r\nContent-Length: 0\r\n\r\n{smuggled}"
            )),
            Refused,
        ),
        (
            "chunked twice",
            post(&format!(
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
            )),
            Body(""),
        ),
        (
            "a coding in HTTP/1.0",
            keyed(
                "POST /patient HTTP/1.0",
                &format!(
                    "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n{smuggled}"
                ),
            ),
            Body(""),
        ),
        (
            "a body that GET has no use for",
            get(&format!("Content-Length: {length}\r\n\r\n{smuggled}")),
            Body(""),
        ),
        (
            "a chunked body that GET has no use for",
            get(&format!(
                "Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{smuggled}\r\n0\r\n\r\n"
            )),
            Body(""),
        ),
    ] {
        check(&door, name, &message, reading).await;
    }
}

#[tokio::test]
async fn chunks_of_a_wrong_form_are_refused_or_have_one_reading() {
    let door = Door::open().await;
    let smuggled = SMUGGLED;
    let long = "x".repeat(20_000);
    for (name, chunks, reading) in [
        ("an extension", "2;a=b\r\n{}\r\n0\r\n\r\n".to_owned(), Body("{}")),
        ("a quoted extension", "2;a=\"\r\n{}\r\n0\r\n\r\n".to_owned(), Body("{}")),
        ("an endless extension", format!("2;{long}\r\n{{}}\r\n0\r\n\r\n"), Body("{}")),
        (
            "an extension that ends with a bare LF",
            format!("2;a\n{{}}\r\n0\r\n\r\n{smuggled}"),
            Refused,
        ),
        ("leading zeros", "0000000002\r\n{}\r\n0\r\n\r\n".to_owned(), Body("{}")),
        (
            "a size past 64 bits",
            format!("10000000000000002\r\n{{}}\r\n0\r\n\r\n{smuggled}"),
            Refused,
        ),
        ("a negative size", format!("-2\r\n{{}}\r\n0\r\n\r\n{smuggled}"), Refused),
        ("a size with a prefix", format!("0x2\r\n{{}}\r\n0\r\n\r\n{smuggled}"), Refused),
        ("an empty size", format!("\r\n{{}}\r\n0\r\n\r\n{smuggled}"), Refused),
        ("a size with trailing garbage", format!("2 zz\r\n{{}}\r\n0\r\n\r\n{smuggled}"), Refused),
        ("a chunk longer than its size", format!("2\r\n{{}}xx\r\n0\r\n\r\n{smuggled}"), Refused),
        ("a chunk that ends with a bare LF", format!("2\r\n{{}}\n0\r\n\r\n{smuggled}"), Refused),
        ("sizes that end with a bare LF", format!("2\n{{}}\n0\n\n{smuggled}"), Refused),
        (
            "trailers",
            "2\r\n{}\r\n0\r\nx-vitalog-actor: smuggled\r\ncontent-length: 9\r\n\r\n".to_owned(),
            Body("{}"),
        ),
    ] {
        let message = post(&format!("Transfer-Encoding: chunked\r\n\r\n{chunks}"));
        check(&door, name, &message, reading).await;
    }
}

#[tokio::test]
async fn what_has_no_end_is_not_passed_on() {
    let door = Door::open().await;
    for (name, rest) in [
        ("the largest chunk", format!("ffffffffffffffff\r\n{SMUGGLED}")),
        ("a chunk that breaks off", format!("{:x}\r\n{SMUGGLED}", SMUGGLED.len() + 1)),
        ("no last chunk", format!("{:x}\r\n{SMUGGLED}\r\n", SMUGGLED.len())),
    ] {
        let message = post(&format!("Transfer-Encoding: chunked\r\n\r\n{rest}"));
        let mut stream = TcpStream::connect(door.address).await.unwrap();
        stream.write_all(message.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // A reset ends it, too.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it ends");
        assert_eq!(door.patients.count(), 0, "{name}");
    }
    honest(&door, "the next", 0).await;
}

#[tokio::test]
async fn lines_of_a_wrong_form_are_refused_or_have_one_reading() {
    let door = Door::open().await;
    let smuggled = SMUGGLED;
    for (name, message, reading) in [
        ("a folded line", get("X-A: b\r\n X-Vitalog-Actor: smuggled\r\n\r\n"), Refused),
        ("a folded first line", get("\r\n").replace("Host: a", " Host: a"), Refused),
        (
            "a folded coding",
            post(&format!("Transfer-Encoding:\r\n chunked\r\nContent-Length: 0\r\n\r\n{smuggled}")),
            Refused,
        ),
        (
            "a blank before the colon",
            post(&format!("Content-Length : 5\r\n\r\n{smuggled}")),
            Refused,
        ),
        (
            "a blank in a name",
            post(&format!("Transfer Encoding: chunked\r\nContent-Length: 0\r\n\r\n{smuggled}")),
            Refused,
        ),
        ("a NUL in a value", get("X-A: a\0b\r\n\r\n"), Refused),
        ("a bare CR in a value", get("X-A: a\rX-Vitalog-Actor: smuggled\r\n\r\n"), Refused),
        ("a line without a colon", get("smuggled\r\n\r\n"), Refused),
        ("an empty name", get(": a\r\n\r\n"), Refused),
        // A bare LF ends a line (RFC 9112 §2.2): the header is one of its own, and is left out.
        ("a bare LF in a value", get("X-A: a\nX-Vitalog-Actor: smuggled\r\n\r\n"), Body("")),
        ("bare LFs alone", get("\r\n").replace("\r\n", "\n"), Body("")),
        ("a NUL in a path", keyed("GET /patient/\0smuggled HTTP/1.1", "\r\n"), Refused),
        ("a blank in a path", keyed("GET /patient/1 smuggled HTTP/1.1", "\r\n"), Refused),
        ("an unknown version", keyed("GET /patient/1 HTTP/1.2", "\r\n"), Refused),
        ("no version", format!("GET /patient/smuggled?subscription-key={CLINIC}\r\n\r\n"), Refused),
        ("a method with a colon", keyed("GET:x /patient/1 HTTP/1.1", "\r\n"), Refused),
    ] {
        check(&door, name, &message, reading).await;
    }
}

#[tokio::test]
async fn a_target_in_another_form_leads_nowhere_else() {
    let door = Door::open().await;
    let elsewhere = "http://smuggled.example";
    for (name, message, reading) in [
        (
            "another host in the target",
            keyed(&format!("GET {elsewhere}/patient/1 HTTP/1.1"), "\r\n"),
            Body(""),
        ),
        ("another scheme", keyed("GET gopher://smuggled/patient/1 HTTP/1.1", "\r\n"), Body("")),
        (
            "a user in the target",
            keyed("GET http://a@smuggled/patient/1 HTTP/1.1", "\r\n"),
            Body(""),
        ),
        ("an authority", keyed("GET smuggled:80 HTTP/1.1", "\r\n"), Refused),
        ("a tunnel", keyed("CONNECT smuggled:80 HTTP/1.1", "\r\n"), Refused),
        ("the server itself", keyed("OPTIONS * HTTP/1.1", "\r\n"), Refused),
        ("an asterisk", keyed("GET * HTTP/1.1", "\r\n"), Refused),
        ("no slash", keyed("GET patient/1 HTTP/1.1", "\r\n"), Refused),
        ("two slashes", keyed("GET //patient/1 HTTP/1.1", "\r\n"), Refused),
        ("a dotted path", keyed("GET /docs/../patient/1 HTTP/1.1", "\r\n"), Refused),
        ("a backslash", keyed("GET \\patient\\1 HTTP/1.1", "\r\n"), Refused),
        ("a fragment", keyed("GET /patient/1#smuggled HTTP/1.1", "\r\n"), Body("")),
        ("two hosts", get("Host: smuggled\r\n\r\n"), Body("")),
        ("a host that is none", get("\r\n").replace("Host: a", "Host: smuggled/x@y"), Body("")),
        ("no host", get("\r\n").replace("Host: a\r\n", ""), Body("")),
    ] {
        check(&door, name, &message, reading).await;
    }
}

#[tokio::test]
async fn a_connection_is_not_upgraded() {
    let door = Door::open().await;
    for upgrade in ["h2c", "websocket", "TLS/1.0", "h2c, websocket"] {
        let headers = format!(
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\n\
             HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: c211Z2dsZWQ=\r\n\r\n"
        );
        let message = format!("{}{}", get(&headers), next());
        let answer = exchange(&door, message.as_bytes()).await;
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{upgrade}");
        for one in door.patients.seen() {
            for name in ["connection", "upgrade", "http2-settings", "sec-websocket-key"] {
                assert_eq!(one.header(name), None, "{upgrade}");
            }
        }
        honest(&door, upgrade, 0).await;
    }
}
