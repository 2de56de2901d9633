//! Bearer tokens of an issuer.

mod bad_tokens;
mod keys;
mod rates;
mod rotation;
mod tls;

use gateway::config::OidcSettings;
use http::{Method, StatusCode};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

use crate::harness::{CLINIC, Door, Got, KEY_HEADER, NO_LIMIT, Upstream, got};
use crate::issuer::{AUDIENCE, Issuer, SigningKey};

/// Longer than anything here takes; reached only when a promise is broken.
const PATIENCE: Duration = Duration::from_secs(10);

/// A gateway that takes tokens of `issuer`, with its first keys at hand.
async fn open(issuer: &Issuer) -> Door {
    open_with(issuer, |_| {}).await
}

async fn open_with(issuer: &Issuer, change: impl FnOnce(&mut OidcSettings)) -> Door {
    let door = open_without_keys(issuer, change).await;
    until_ready(&door).await;
    door
}

async fn open_without_keys(issuer: &Issuer, change: impl FnOnce(&mut OidcSettings)) -> Door {
    let mut settings = OidcSettings::new(issuer.url().parse().unwrap(), vec![AUDIENCE.into()]);
    settings.rate = NO_LIMIT;
    change(&mut settings);
    Door::before(Upstream::start().await, |all| all.oidc = Some(settings)).await
}

async fn until_ready(door: &Door) {
    door.until_part("token-issuer", "ready").await;
}

/// Reads a patient with a token.
async fn read(door: &Door, token: &str) -> Got {
    got(door.request(Method::GET, "/patient/1").bearer_auth(token)).await
}

