//! A vault and an identity endpoint, as far as a reader of secrets sees them: the REST of Key Vault
//! over TLS, and the protocols by which machines and apps get tokens.
#![allow(unreachable_pub, dead_code, reason = "the suite of the whole system has this file, too")]

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Json, Router,
    extract::{Path as UrlPath, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What the app shows to its identity endpoint.
pub const IDENTITY_HEADER: &str = "canary-identity-header";

/// The vault; it ends when it is dropped.
pub struct FakeVault {
    vault: SocketAddr,
    identity: SocketAddr,
    certificate: String,
    state: Shared,
    _running: DropGuard,
}

type Shared = Arc<Mutex<Vault>>;

/// What the vault has, and how it is today.
#[derive(Default)]
pub struct Vault {
    /// The versions of each secret, oldest first: name and value.
    pub secrets: HashMap<String, Vec<(String, String)>>,
    /// How many of the next requests are answered so, with Retry-After in seconds.
    pub refusals: Vec<(u16, Option<u64>)>,
    /// Connections are closed.
    pub down: bool,
    /// Tokens are given that the vault does not take.
    pub wrong_tokens: bool,
    /// The identity endpoint refuses.
    pub no_identity: bool,
    /// The `client_id` of each request for a token.
    pub token_requests: Vec<Option<String>>,
    /// The status of each answer to a request with a token.
    pub answers: Vec<u16>,
    /// The names that were asked for with a token.
    pub asked: BTreeSet<String>,
}

impl FakeVault {
    /// Starts it on a thread of its own, because loading a secret blocks.
    pub fn start() -> Self {
        runtime::crypto::install_tls_provider();
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let tls = TlsAcceptor::from(Arc::new(config));
        let running = CancellationToken::new();
        let (state, stop) = (Shared::default(), running.clone());
        let (ready, addresses) = std::sync::mpsc::channel();
        let served = Arc::clone(&state);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let vault = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let identity = TcpListener::bind("127.0.0.1:0").await.unwrap();
                ready.send((vault.local_addr().unwrap(), identity.local_addr().unwrap())).unwrap();
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = serve_vault(vault, tls, served.clone()) => {}
                    result = axum::serve(identity, identity_routes(served)) => result.unwrap(),
                }
            });
        });
        let (vault, identity) = addresses.recv().unwrap();
        let certificate = cert.pem();
        Self { vault, identity, certificate, state, _running: running.drop_guard() }
    }

    /// What it has.
    pub fn now(&self) -> MutexGuard<'_, Vault> {
        self.state.lock().unwrap()
    }

    /// Adds a version of a secret.
    pub fn set(&self, name: &str, version: &str, value: &str) {
        let version = (version.to_owned(), value.to_owned());
        self.now().secrets.entry(name.to_owned()).or_default().push(version);
    }

    /// How settings name a secret.
    pub fn reference(&self, name: &str) -> String {
        format!("keyvault:https://{}/secrets/{name}", self.vault)
    }

    /// A client that trusts the vault's certificate, and for which this is also the metadata
    /// service of a virtual machine: plain HTTP goes to the identity endpoint, whatever the address.
    pub fn http(&self) -> reqwest::Client {
        let certificate = reqwest::Certificate::from_pem(self.certificate.as_bytes()).unwrap();
        let identity = reqwest::Proxy::http(format!("http://{}", self.identity)).unwrap();
        reqwest::Client::builder().tls_certs_only([certificate]).proxy(identity).build().unwrap()
    }

    /// The environment of a program that is an app with an identity; `folder` is for the file of the
    /// certificate.
    pub fn environment(&self, folder: &Path) -> Vec<(String, String)> {
        let file = folder.join("vault.pem");
        std::fs::write(&file, &self.certificate).unwrap();
        [
            ("SSL_CERT_FILE", file.display().to_string()),
            ("IDENTITY_ENDPOINT", format!("http://{}/msi/token", self.identity)),
            ("IDENTITY_HEADER", IDENTITY_HEADER.to_owned()),
            ("VITALOG_KEYVAULT_REFRESH", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

async fn serve_vault(listener: TcpListener, tls: TlsAcceptor, state: Shared) {
    let routes = Router::new()
        .route("/secrets/{name}/", get(newest))
        .route("/secrets/{name}/{version}", get(version))
        .with_state(state.clone());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        if state.lock().unwrap().down {
            continue;
        }
        let (tls, service) = (tls.clone(), TowerToHyperService::new(routes.clone()));
        tokio::spawn(async move {
            if let Ok(stream) = tls.accept(stream).await {
                // One request a connection, so that an outage is one at once.
                let _ = hyper::server::conn::http1::Builder::new()
                    .keep_alive(false)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            }
        });
    }
}

async fn newest(
    State(state): State<Shared>,
    UrlPath(name): UrlPath<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    answer(&state, &name, None, &query, &headers)
}

async fn version(
    State(state): State<Shared>,
    UrlPath((name, version)): UrlPath<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    answer(&state, &name, Some(&version), &query, &headers)
}

fn answer(
    state: &Shared,
    name: &str,
    version: Option<&str>,
    query: &HashMap<String, String>,
    headers: &HeaderMap,
) -> Response {
    const CHALLENGE: &str = "Bearer authorization=\"https://login.microsoftonline.com/tenant\", \
                             resource=\"https://vault.azure.net\"";
    let mut vault = state.lock().unwrap();
    let token = headers.get(header::AUTHORIZATION);
    let known = token.is_some_and(|token| token == "Bearer the-right-token");
    if token.is_some() && !known {
        vault.answers.push(401);
    }
    if !known {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, CHALLENGE)]).into_response();
    }
    vault.asked.insert(name.to_owned());
    let error = |status: u16, code: &str| {
        let status = StatusCode::from_u16(status).unwrap();
        (status, Json(json!({"error": {"code": code, "message": code}}))).into_response()
    };
    let response = if !query.contains_key("api-version") {
        error(400, "BadParameter")
    } else if !vault.refusals.is_empty() {
        let (status, retry_after) = vault.refusals.remove(0);
        let mut response = error(status, "Refused");
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    } else {
        let versions = vault.secrets.get(name).map_or(&[][..], Vec::as_slice);
        let found = match version {
            None => versions.last(),
            Some(version) => versions.iter().find(|it| it.0 == version),
        };
        match found {
            Some((version, value)) => {
                let id = format!("https://a.vault.azure.net/secrets/{name}/{version}");
                let attributes = json!({"enabled": true});
                Json(json!({"value": value, "id": id, "attributes": attributes})).into_response()
            }
            None => error(404, "SecretNotFound"),
        }
    };
    vault.answers.push(response.status().as_u16());
    response
}

fn identity_routes(state: Shared) -> Router {
    Router::new()
        .route("/metadata/identity/oauth2/token", get(token))
        .route("/msi/token", get(app_token))
        .with_state(state)
}

async fn app_token(
    state: State<Shared>,
    query: Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if headers.get("x-identity-header").is_none_or(|header| header != IDENTITY_HEADER) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    token(state, query, headers).await
}

async fn token(
    State(state): State<Shared>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let mut vault = state.lock().unwrap();
    vault.token_requests.push(query.get("client_id").cloned());
    let asked = query.get("resource").is_some_and(|it| it == "https://vault.azure.net");
    if !asked || headers.get("metadata").is_none_or(|it| it != "true") || vault.no_identity {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let token = if vault.wrong_tokens { "another-token" } else { "the-right-token" };
    let resource = "https://vault.azure.net";
    Json(json!({
        "access_token": token, "expires_on": "4102444800", "token_type": "Bearer", "resource": resource
    }))
    .into_response()
}
