//! Who is let in by which key.

use std::sync::Arc;

use axum::body::Body;
use axum::routing::get;
use axum::{Extension, Router};
use http::{Request, StatusCode};
use runtime::secrets::{Secret, SecretError};
use runtime::service_keys::{Caller, CallerSpec, Callers, SERVICE_KEY_HEADER, require_caller};
use tower::ServiceExt;

const CURRENT: &str = "current-key-of-the-gateway";
const NEXT: &str = "the-next-key-of-the-gateway";
const OTHER: &str = "the-key-of-the-patient-service";

fn callers() -> Callers {
    let keys = [("gateway", CURRENT), ("gateway", NEXT), ("patient-service", OTHER)];
    Callers::from_keys(keys.map(|(name, key)| (name, Secret::new(key)))).unwrap()
}

async fn answer(keys: &[&str]) -> (StatusCode, String) {
    let app = Router::new()
        .route("/", get(async |Extension(caller): Extension<Caller>| caller.name().to_owned()))
        .layer(axum::middleware::from_fn_with_state(Arc::new(callers()), require_caller));
    let mut request = Request::get("/");
    for key in keys {
        request = request.header(SERVICE_KEY_HEADER, *key);
    }
    let response = app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn the_current_and_the_next_key_both_say_who_calls() {
    assert_eq!(answer(&[CURRENT]).await, (StatusCode::OK, "gateway".into()));
    assert_eq!(answer(&[NEXT]).await, (StatusCode::OK, "gateway".into()));
    assert_eq!(answer(&[OTHER]).await, (StatusCode::OK, "patient-service".into()));
}

#[tokio::test]
async fn without_exactly_one_known_key_the_answer_is_401() {
    let wrong = "current-key-of-the-gatewax";
    for keys in [&[][..], &[""], &[wrong], &[&CURRENT[1..]], &[CURRENT, CURRENT], &[wrong, CURRENT]]
    {
        let (status, body) = answer(keys).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{keys:?}");
        assert!(!body.contains(wrong) && !body.contains(CURRENT), "{body}");
    }
}

#[test]
fn debug_shows_names_and_no_key() {
    let shown = format!("{:?}", callers());
    assert!(shown.contains("gateway"));
    for key in [CURRENT, NEXT, OTHER] {
        assert!(!shown.contains(key), "{shown}");
    }
}

#[test]
fn a_short_key_and_a_shared_key_are_refused() {
    let short = Callers::from_keys([("gateway", Secret::new("fifteen bytes.."))]).unwrap_err();
    assert!(matches!(short, SecretError::KeyTooShort { .. }));
    let shared =
        Callers::from_keys([("a", Secret::new(CURRENT)), ("b", Secret::new(CURRENT))]).unwrap_err();
    assert!(matches!(shared, SecretError::SharedKey { .. }));
    assert!(!format!("{short} {shared}").contains(CURRENT));
}

#[test]
fn a_specification_names_one_caller_and_one_or_two_references() {
    for text in ["gateway=env:KEY", "patient-service=file:/a,file:/b", "a.b_C-1=env:K,file:k"] {
        assert!(text.parse::<CallerSpec>().is_ok(), "{text}");
    }
    let long = format!("{}=env:KEY", "n".repeat(65));
    for text in
        ["", "gateway", "=env:KEY", "g w=env:K", "g=", "g=secret", "g=env:A,env:B,env:C", &long]
    {
        let error = text.parse::<CallerSpec>().unwrap_err();
        assert!(!error.to_string().contains("secret,"), "{error}");
    }
}

#[test]
fn a_reload_takes_new_keys_and_keeps_the_old_ones_when_it_fails() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let specs = [format!("gateway=file:{}", path.display()).parse::<CallerSpec>().unwrap()];
    std::fs::write(&path, CURRENT).unwrap();
    let callers = Callers::load(&specs).unwrap();
    std::fs::write(&path, NEXT).unwrap();
    callers.reload(&specs).unwrap();
    assert!(callers.identify(CURRENT.as_bytes()).is_none());
    assert!(callers.identify(NEXT.as_bytes()).is_some());
    std::fs::remove_file(&path).unwrap();
    callers.reload(&specs).unwrap_err();
    assert!(callers.identify(NEXT.as_bytes()).is_some());
}
