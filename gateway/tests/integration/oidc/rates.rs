//! How often users may ask.

use gateway::config::Rate;
use http::Method;
use serde_json::json;
use std::time::Instant;

use super::{PATIENCE, open_with, read};
use crate::harness::{CLINIC, Door, KEY_HEADER, entry, got};
use crate::issuer::{Issuer, SigningKey};
use gateway::subscriptions::{Scope, write_file};

/// So slow that nothing comes back while a test makes its few requests.
async fn open(issuer: &Issuer, burst: u32) -> Door {
    open_with(issuer, |oidc| oidc.rate = Rate::new(1, burst)).await
}

#[tokio::test]
async fn a_user_has_one_rate_however_many_tokens() {
    let key = SigningKey::ec("k");
    let issuer = Issuer::start(&[&key]).await;
    let door = open(&issuer, 4).await;
    // Each is another token, and each has other roles: the user is the same.
    let token =
        |number: u32| key.token(&issuer.claims_with("roles", json!([format!("r{number}")])));
    for number in 0..4 {
        assert_eq!(read(&door, &token(number)).await.status, 200);
    }
    let refused = read(&door, &token(9)).await;
    assert_eq!(refused.problem(429), "Rate limit is exceeded. Try again in 1 seconds.");
    assert_eq!(refused.retry_after(), 1);
    assert_eq!(refused.header("www-authenticate"), None);
    read(&door, &token(0)).await.problem(429);
    assert_eq!(door.patients.count(), 4);
    door.metric("refusals_total{reason=\"rate\"}", 2).await;

    let waiting = Instant::now();
    while read(&door, &token(9)).await.status == 429 {
        assert!(waiting.elapsed() < PATIENCE);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn one_user_at_the_limit_is_in_nobody_elses_way() {
    let key = SigningKey::ec("k");
    let issuer = Issuer::start(&[&key]).await;
    let door = open(&issuer, 2).await;
    let user = |id: &str| key.token(&issuer.claims_with("oid", id));
    for _ in 0..2 {
        assert_eq!(read(&door, &user("nurse")).await.status, 200);
    }
    read(&door, &user("nurse")).await.problem(429);
    assert_eq!(read(&door, &user("other")).await.status, 200);
    // A subscription of the same name is somebody else, and so is one without a rate.
    let path = door.subscriptions_path();
    let same_name = entry("nurse", &[Scope::PatientRead], &[CLINIC]);
    write_file(&path, &[same_name, entry("marker", &[], &["canary-marker"])]).unwrap();
    door.until("canary-marker", 200).await;
    for _ in 0..4 {
        let request = door.request(Method::GET, "/patient/1").header(KEY_HEADER, CLINIC);
        assert_eq!(got(request).await.status, 200);
    }
}

#[tokio::test]
async fn what_a_user_is_refused_is_charged_and_what_shows_no_user_is_not() {
    let key = SigningKey::ec("k");
    let issuer = Issuer::start(&[&key]).await;
    let door = open(&issuer, 3).await;
    let good = key.token(&issuer.claims());
    // Tokens that name the user and are not valid.
    let expired = key.token(&issuer.claims_with("exp", 1));
    let forged = format!("{}AAAA", &good[..good.len() - 4]);
    for _ in 0..3 {
        read(&door, &expired).await.problem(401);
        read(&door, &forged).await.problem(401);
    }
    for _ in 0..3 {
        let request = door.request(Method::DELETE, "/patient/1").bearer_auth(&good);
        got(request).await.problem(403);
    }
    read(&door, &good).await.problem(429);
    let request = door.request(Method::DELETE, "/patient/1").bearer_auth(&good);
    got(request).await.problem(429);
    assert_eq!(door.patients.count(), 0);
}
