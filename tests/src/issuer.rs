//! A local issuer of tokens in the shape of Microsoft Entra ID, for tests and for trying out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use axum::extract::Query;
use axum::{Json, Router, routing::get};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What its tokens are for.
pub const AUDIENCE: &str = "api://vitalog";

/// How long its tokens are good for, in seconds.
const LIFETIME_S: u64 = 3_600;

/// A running issuer. It ends when it is dropped.
#[derive(Debug)]
pub struct LocalIssuer {
    signer: Arc<Signer>,
    _stop: DropGuard,
}

struct Signer {
    url: String,
    key: EncodingKey,
    header: Header,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("url", &self.url).finish_non_exhaustive()
    }
}

impl LocalIssuer {
    /// Listens with a new key. `GET /token?oid=…&scp=…` answers a token with these claims.
    pub async fn start(listen: SocketAddr) -> anyhow::Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        let key = EncodingKey::from_ec_der(pair.to_pkcs8v1()?.as_ref());
        let listener = TcpListener::bind(listen).await.context("the issuer cannot listen")?;
        let url = format!("http://{}", listener.local_addr()?);
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, Algorithm::ES256)?)?;
        // A new name for each key: the gateway may know the one of an earlier run.
        let kid = format!("local-{}", get_current_timestamp());
        jwk["kid"] = json!(kid);
        jwk["use"] = json!("sig");
        let header = Header { kid: Some(kid), ..Header::new(Algorithm::ES256) };
        let signer = Arc::new(Signer { url: url.clone(), key, header });

        let configuration = json!({"issuer": url, "jwks_uri": format!("{url}/keys")});
        let keys = json!({"keys": [jwk]});
        let asked = Arc::clone(&signer);
        let app = Router::new()
            .route("/.well-known/openid-configuration", get(async || Json(configuration)))
            .route("/keys", get(async || Json(keys)))
            .route(
                "/token",
                get(async move |Query(claims): Query<BTreeMap<String, String>>| {
                    asked.token(&json!(claims))
                }),
            );
        let stop = CancellationToken::new();
        tokio::spawn(runtime::serve::serve(listener, app, stop.clone()));
        Ok(Self { signer, _stop: stop.drop_guard() })
    }

    /// Its name in tokens, and its address.
    pub fn url(&self) -> &str {
        &self.signer.url
    }

    /// A token with these claims beside those that every token needs.
    pub fn token(&self, claims: &Value) -> String {
        self.signer.token(claims)
    }
}

impl Signer {
    fn token(&self, more: &Value) -> String {
        let now = get_current_timestamp();
        let mut claims = json!({
            "iss": self.url, "aud": AUDIENCE, "iat": now, "nbf": now, "exp": now + LIFETIME_S,
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            claims[name] = value.clone();
        }
        encode(&self.header, &claims, &self.key).expect("a key on P-256 signs")
    }
}
