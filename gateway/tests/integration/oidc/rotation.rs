//! Keys and tokens that come to their end.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jsonwebtoken::get_current_timestamp;
use tokio::time::timeout;

use super::{PATIENCE, open, open_with, read, refused, until};
use crate::issuer::{Issuer, SigningKey};

#[tokio::test]
async fn a_key_is_rotated_under_load_and_no_request_fails() {
    const CLIENTS: usize = 8;
    const ROUND: usize = 200;
    let old = SigningKey::rsa("old", 0);
    let issuer = Issuer::start(&[&old]).await;
    let door = open_with(&issuer, |oidc| {
        oidc.fetch_floor = Duration::from_millis(1);
        oidc.refresh_interval = Duration::from_millis(50);
    })
    .await;
    let signer = Arc::new(Mutex::new(old.clone()));
    let (done, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let client = async |number: usize| {
        while !stop.load(Ordering::SeqCst) {
            let key = signer.lock().unwrap().clone();
            let request = done.fetch_add(1, Ordering::SeqCst);
            // Some tokens are used again, and some are new each time.
            let id = if request.is_multiple_of(2) { number } else { CLIENTS + request };
            let answer = read(&door, &key.token(&issuer.claims_with("jti", id))).await;
            assert_eq!(answer.status, 200, "{} {answer:?}", key.kid);
        }
    };
    let round = async || {
        let start = done.load(Ordering::SeqCst);
        while done.load(Ordering::SeqCst) < start + ROUND {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let operator = async {
        round().await;
        for next in [SigningKey::rsa("next", 1), SigningKey::ec("last")] {
            let before = signer.lock().unwrap().clone();
            // Without notice: the first token is how the gateway learns of the key.
            issuer.publish(&[&before, &next]);
            *signer.lock().unwrap() = next.clone();
            round().await;
            issuer.publish(&[&next]);
            round().await;
        }
        stop.store(true, Ordering::SeqCst);
    };
    let clients = futures::future::join_all((0..CLIENTS).map(client));
    timeout(6 * PATIENCE, futures::future::join(clients, operator)).await.unwrap();
    assert!(done.load(Ordering::SeqCst) >= 5 * ROUND);
    until(&door, &old.token(&issuer.claims()), 401).await;
}

#[tokio::test]
async fn tokens_of_a_key_that_is_withdrawn_stop_working() {
    let (key, next) = (SigningKey::ec("k"), SigningKey::ec("next"));
    let issuer = Issuer::start(&[&key]).await;
    let door = open_with(&issuer, |oidc| oidc.refresh_interval = Duration::from_millis(20)).await;
    let token = key.token(&issuer.claims());
    // Twice, so that it is known.
    for _ in 0..2 {
        assert_eq!(read(&door, &token).await.status, 200);
    }
    issuer.publish(&[&next]);
    let answer = until(&door, &token, 401).await;
    let message = refused(&answer, "invalid_token");
    assert_eq!(message, "the issuer publishes no key as the token names it");

    // Under the old name there may be another key one day.
    let namesake = SigningKey::ec("k");
    issuer.publish(&[&namesake]);
    until(&door, &namesake.token(&issuer.claims()), 200).await;
    let message = refused(&read(&door, &token).await, "invalid_token");
    assert_eq!(message, "the signature of the token is not valid");
}

#[tokio::test]
async fn a_token_that_was_good_expires() {
    let key = SigningKey::ec("k");
    let issuer = Issuer::start(&[&key]).await;
    let door = open(&issuer).await;
    // Within the leeway for four more seconds.
    let token = key.token(&issuer.claims_with("exp", get_current_timestamp() - 56));
    assert_eq!(read(&door, &token).await.status, 200);
    let answer = until(&door, &token, 401).await;
    assert_eq!(refused(&answer, "invalid_token"), "the token has expired");
}
