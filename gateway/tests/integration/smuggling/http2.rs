//! The same in frames of HTTP/2, written by hand: no client library would let them through.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{PATIENCE, honest};
use crate::harness::{CLINIC, Door};

/// A frame of HTTP/2 on stream 1, or on none (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, stream];
    frame.extend_from_slice(payload);
    frame
}

/// Headers as they are, neither indexed nor compressed (RFC 7541 §6.2.2).
fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    fn text(block: &mut Vec<u8>, text: &str) {
        const MOST: usize = 127;
        assert!(text.len() < MOST, "lengths of one byte alone");
        block.push(u8::try_from(text.len()).unwrap());
        block.extend_from_slice(text.as_bytes());
    }
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

/// Sends one request in frames of HTTP/2, and waits until its stream or the connection has ended.
/// Returns whether it was answered.
async fn http2(door: &Door, headers: &[(&str, &str)], body: Option<&str>) -> bool {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const RESET: u8 = 3;
    const SETTINGS: u8 = 4;
    const GOAWAY: u8 = 7;
    const END_STREAM: u8 = 1;
    const END_HEADERS: u8 = 4;

    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    let last = if body.is_none() { END_STREAM } else { 0 };
    bytes.extend(frame(HEADERS, END_HEADERS | last, 1, &block(headers)));
    if let Some(body) = body {
        bytes.extend(frame(DATA, END_STREAM, 1, body.as_bytes()));
    }
    let mut stream = TcpStream::connect(door.address).await.unwrap();
    stream.write_all(&bytes).await.unwrap();

    let reading = async {
        let mut answered = false;
        let mut head = [0; 9];
        // What ends without a frame was refused.
        while stream.read_exact(&mut head).await.is_ok() {
            let [a, b, c, kind, flags, ..] = head;
            let length = u32::from_be_bytes([0, a, b, c]).try_into().unwrap();
            let mut payload = vec![0; length];
            stream.read_exact(&mut payload).await.unwrap();
            answered |= kind == HEADERS;
            if matches!(kind, RESET | GOAWAY)
                || matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0
            {
                break;
            }
        }
        answered
    };
    timeout(PATIENCE, reading).await.expect("answered or closed")
}

#[tokio::test]
async fn pseudo_headers_and_lengths_of_http2_have_one_reading_or_are_refused() {
    let door = Door::open().await;
    let key = ("ocp-apim-subscription-key", CLINIC);
    let method = (":method", "GET");
    let scheme = (":scheme", "http");
    let path = (":path", "/patient/1");
    let good = [method, scheme, path, key];
    let and = |more: &[(&'static str, &'static str)]| [&good, more].concat();
    let of_path = |path: &'static str| vec![method, scheme, (":path", path), key];
    let of_method = |method: &'static str| vec![(":method", method), scheme, path, key];
    assert!(http2(&door, &good, None).await, "the frames are right");
    assert_eq!(door.patients.count(), 1);

    for (name, headers, refused) in [
        ("two paths", and(&[(":path", "/patient/smuggled")]), true),
        ("two methods", and(&[(":method", "POST")]), true),
        ("no path", vec![method, scheme, key], true),
        ("no method", vec![scheme, path, key], true),
        ("an unknown one", vec![method, scheme, path, (":smuggled", "a"), key], true),
        ("one after the headers", vec![method, scheme, key, path], true),
        ("one of an answer", and(&[(":status", "200")]), true),
        ("an empty path", of_path(""), true),
        ("a line break in the path", of_path("/patient/1 HTTP/1.1\r\nx: smuggled"), true),
        ("a blank in the path", of_path("/patient/1 smuggled"), true),
        ("a whole address as path", of_path("http://smuggled/patient/1"), true),
        ("an asterisk", of_path("*"), true),
        ("no slash", of_path("patient/smuggled"), true),
        ("a line break in the method", of_method("GET /patient/smuggled HTTP/1.1\r\nx: y"), true),
        ("a blank in the method", of_method("GET /patient/smuggled"), true),
        ("a line break in a value", and(&[("x-a", "b\r\nx-vitalog-actor: smuggled")]), true),
        ("a line feed in a value", and(&[("x-a", "b\nx-vitalog-actor: smuggled")]), true),
        ("a NUL in a value", and(&[("x-a", "b\0smuggled")]), true),
        ("a line break in a name", and(&[("x-a: b\r\nsmuggled", "c")]), true),
        ("a colon in a name", and(&[("x-vitalog-actor: smuggled", "c")]), true),
        ("upper case in a name", and(&[("X-Vitalog-Actor", "smuggled")]), true),
        ("a coding", and(&[("transfer-encoding", "chunked")]), true),
        ("a connection", and(&[("connection", "x-vitalog-actor")]), true),
        ("an upgrade", and(&[("upgrade", "h2c")]), true),
        ("another host", and(&[("host", "smuggled")]), false),
        ("another authority", vec![method, scheme, path, (":authority", "smuggled"), key], false),
        ("another scheme", vec![method, (":scheme", "gopher"), path, key], false),
    ] {
        let before = door.patients.count();
        http2(&door, &headers, None).await;
        let seen = door.patients.count() - before;
        assert!(seen <= usize::from(!refused), "{name}: {:?}", door.patients.last());
        honest(&door, name, before).await;
    }

    let post = |length: &'static str| {
        vec![(":method", "POST"), scheme, (":path", "/patient"), key, ("content-length", length)]
    };
    for (name, length, passes) in [
        ("the length of the body", "2", true),
        ("a shorter length", "0", false),
        ("a longer length", "3", false),
        ("a negative length", "-2", false),
        ("a signed length", "+2", false),
        ("two lengths in one", "2, 0", false),
    ] {
        let before = door.patients.count();
        http2(&door, &post(length), Some("{}")).await;
        let seen = &door.patients.seen()[before..];
        assert_eq!(seen.len(), usize::from(passes), "{name}: {seen:?}");
        assert!(seen.iter().all(|one| one.body == "{}"), "{name}: {seen:?}");
        honest(&door, name, before).await;
    }
}
