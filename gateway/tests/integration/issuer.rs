//! An issuer of tokens, which can change its keys, go away, hang and talk nonsense.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use http::header::LOCATION;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, get_current_timestamp};
use runtime::listener::Listener;
use runtime::tls::{TlsAcceptor, TlsSettings};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::{CANARY, endless_body};

pub(crate) const AUDIENCE: &str = "api://vitalog";

/// A key by which tokens are signed.
#[derive(Clone)]
pub(crate) struct SigningKey {
    pub(crate) kid: String,
    pub(crate) algorithm: Algorithm,
    private: EncodingKey,
}

impl SigningKey {
    /// One of two RSA keys of 2,048 bits: making more takes long.
    pub(crate) fn rsa(kid: &str, which: usize) -> Self {
        static DER: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
            [(); 2].map(|()| {
                let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
                let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
                // PKCS #8 has the key itself behind a head that is the same for every key of this
                // length.
                der.as_ref()[26..].to_vec()
            })
        });
        let private = EncodingKey::from_rsa_der(&DER[which]);
        Self { kid: kid.to_owned(), algorithm: Algorithm::RS256, private }
    }

    /// A new key on P-256.
    pub(crate) fn ec(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let private = EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref());
        Self { kid: kid.to_owned(), algorithm: Algorithm::ES256, private }
    }

    /// The same key for another algorithm.
    pub(crate) fn with(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// The same key under another name.
    pub(crate) fn called(mut self, kid: &str) -> Self {
        kid.clone_into(&mut self.kid);
        self
    }

    /// As Microsoft Entra ID publishes keys: without `alg`.
    pub(crate) fn public(&self) -> Value {
        let mut jwk =
            serde_json::to_value(Jwk::from_encoding_key(&self.private, self.algorithm).unwrap())
                .unwrap();
        jwk.as_object_mut().unwrap().remove("alg");
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        jwk
    }

    pub(crate) fn head(&self) -> Value {
        json!({"alg": self.algorithm, "kid": self.kid, "typ": "JWT"})
    }

    /// A token with this head and these claims, whatever they say.
    pub(crate) fn sign(&self, head: &Value, claims: &Value) -> String {
        self.sign_text(&head.to_string(), &claims.to_string())
    }

    pub(crate) fn sign_text(&self, head: &str, claims: &str) -> String {
        let message =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims));
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &self.private, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(&self.head(), claims)
    }
}

/// How a document is answered.
#[derive(Clone)]
pub(crate) enum Answer {
    /// As it should be.
    Usual,
    Status(u16),
    Text(String),
    Redirect(String),
    Slow(Duration),
    /// A head, and then a body that never ends.
    Hang,
}

struct Shared {
    url: String,
    keys: Mutex<Vec<Value>>,
    configuration: Mutex<Answer>,
    key_set: Mutex<Answer>,
    fetches: AtomicUsize,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

/// A running issuer.
pub(crate) struct Issuer {
    shared: Arc<Shared>,
    _stop: DropGuard,
}

impl Issuer {
    pub(crate) async fn start(keys: &[&SigningKey]) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), keys)
    }

    pub(crate) fn on(listener: TcpListener, keys: &[&SigningKey]) -> Self {
        let url = format!("http://{}/tenant/v2.0", listener.local_addr().unwrap());
        Self::called(url, Listener::from(listener), keys)
    }

    /// One that speaks TLS, and is known by this host.
    pub(crate) async fn over_tls(host: &str, tls: TlsSettings, keys: &[&SigningKey]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{host}:{}/tenant/v2.0", listener.local_addr().unwrap().port());
        let tls = TlsAcceptor::load(tls).unwrap();
        Self::called(url, Listener::from(listener).with_tls(tls), keys)
    }

    fn called(url: String, listener: Listener, keys: &[&SigningKey]) -> Self {
        let shared = Arc::new(Shared {
            url,
            keys: Mutex::default(),
            configuration: Mutex::new(Answer::Usual),
            key_set: Mutex::new(Answer::Usual),
            fetches: AtomicUsize::new(0),
            at_once: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
        });
        let of = Arc::clone(&shared);
        let configuration = get(async move || {
            let usual = json!({"issuer": of.url, "jwks_uri": format!("{}/keys", of.url)});
            let answer = of.configuration.lock().unwrap().clone();
            respond(answer, usual).await
        });
        let of = Arc::clone(&shared);
        let key_set = get(async move || {
            of.fetches.fetch_add(1, Ordering::SeqCst);
            let now = of.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            of.most_at_once.fetch_max(now, Ordering::SeqCst);
            let usual = json!({"keys": *of.keys.lock().unwrap()});
            let answer = of.key_set.lock().unwrap().clone();
            let response = respond(answer, usual).await;
            of.at_once.fetch_sub(1, Ordering::SeqCst);
            response
        });
        let app = Router::new()
            .route("/tenant/v2.0/.well-known/openid-configuration", configuration)
            .route("/tenant/v2.0/keys", key_set);
        let stop = CancellationToken::new();
        tokio::spawn(runtime::serve::serve(listener, app, stop.clone()));
        let issuer = Self { shared, _stop: stop.drop_guard() };
        issuer.publish(keys);
        issuer
    }

    pub(crate) fn url(&self) -> &str {
        &self.shared.url
    }

    pub(crate) fn publish(&self, keys: &[&SigningKey]) {
        self.publish_values(keys.iter().map(|key| key.public()).collect());
    }

    pub(crate) fn publish_values(&self, keys: Vec<Value>) {
        *self.shared.keys.lock().unwrap() = keys;
    }

    pub(crate) fn configuration(&self, answer: Answer) {
        *self.shared.configuration.lock().unwrap() = answer;
    }

    pub(crate) fn key_set(&self, answer: Answer) {
        *self.shared.key_set.lock().unwrap() = answer;
    }

    /// How often the key set was asked for.
    pub(crate) fn fetches(&self) -> usize {
        self.shared.fetches.load(Ordering::SeqCst)
    }

    /// How many asked for it at the same time.
    pub(crate) fn most_at_once(&self) -> usize {
        self.shared.most_at_once.load(Ordering::SeqCst)
    }

    /// What a token of a nurse says who may read patients.
    pub(crate) fn claims(&self) -> Value {
        let now = get_current_timestamp();
        json!({
            "iss": self.url(),
            "aud": AUDIENCE,
            "iat": now,
            "nbf": now,
            "exp": now + 600,
            "oid": format!("{CANARY}-oid-of-a-nurse"),
            "sub": format!("{CANARY}-pairwise"),
            "preferred_username": format!("{CANARY}@clinic.example"),
            "scp": "patient:read",
            "roles": ["nurse"],
            "ver": "2.0",
        })
    }

    pub(crate) fn claims_with(&self, name: &str, value: impl Into<Value>) -> Value {
        let mut claims = self.claims();
        claims[name] = value.into();
        claims
    }

    pub(crate) fn claims_without(&self, name: &str) -> Value {
        let mut claims = self.claims();
        claims.as_object_mut().unwrap().remove(name);
        claims
    }
}

async fn respond(answer: Answer, usual: Value) -> Response {
    match answer {
        Answer::Usual => axum::Json(usual).into_response(),
        Answer::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Answer::Text(text) => text.into_response(),
        Answer::Redirect(to) => (StatusCode::FOUND, [(LOCATION, to)]).into_response(),
        Answer::Slow(pause) => {
            tokio::time::sleep(pause).await;
            axum::Json(usual).into_response()
        }
        Answer::Hang => endless_body("{").into_response(),
    }
}
