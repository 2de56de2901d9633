//! The identity headers between services.

use http::{HeaderMap, HeaderValue};
use runtime::headers::{
    ACTOR_HEADER, CLIENT_HEADER, HeaderError, decode_actor, decode_client, encode_actor,
    encode_client, strip_internal,
};
use serde_json::{Value, json};

fn with(name: &'static str, value: HeaderValue) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static(name), value)])
}

#[test]
fn an_actor_survives_the_header_whatever_its_characters() {
    for id in ["sub-1", "Zoë \u{7f} \u{1f600} \"quoted\" \n", ""] {
        let actor = json!({"id": id, "kind": "user", "roles": ["nurse"]});
        let value = encode_actor(&actor).unwrap();
        assert!(value.to_str().is_ok());
        let read: Value = decode_actor(&with(ACTOR_HEADER, value)).unwrap();
        assert_eq!(read, actor);
    }
}

#[test]
fn an_actor_that_is_missing_repeated_malformed_or_huge_is_an_error() {
    let malformed = Err(HeaderError::Malformed(ACTOR_HEADER));
    assert_eq!(decode_actor::<Value>(&HeaderMap::new()), Err(HeaderError::Missing(ACTOR_HEADER)));
    let mut twice = with(ACTOR_HEADER, HeaderValue::from_static("{}"));
    twice.append(ACTOR_HEADER, HeaderValue::from_static("{}"));
    assert_eq!(decode_actor::<Value>(&twice), Err(HeaderError::Repeated(ACTOR_HEADER)));
    let text = with(ACTOR_HEADER, HeaderValue::from_static("root"));
    assert_eq!(decode_actor::<Value>(&text), malformed);
    assert!(encode_actor(&json!({"id": "x".repeat(5000)})).is_err());
}

#[test]
fn a_client_address_survives_the_header() {
    for (address, text) in
        [("10.0.0.7", "10.0.0.7"), ("::ffff:10.0.0.7", "10.0.0.7"), ("::1", "::1")]
    {
        let value = encode_client(address.parse().unwrap());
        assert_eq!(value, text);
        let read = decode_client(&with(CLIENT_HEADER, value)).unwrap();
        assert_eq!(read.to_string(), text);
    }
    let spoofed = with(CLIENT_HEADER, HeaderValue::from_static("10.0.0.7, 1.2.3.4"));
    assert!(decode_client(&spoofed).is_err());
}

#[test]
fn stripping_removes_what_only_services_may_say_and_nothing_else() {
    let mut headers = HeaderMap::new();
    for name in ["x-vitalog-actor", "X-Vitalog-Anything", "x-functions-key", "x-vitalo", "accept"] {
        let name: http::HeaderName = name.parse().unwrap();
        headers.append(name.clone(), HeaderValue::from_static("1"));
        headers.append(name, HeaderValue::from_static("2"));
    }
    strip_internal(&mut headers);
    let mut left: Vec<_> = headers.keys().map(http::HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["accept", "x-vitalo"]);
}
