//! Tokens that nobody must come in with.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use jsonwebtoken::{Algorithm, EncodingKey, get_current_timestamp};
use serde_json::{Value, json};

use super::{open, read, refused};
use crate::harness::{CANARY, got, logs};
use crate::issuer::{Answer, Issuer, SigningKey};

const MALFORMED: &str = "the token is not a signed JSON Web Token";
const ALGORITHM: &str = "the algorithm of the token is not one that is accepted here";
const SIGNATURE: &str = "the signature of the token is not valid";
const OTHER_KEY: &str = "the algorithm of the token does not fit its key";
const UNKNOWN_KEY: &str = "the issuer publishes no key as the token names it";
const NO_KEY_ID: &str = "the token does not name its key";
const CRITICAL: &str = "the header of the token has critical extensions, which are not known here";
const TYPE: &str = "the type of the token is not that of an access token";
const ISSUER: &str = "the token is of another issuer";
const AUDIENCE: &str = "the token is for another audience";
const NO_EXPIRY: &str = "the token has no time of expiry";
const EXPIRED: &str = "the token has expired";
const NOT_YET: &str = "the token is not valid yet";
const FROM_FUTURE: &str = "the token is from the future";
const CLAIM: &str = "a claim of the token is malformed";
const NOT_ACCESS: &str = "the token is not an access token: send that, not the ID token";
const BOUND: &str = "the token is bound to a key of its holder and no bearer token";
const NO_SUBJECT: &str = "the token does not say who the user is";
const TOO_LONG: &str = "the token is longer than 8192 bytes";
const NO_TOKEN: &str = "the Authorization header does not hold one bearer token";

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn with(mut value: Value, name: &str, member: impl Into<Value>) -> Value {
    value[name] = member.into();
    value
}

/// Tokens that are forged, or damaged.
fn forged(
    issuer: &Issuer,
    key: &SigningKey,
    ec: &SigningKey,
    elsewhere: &str,
) -> Vec<(String, &'static str)> {
    let claims = issuer.claims();
    let good = key.token(&claims);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let mut cases = Vec::new();

    for none in ["none", "None", "NONE", "nOnE", "null", "", " none"] {
        let head = json!({"alg": none, "kid": key.kid, "typ": "JWT"});
        for end in ["", signature] {
            cases.push((format!("{}.{}.{end}", part(&head), part(&claims)), ALGORITHM));
        }
    }
    cases.push((format!("{}.{}.", part(&json!({"kid": key.kid})), part(&claims)), ALGORITHM));

    // HS256 with what everybody knows as the secret.
    let public = key.public();
    let modulus = URL_SAFE_NO_PAD.decode(public["n"].as_str().unwrap()).unwrap();
    for secret in [public.to_string().into_bytes(), modulus, key.kid.clone().into_bytes(), vec![]] {
        let head = json!({"alg": "HS256", "kid": key.kid});
        let message = format!("{}.{}", part(&head), part(&claims));
        let secret = EncodingKey::from_secret(&secret);
        let mac =
            jsonwebtoken::crypto::sign(message.as_bytes(), &secret, Algorithm::HS256).unwrap();
        cases.push((format!("{message}.{mac}"), ALGORITHM));
    }

    // Somebody else's key under the issuer's name, also brought along.
    let stranger = SigningKey::rsa(&key.kid, 1);
    let brought = [
        ("typ", json!("JWT")),
        ("jwk", stranger.public()),
        ("jku", json!(elsewhere)),
        ("x5u", json!(elsewhere)),
        ("x5c", json!(["MIIB"])),
    ];
    for (name, value) in brought {
        cases.push((stranger.sign(&with(key.head(), name, value), &claims), SIGNATURE));
    }
    for kid in [elsewhere, "../../keys", "k' OR '1'='1", "canary-other", "\u{0}"] {
        cases.push((stranger.sign(&with(key.head(), "kid", kid), &claims), UNKNOWN_KEY));
    }
    cases.push((
        stranger.sign(&json!({"alg": "RS256", "jwk": stranger.public()}), &claims),
        NO_KEY_ID,
    ));
    cases.push((stranger.token(&with(claims.clone(), "iss", elsewhere)), SIGNATURE));

    // The other key's name, and an algorithm for another kind of key.
    cases.push((key.sign(&with(key.head(), "kid", ec.kid.as_str()), &claims), OTHER_KEY));
    cases.push((key.sign(&with(key.head(), "alg", "ES256"), &claims), OTHER_KEY));
    cases.push((ec.sign(&with(ec.head(), "kid", key.kid.as_str()), &claims), OTHER_KEY));
    cases.push((key.sign(&with(key.head(), "alg", "PS256"), &claims), SIGNATURE));
    cases.push((SigningKey::ec(&ec.kid).token(&claims), SIGNATURE));

    // Damage.
    let other = part(&issuer.claims_with("scp", "patient:write"));
    cases.push((format!("{}.{other}.{signature}", signed.split('.').next().unwrap()), SIGNATURE));
    cases.push((format!("{signed}."), SIGNATURE));
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let cut = URL_SAFE_NO_PAD.encode(&bytes[..bytes.len() - 1]);
    cases.push((format!("{signed}.{cut}"), SIGNATURE));
    cases.push((format!("{signed}.{}", URL_SAFE_NO_PAD.encode([0; 256])), SIGNATURE));
    cases.push((format!("{}.", ec.token(&claims).rsplit_once('.').unwrap().0), SIGNATURE));
    let zeros = URL_SAFE_NO_PAD.encode([0; 64]);
    let ec_signed = ec.token(&claims);
    cases.push((format!("{}.{zeros}", ec_signed.rsplit_once('.').unwrap().0), SIGNATURE));
    cases.push((format!("{good}="), MALFORMED));
    for damaged in [signed.to_owned(), format!("{good}.{signature}"), "a.b.c".into(), "..".into()] {
        cases.push((damaged, MALFORMED));
    }
    cases
}

