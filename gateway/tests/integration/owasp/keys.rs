//! API2, broken authentication: what is nearly a key is none, and each key is its owner's alone.

use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{CLINIC, CLINIC_SECONDARY, COMPLIANCE, Door, KEY_HEADER, READER, got};

/// Every text that is one slip or one trick away from a key.
fn near_misses(key: &str) -> Vec<Vec<u8>> {
    let bytes = key.as_bytes();
    let mut near = Vec::new();
    for at in 0..bytes.len() {
        let mut other = bytes.to_vec();
        other[at] ^= 1;
        near.push(other);
        near.push([&bytes[..at], &bytes[at + 1..]].concat());
        near.push([&bytes[..at], b"x", &bytes[at..]].concat());
        // Every prefix, and every rest; the empty one is no key at all.
        near.push(bytes[..at].to_vec());
        near.push(bytes[at + 1..].to_vec());
    }
    near.retain(|near| !near.is_empty());
    near.extend([
        key.to_uppercase().into_bytes(),
        key.replace('c', "C").into_bytes(),
        key.repeat(2).into_bytes(),
        format!("{key},{key}").into_bytes(),
        format!("{key}, {CLINIC_SECONDARY}").into_bytes(),
        format!("{key};a").into_bytes(),
        format!("\"{key}\"").into_bytes(),
        format!("Bearer {key}").into_bytes(),
        key.chars().rev().collect::<String>().into_bytes(),
        key.bytes().cycle().take(10_000).collect(),
        [bytes, &vec![b' '; 300], b"x"].concat(),
        [bytes, b"\xff"].concat(),
        [b"\xef\xbb\xbf", bytes].concat(),
        "ｃａｎａｒｙ-clinic".into(),
        b"*".to_vec(),
        b"%".to_vec(),
        b"' or ''='".to_vec(),
        b"null".to_vec(),
        b"undefined".to_vec(),
        b"0".to_vec(),
    ]);
    near
}

#[tokio::test]
async fn api2_what_is_nearly_a_key_opens_nothing() {
    let door = Door::open().await;
    for near in near_misses(CLINIC) {
        let in_query = {
            let encoded =
                percent_encoding::percent_encode(&near, percent_encoding::NON_ALPHANUMERIC);
            door.request(Method::GET, &format!("/patient/1?subscription-key={encoded}"))
        };
        let header = http::HeaderValue::from_bytes(&near).unwrap();
        let in_header = door.request(Method::GET, "/patient/1").header(KEY_HEADER, header);
        let text = String::from_utf8_lossy(&near).into_owned();
        for request in [in_header, in_query] {
            let answer = got(request).await;
            // What is too long for any address is refused as such.
            assert!([401, 414].contains(&answer.status), "{text}: {answer:?}");
            assert!(answer.status == 401 || near.len() > 2_000, "{text}: {answer:?}");
        }
    }
    // What only a query can hold.
    for near in ["%00", "%0a", "%0d%0a", "%20", "+", "%09"] {
        for path in [
            format!("/patient/1?subscription-key={CLINIC}{near}"),
            format!("/patient/1?subscription-key={near}{CLINIC}"),
            format!("/patient/1?subscription-key{near}={CLINIC}"),
        ] {
            got(door.request(Method::GET, &path)).await.problem(401);
        }
    }
    assert_eq!(door.patients.count(), 0);
}

#[tokio::test]
async fn api2_a_key_counts_only_where_keys_are_read() {
    let door = Door::open().await;
    for name in [
        "subscription-key",
        "x-api-key",
        "api-key",
        "apikey",
        "x-functions-key",
        "ocp-apim-subscription-key2",
        "x-subscription-key",
    ] {
        let request = door.request(Method::GET, "/patient/1").header(name, CLINIC);
        got(request).await.problem(401);
    }
    let cookie = format!("subscription-key={CLINIC}; {KEY_HEADER}={CLINIC}");
    got(door.request(Method::GET, "/patient/1").header("cookie", cookie)).await.problem(401);
    for name in ["key", "api_key", "code", "subscription_key", "subscription-key[]"] {
        let path = format!("/patient/1?{name}={CLINIC}");
        got(door.request(Method::GET, &path)).await.problem(401);
    }
    let body = format!("{{\"subscription-key\":\"{CLINIC}\"}}");
    got(door.request(Method::POST, "/patient").body(body)).await.problem(401);
    assert_eq!(door.patients.count(), 0);
}

#[tokio::test]
async fn api2_blanks_around_a_header_are_the_headers_and_not_the_keys() {
    // HTTP takes them off (RFC 9110 §5.5), and nothing else.
    let door = Door::open().await;
    for (value, status) in [
        (format!("  {CLINIC}\t "), "200"),
        (format!("{CLINIC}\0"), "400"),
        (format!("\0{CLINIC}"), "400"),
        (format!("{CLINIC}\u{a0}"), "401"),
    ] {
        let mut stream = TcpStream::connect(door.address).await.unwrap();
        let request = format!(
            "GET /patient/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{KEY_HEADER}:{value}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{value:?}: {answer}");
    }
}

#[tokio::test]
async fn api2_swapped_keys_are_each_their_owners() {
    let door = Door::open().await;
    // Two at once: the header's is the one, and no scope is borrowed from the other.
    let path = format!("/patient/1?subscription-key={CLINIC}");
    let request = door.request(Method::PUT, &path).header(KEY_HEADER, READER).body("{}");
    got(request).await.problem(403);
    let path = format!("/audit/records?subscription-key={COMPLIANCE}");
    got(door.clinic(Method::GET, &path)).await.problem(403);
    assert_eq!(door.patients.count() + door.audit.count(), 0);

    let path = format!("/patient/1?subscription-key={COMPLIANCE}");
    assert_eq!(got(door.request(Method::GET, &path).header(KEY_HEADER, READER)).await.status, 200);
    let actor = door.patients.last();
    assert_eq!(actor.header("x-vitalog-actor"), Some(r#"{"id":"reader","kind":"subscription"}"#));

    // On one connection, too: what one request showed is not another's.
    for (key, id) in [(CLINIC, "clinic"), (READER, "reader"), (CLINIC_SECONDARY, "clinic")] {
        let request = door.request(Method::GET, "/patient/1").header(KEY_HEADER, key);
        assert_eq!(got(request).await.status, 200);
        let actor = format!(r#"{{"id":"{id}","kind":"subscription"}}"#);
        assert_eq!(door.patients.last().header("x-vitalog-actor"), Some(actor.as_str()));
        got(door.request(Method::GET, "/patient/1")).await.problem(401);
    }
}
