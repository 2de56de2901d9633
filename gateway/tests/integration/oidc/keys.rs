//! Where the keys come from, and issuers that are away, slow or wrong.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};

use super::{PATIENCE, open_with, open_without_keys, read, refused, until, until_ready};
use crate::harness::{Door, got, logs};
use crate::issuer::{Answer, Issuer, SigningKey};

const UNAVAILABLE: &str = "the keys of the token issuer cannot be fetched at the moment, try again; subscription keys work";

/// Makes an issuer misbehave.
type Change<'a> = Box<dyn Fn(&Issuer) + 'a>;

/// Keys open the door, and tokens cannot.
async fn is_without_keys(door: &Door, token: &str) {
    let answer = read(door, token).await;
    assert_eq!(answer.problem(503), UNAVAILABLE);
    assert!(answer.header("retry-after").is_some());
    assert_eq!(answer.json()["outcome"], Value::Null);
    let command = door.request(Method::DELETE, "/patient/1").bearer_auth(token);
    assert_eq!(got(command).await.json()["outcome"], "nothingStored");
    assert_eq!(got(door.clinic(Method::GET, "/patient/1")).await.status, 200);
    // Nobody who has a key is kept away.
    for part in ["patient-service", "audit-service"] {
        door.until_part(part, "ready").await;
    }
    let ready = door.readyz().await;
    assert_eq!((ready.status, &ready.json()["status"]), (200, &json!("ready")));
    assert_ne!(ready.json()["components"]["token-issuer"], "ready");
}