/// Tokens that the issuer signed, for something else.
fn unfit(issuer: &Issuer, key: &SigningKey) -> Vec<(String, &'static str)> {
    let now = get_current_timestamp();
    let claims = issuer.claims();
    let url = issuer.url();
    let mut cases = Vec::new();
    let mut say = |name: &str, value: Value, expected| {
        cases.push((key.token(&issuer.claims_with(name, value)), expected));
    };
    for iss in [format!("{url}/"), url.to_uppercase(), url.replace("v2.0", "v1.0"), String::new()] {
        say("iss", json!(iss), ISSUER);
    }
    say("iss", json!([url]), ISSUER);
    say("iss", Value::Null, ISSUER);
    for aud in ["api://other", "api://vitalog/", "API://VITALOG", "", "api://vitalog api://other"] {
        say("aud", json!(aud), AUDIENCE);
    }
    say("aud", json!(["api://other", url]), AUDIENCE);
    say("aud", json!([]), AUDIENCE);
    say("aud", Value::Null, AUDIENCE);
    say("exp", json!(now - 61), EXPIRED);
    say("exp", json!(0), EXPIRED);
    for exp in [Value::Null, json!("9999999999"), json!(-1), json!(true)] {
        say("exp", exp, NO_EXPIRY);
    }
    say("nbf", json!(now + 3_600), NOT_YET);
    say("nbf", json!("soon"), CLAIM);
    say("iat", json!(now + 3_600), FROM_FUTURE);
    say("iat", json!("now"), CLAIM);
    say("iat", json!(-1), CLAIM);
    say("iat", json!(1e300), CLAIM);
    for name in ["nonce", "at_hash", "c_hash"] {
        say(name, json!("n"), NOT_ACCESS);
    }
    for typ in ["ID", "Refresh", "offline"] {
        say("typ", json!(typ), NOT_ACCESS);
    }
    say("cnf", json!({"jkt": "a"}), BOUND);
    for (name, expected) in [("iss", ISSUER), ("aud", AUDIENCE), ("exp", NO_EXPIRY)] {
        cases.push((key.token(&issuer.claims_without(name)), expected));
    }
    let mut nobody = issuer.claims_without("oid");
    nobody["sub"] = json!("");
    cases.push((key.token(&nobody), NO_SUBJECT));

    for crit in [json!(["exp"]), json!([]), Value::Null] {
        cases.push((key.sign(&with(key.head(), "crit", crit), &claims), CRITICAL));
    }
    for typ in ["logout+jwt", "dpop+jwt", "id_token", ""] {
        cases.push((key.sign(&with(key.head(), "typ", typ), &claims), TYPE));
    }
    // What two parsers could read in two ways.
    let head = key.head().to_string();
    let twice = head.replacen('{', r#"{"alg":"none","#, 1);
    cases.push((key.sign_text(&twice, &claims.to_string()), MALFORMED));
    let twice = claims.to_string().replacen('{', &format!(r#"{{"exp":{},"#, now + 999), 1);
    cases.push((key.sign_text(&head, &twice), MALFORMED));
    for text in ["", "[]", "null", "7", "{\"iss\":", &"[".repeat(2_000)] {
        cases.push((key.sign_text(&head, text), MALFORMED));
    }
    let deep = format!(r#"{{"deep":{}{}}}"#, "[".repeat(1_000), "]".repeat(1_000));
    cases.push((key.sign_text(&head, &deep), MALFORMED));
    cases.push((key.token(&issuer.claims_with("padding", "x".repeat(8_000))), TOO_LONG));
    cases.push(("x".repeat(8_193), TOO_LONG));
    for text in ["", "a b", "a,b", "\"a\"", "a.b.c;"] {
        cases.push((text.to_owned(), NO_TOKEN));
    }
    cases
}

#[tokio::test]
async fn no_bad_token_passes_and_none_is_repeated() {
    let (key, ec) = (SigningKey::rsa("canary-kid", 0), SigningKey::ec("canary-kid-of-ec"));
    let elsewhere = Issuer::start(&[&SigningKey::rsa("canary-kid", 1)]).await;
    // Whoever asks there is sent on, so that it would show.
    elsewhere.configuration(Answer::Redirect(format!("{}/keys", elsewhere.url())));
    let issuer = Issuer::start(&[&key, &ec]).await;
    let door = open(&issuer).await;

    let elsewhere_keys = format!("{}/keys", elsewhere.url());
    let mut cases = forged(&issuer, &key, &ec, &elsewhere_keys);
    cases.extend(unfit(&issuer, &key));
    assert!(cases.len() > 100, "{}", cases.len());
    for (token, expected) in &cases {
        let answer = read(&door, token).await;
        let seen = format!("{} {}", token.get(..60).unwrap_or(token), claims_of(token));
        assert_eq!(answer.status, 401, "{seen} {answer:?}");
        assert_eq!(refused(&answer, "invalid_token"), *expected, "{seen}");
        assert!(!format!("{answer:?}").contains(CANARY), "{answer:?}");
    }
    assert_eq!(door.patients.count() + door.audit.count(), 0);
    assert_eq!(elsewhere.fetches(), 0, "a token decided about an address");

    // The same key, and it is the tokens that were wrong.
    let good = key.token(&issuer.claims());
    assert_eq!(read(&door, &good).await.status, 200);
    let forbidden = got(door.request(Method::DELETE, "/patient/1").bearer_auth(&good)).await;
    assert!(!format!("{forbidden:?}").contains(CANARY), "{forbidden:?}");

    let logs = logs();
    assert!(logs.contains("keys of the token issuer fetched"));
    for token in cases.iter().map(|(token, _)| token).chain([&good]) {
        // Short parts stand in logs for other reasons.
        for part in token.split('.').filter(|part| part.len() > 20) {
            assert!(!logs.contains(part), "{part} is in the logs");
        }
    }
    for secret in ["canary-kid", "canary-oid", "canary-pairwise", "canary@clinic", "canary-other"] {
        assert!(!logs.contains(secret), "{secret} is in the logs");
    }
}

fn claims_of(token: &str) -> String {
    let claims = token.split('.').nth(1).unwrap_or_default();
    let json = URL_SAFE_NO_PAD.decode(claims).unwrap_or_default();
    String::from_utf8_lossy(&json).chars().take(300).collect()
}

#[tokio::test]
#[allow(clippy::cast_precision_loss)]
async fn what_differs_a_little_is_still_a_good_token() {
    let key = SigningKey::rsa("k", 0);
    let issuer = Issuer::start(&[&key]).await;
    let door = open(&issuer).await;
    let now = get_current_timestamp();
    let claims = issuer.claims();
    let mut cases = vec![
        key.token(&issuer.claims_with("aud", json!(["api://other", "api://vitalog"]))),
        key.token(&issuer.claims_with("exp", now - 30)),
        key.token(&issuer.claims_with("nbf", now + 30)),
        key.token(&issuer.claims_with("iat", now + 30)),
        key.token(&issuer.claims_without("nbf")),
        key.token(&issuer.claims_with("exp", now as f64 + 9.5)),
        key.token(&issuer.claims_with("iat", now as f64 - 0.5)),
        key.token(&issuer.claims_without("iat")),
        key.token(&issuer.claims_without("oid")),
        key.token(&issuer.claims_with("typ", "Bearer")),
    ];
    for typ in ["at+jwt", "application/at+jwt", "jwt"] {
        cases.push(key.sign(&with(key.head(), "typ", typ), &claims));
    }
    let mut untyped = key.head();
    untyped.as_object_mut().unwrap().remove("typ");
    cases.push(key.sign(&untyped, &claims));
    for token in &cases {
        let answer = read(&door, token).await;
        assert_eq!(answer.status, 200, "{} {answer:?}", claims_of(token));
    }
    let lower = door.request(Method::GET, "/patient/1");
    let lower = lower.header("authorization", format!("bearer {}", key.token(&claims)));
    assert_eq!(got(lower).await.status, 200);
}