async fn until(door: &Door, token: &str, expected: u16) -> Got {
    let changed = async {
        loop {
            let answer = read(door, token).await;
            if answer.status == expected {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, changed).await.unwrap()
}

/// The answer is a 401 that says so in the way of RFC 6750; returns its message.
#[track_caller]
fn refused(answer: &Got, error: &str) -> String {
    let message = answer.problem(401);
    let challenge = answer.header("www-authenticate").unwrap();
    let expected =
        format!(r#"Bearer realm="vitalog", error="{error}", error_description="{message}""#);
    assert_eq!(challenge, expected);
    message
}

#[tokio::test]
async fn a_user_acts_under_an_identity_of_their_own() {
    let key = SigningKey::rsa("k", 0);
    let issuer = Issuer::start(&[&key]).await;
    let door = open(&issuer).await;
    let answer = read(&door, &key.token(&issuer.claims())).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = door.patients.last();
    let actor: Value = serde_json::from_str(seen.header("x-vitalog-actor").unwrap()).unwrap();
    assert_eq!(actor, json!({"id": "canary-oid-of-a-nurse", "kind": "user", "roles": ["nurse"]}));
    assert_eq!(seen.header("authorization"), None);

    let claims = issuer.claims_with("oid", "jane@clinic.example");
    read(&door, &key.token(&claims)).await;
    let actor = door.patients.last().header("x-vitalog-actor").unwrap().to_owned();
    assert!(actor.contains(r#""id":"sha256-"#) && !actor.contains("jane"), "{actor}");
}

#[tokio::test]
async fn every_algorithm_that_is_configured_is_taken() {
    let (rsa, ec) = (SigningKey::rsa("one", 0), SigningKey::ec("one"));
    // Two kinds of key under one name: the algorithm says which is meant.
    let issuer = Issuer::start(&[&rsa, &ec]).await;
    let door = open(&issuer).await;
    let pss = rsa.clone().with(Algorithm::PS256);
    for key in [&rsa, &pss, &ec] {
        let answer = read(&door, &key.token(&issuer.claims())).await;
        assert_eq!(answer.status, 200, "{:?} {answer:?}", key.algorithm);
    }
    let longer = rsa.clone().with(Algorithm::RS512).token(&issuer.claims());
    let message = refused(&read(&door, &longer).await, "invalid_token");
    assert_eq!(message, "the algorithm of the token is not one that is accepted here");
    let door = open_with(&issuer, |oidc| oidc.algorithms = vec![Algorithm::RS512]).await;
    assert_eq!(read(&door, &longer).await.status, 200);
    refused(&read(&door, &rsa.token(&issuer.claims())).await, "invalid_token");
}

#[tokio::test]
async fn a_token_opens_what_its_scopes_say_and_nothing_else() {
    let key = SigningKey::ec("k");
    let issuer = Issuer::start(&[&key]).await;
    let door = open(&issuer).await;
    let all = [
        ("patient:read", Method::GET, "/patient/1"),
        ("patient:write", Method::DELETE, "/patient/1"),
        ("patient:erase", Method::POST, "/patient/1/erase"),
        ("audit:read", Method::GET, "/audit/records"),
    ];
    for (scope, ..) in &all {
        let token = key.token(&issuer.claims_with("scp", *scope));
        for (needed, method, path) in &all {
            let before = door.patients.count() + door.audit.count();
            let request = door.request(method.clone(), path).bearer_auth(&token).body("{}");
            let answer = got(request).await;
            let forwarded = door.patients.count() + door.audit.count() - before;
            if needed == scope {
                assert_eq!((answer.status, forwarded), (200, 1), "{scope} {path} {answer:?}");
                continue;
            }
            let message = answer.problem(403);
            assert_eq!(message, format!("the token does not have the scope {needed}"));
            let challenge = answer.header("www-authenticate").unwrap();
            assert!(challenge.contains(r#"error="insufficient_scope""#), "{challenge}");
            assert_eq!(forwarded, 0);
        }
    }
    let bare = key.token(&issuer.claims_without("scp"));
    let answer = got(door.request(Method::GET, "/audit/key").bearer_auth(&bare)).await;
    assert_eq!(answer.problem(403), "the token does not have any scope");
    let echo = got(door.request(Method::GET, "/echo/resource").bearer_auth(&bare)).await;
    assert_eq!(echo.status, 200);
}

#[tokio::test]
async fn one_request_has_one_credential() {
    let key = SigningKey::ec("k");
    let issuer = Issuer::start(&[&key]).await;
    let door = open(&issuer).await;
    let token = key.token(&issuer.claims());
    let both = "there are a subscription key and a bearer token: send one of them";
    let bearer = |path: &str| door.request(Method::GET, path).bearer_auth(&token);
    for credential in [CLINIC, "wrong"] {
        let in_header = bearer("/patient/1").header(KEY_HEADER, credential);
        let in_query = bearer(&format!("/patient/1?subscription-key={credential}"));
        for request in [in_header, in_query] {
            assert_eq!(refused(&got(request).await, "invalid_request"), both);
        }
    }
    // A bad token does not make a key count either.
    let request = door.clinic(Method::GET, "/patient/1").bearer_auth("nonsense");
    assert_eq!(refused(&got(request).await, "invalid_request"), both);
    // An empty key is none, as ever.
    assert_eq!(got(bearer("/patient/1").header(KEY_HEADER, "")).await.status, 200);

    let twice = bearer("/patient/1").header("authorization", format!("Bearer {token}"));
    let message = refused(&got(twice).await, "invalid_token");
    assert_eq!(message, "there is more than one Authorization header");
    let other = bearer("/patient/1").header("authorization", "Basic YTpi");
    refused(&got(other).await, "invalid_token");

    // Other schemes are not for the gateway: the key counts, and without one there is none.
    let basic = door.clinic(Method::GET, "/patient/1").basic_auth("a", Some("b"));
    assert_eq!(got(basic).await.status, 200);
    for request in [
        door.request(Method::GET, "/patient/1").basic_auth("a", Some("b")),
        door.request(Method::GET, "/patient/1"),
        // RFC 6750, section 2.3, is for clients that this API does not have.
        door.request(Method::GET, &format!("/patient/1?access_token={token}")),
    ] {
        let answer = got(request).await;
        assert!(answer.problem(401).contains("missing subscription key"), "{answer:?}");
        let challenge = answer.header("www-authenticate").unwrap();
        assert_eq!(challenge, r#"Bearer realm="vitalog", ApiKey realm="vitalog""#);
    }
}

#[tokio::test]
async fn without_an_issuer_tokens_are_ignored() {
    let key = SigningKey::ec("k");
    let issuer = Issuer::start(&[&key]).await;
    let door = Door::open().await;
    let token = key.token(&issuer.claims());
    let alone = read(&door, &token).await;
    assert!(alone.problem(401).contains("missing subscription key"), "{alone:?}");
    assert_eq!(alone.header("www-authenticate"), Some(r#"ApiKey realm="vitalog""#));
    let beside = door.clinic(Method::GET, "/patient/1").bearer_auth(&token);
    assert_eq!(got(beside).await.status, StatusCode::OK);
    assert_eq!(issuer.fetches(), 0);
}