async fn has_tried(issuer: &Issuer, fetches: usize) {
    let tried = async {
        while issuer.fetches() < fetches {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, tried).await.unwrap();
}

#[tokio::test]
async fn a_gateway_that_starts_before_its_issuer_takes_keys_at_once_and_tokens_later() {
    let key = SigningKey::ec("k");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = Issuer::on(listener, &[&key]);
    issuer.configuration(Answer::Status(503));
    let door = open_without_keys(&issuer, |_| {}).await;
    let token = key.token(&issuer.claims());
    is_without_keys(&door, &token).await;
    issuer.configuration(Answer::Usual);
    until(&door, &token, 200).await;
    until_ready(&door).await;
}

#[tokio::test]
async fn an_issuer_that_nobody_answers_for_is_an_outage_of_tokens_alone() {
    let key = SigningKey::ec("k");
    let issuer = Issuer::start(&[&key]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let door = open_without_keys(&issuer, |oidc| oidc.issuer = nobody.parse().unwrap()).await;
    is_without_keys(&door, &key.token(&issuer.claims())).await;
}

#[tokio::test]
async fn no_wrong_document_brings_keys() {
    let key = SigningKey::ec("k");
    let elsewhere = Issuer::start(&[&key]).await;
    let keys = json!({"keys": [key.public()]}).to_string();
    let configuration = |issuer: &str, jwks_uri: &str| {
        Answer::Text(json!({"issuer": issuer, "jwks_uri": jwks_uri}).to_string())
    };
    let there = format!("{}/keys", elsewhere.url());
    let configured =
        |answer: Answer| -> Change<'_> { Box::new(move |it| it.configuration(answer.clone())) };
    let published =
        |answer: Answer| -> Change<'_> { Box::new(move |it| it.key_set(answer.clone())) };
    let cases: Vec<(&str, Change<'_>)> = vec![
        ("not found", configured(Answer::Status(404))),
        ("garbage", configured(Answer::Text("<html>".into()))),
        ("empty", configured(Answer::Text(String::new()))),
        ("hangs", configured(Answer::Hang)),
        ("redirects", configured(Answer::Redirect(there.clone()))),
        ("another issuer", configured(configuration(elsewhere.url(), &there))),
        (
            "a slash more",
            Box::new(|it| it.configuration(configuration(&format!("{}/", it.url()), &there))),
        ),
        (
            "a template",
            Box::new(|it| {
                it.configuration(configuration(&it.url().replace("tenant", "{tenantid}"), &there));
            }),
        ),
        (
            "no keys",
            Box::new(|it| it.configuration(Answer::Text(json!({"issuer": it.url()}).to_string()))),
        ),
        (
            "http",
            Box::new(|it| it.configuration(configuration(it.url(), "http://10.255.255.1/keys"))),
        ),
        (
            // This machine, too, and yet not called so.
            "plain http",
            Box::new(|it| {
                let there = there.replace("127.0.0.1", "0.0.0.0");
                it.configuration(configuration(it.url(), &there));
            }),
        ),
        (
            "metadata",
            Box::new(|it| it.configuration(configuration(it.url(), "http://169.254.169.254/keys"))),
        ),
        ("file", Box::new(|it| it.configuration(configuration(it.url(), "file:///etc/passwd")))),
        ("relative", Box::new(|it| it.configuration(configuration(it.url(), "/keys")))),
        ("keys fail", published(Answer::Status(500))),
        ("keys redirect", published(Answer::Redirect(there.clone()))),
        ("keys hang", published(Answer::Hang)),
        ("keys garbage", published(Answer::Text("{\"keys\":{}}".into()))),
        ("keys cut", published(Answer::Text(keys[..keys.len() - 2].to_owned()))),
        ("keys huge", published(Answer::Text(format!("{}{}", " ".repeat(300_000), keys)))),
        ("keys none", published(Answer::Text("{\"keys\":[]}".into()))),
        ("keys unusable", published(Answer::Text(keys.replace("\"sig\"", "\"enc\"")))),
    ];
    for (name, change) in cases {
        let issuer = Issuer::start(&[&key]).await;
        change(&issuer);
        let door = open_without_keys(&issuer, |oidc| {
            oidc.fetch_timeout = Duration::from_millis(100);
            oidc.refresh_interval = Duration::from_millis(10);
        })
        .await;
        let token = key.token(&issuer.claims());
        door.until_part("token-issuer", "no keys of the token issuer yet").await;
        assert_eq!(read(&door, &token).await.status, 503, "{name}");
        // Right documents bring them.
        issuer.configuration(Answer::Usual);
        issuer.key_set(Answer::Usual);
        until(&door, &token, 200).await;
    }
    assert_eq!(elsewhere.fetches(), 0, "a redirect or another address was followed");
}

#[tokio::test]
async fn an_outage_leaves_the_last_good_keys_in_force() {
    let (key, next) = (SigningKey::ec("k"), SigningKey::ec("next"));
    let issuer = Issuer::start(&[&key]).await;
    let quick = |oidc: &mut gateway::config::OidcSettings| {
        oidc.fetch_timeout = Duration::from_millis(100);
        oidc.refresh_interval = Duration::from_millis(10);
        oidc.fetch_floor = Duration::ZERO;
    };
    let door = open_with(&issuer, quick).await;
    let known = key.token(&issuer.claims());
    let unknown = next.token(&issuer.claims());
    let message = refused(&read(&door, &unknown).await, "invalid_token");
    assert_eq!(message, "the issuer publishes no key as the token names it");
    for outage in [
        Answer::Status(500),
        Answer::Hang,
        Answer::Text("garbage".into()),
        Answer::Text("{\"keys\":[]}".into()),
    ] {
        issuer.key_set(outage);
        let before = issuer.fetches();
        has_tried(&issuer, before + 2).await;
        // Verified before, and not yet.
        assert_eq!(read(&door, &known).await.status, 200);
        let fresh = key.token(&issuer.claims_with("jti", before));
        assert_eq!(read(&door, &fresh).await.status, 200);
        assert_eq!(door.readyz().await.status, 200);
        // Whether the issuer has such a key, nobody can tell now.
        assert_eq!(read(&door, &unknown).await.problem(503), UNAVAILABLE);
    }
    issuer.publish(&[&key, &next]);
    issuer.key_set(Answer::Usual);
    until(&door, &unknown, 200).await;
    assert!(logs().contains("keys of the token issuer not fetched, the last good ones stay"));
}

#[tokio::test]
async fn keys_that_cannot_be_fetched_again_are_too_old_one_day() {
    const MAX_AGE: Duration = Duration::from_millis(700);
    let key = SigningKey::ec("k");
    let issuer = Issuer::start(&[&key]).await;
    let door = open_with(&issuer, |oidc| {
        oidc.fetch_timeout = Duration::from_millis(100);
        oidc.refresh_interval = Duration::from_millis(10);
        oidc.keys_max_age = MAX_AGE;
    })
    .await;
    let token = key.token(&issuer.claims());
    for outage in [Answer::Status(500), Answer::Hang, Answer::Text("{\"keys\":[]}".into())] {
        // Fetched again and again, they never are.
        assert_eq!(until(&door, &token, 200).await.status, 200);
        tokio::time::sleep(MAX_AGE + MAX_AGE / 2).await;
        assert_eq!(read(&door, &token).await.status, 200);
        let began = Instant::now();
        issuer.key_set(outage);
        // Known or not, and for commands as for reads.
        until(&door, &token, 503).await;
        assert!(began.elapsed() >= MAX_AGE / 2, "refused too early");
        door.until_part("token-issuer", "the keys of the token issuer are too old").await;
        is_without_keys(&door, &token).await;
        is_without_keys(&door, &key.token(&issuer.claims_with("jti", 1))).await;
        issuer.key_set(Answer::Usual);
    }
    until(&door, &token, 200).await;
    door.until_part("token-issuer", "ready").await;
    assert!(logs().contains("keys of the token issuer are too old, no token is taken"));
}

#[tokio::test]
async fn a_flood_of_unknown_keys_costs_one_fetch_and_hinders_nobody() {
    const FLOOD: usize = 300;
    let key = SigningKey::ec("k");
    let issuer = Issuer::start(&[&key]).await;
    let door = open(&issuer).await;
    let good = key.token(&issuer.claims());
    let first = issuer.fetches();
    issuer.key_set(Answer::Slow(Duration::from_millis(200)));
    for _ in 0..2 {
        let flood = (0..FLOOD).map(|number| {
            let token = key.clone().called(&format!("canary-{number}")).token(&issuer.claims());
            let door = &door;
            async move { read(door, &token).await }
        });
        let known = async {
            for _ in 0..20 {
                assert_eq!(read(&door, &good).await.status, 200);
            }
        };
        let (answers, ()) = futures::future::join(futures::future::join_all(flood), known).await;
        for answer in answers {
            refused(&answer, "invalid_token");
        }
    }
    assert_eq!(issuer.fetches() - first, 1);
    assert_eq!(issuer.most_at_once(), 1);

    // After the floor one more is due.
    let door = open_with(&issuer, |oidc| oidc.fetch_floor = Duration::from_millis(50)).await;
    let unknown = SigningKey::ec("canary-unknown").token(&issuer.claims());
    let before = issuer.fetches();
    read(&door, &unknown).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    read(&door, &unknown).await;
    assert_eq!(issuer.fetches() - before, 2);
}

#[tokio::test]
async fn whoever_goes_away_does_not_take_the_fetch_along() {
    let (key, next) = (SigningKey::ec("k"), SigningKey::ec("next"));
    let issuer = Issuer::start(&[&key]).await;
    let door = open(&issuer).await;
    issuer.publish(&[&key, &next]);
    issuer.key_set(Answer::Slow(Duration::from_millis(200)));
    let token = next.token(&issuer.claims());
    let before = issuer.fetches();
    let first = read(&door, &token);
    assert!(timeout(Duration::from_millis(100), first).await.is_err(), "answered too early");
    assert_eq!(issuer.fetches() - before, 1);
    // The floor is far from over, and yet the key is there.
    assert_eq!(read(&door, &token).await.status, 200);
    assert_eq!(issuer.fetches() - before, 1);
}

async fn open(issuer: &Issuer) -> Door {
    open_with(issuer, |oidc| oidc.fetch_floor = Duration::from_hours(1)).await
}
