//! A vault and an identity endpoint, as far as readers and writers of secrets see them: the REST of
//! Key Vault over TLS, and the protocols by which machines and apps get tokens. At the same address
//! is a resource manager, as far as databases' credentials are concerned.
#![allow(unreachable_pub, dead_code, reason = "the suite of the whole system has this file, too")]

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path as UrlPath, Query, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{get, put},
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};
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

/// What tokens for the resource manager are for.
const MANAGER: &str = "https://management.azure.com";

/// What tokens are given for.
const TOKENS_FOR: [&str; 2] = ["https://vault.azure.net", MANAGER];

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
#[allow(clippy::struct_excessive_bools, reason = "each is a trouble of its own")]
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
    /// The expiry of each secret that was written, in seconds since 1970.
    pub expiries: HashMap<String, Option<i64>>,
    /// The password of each cluster, by resource id.
    pub clusters: HashMap<String, String>,
    /// The keys of each account, by resource id.
    pub accounts: HashMap<String, [String; 2]>,
    /// A key that is made anew is the old one until it was looked at once more.
    pub keys_change_late: bool,
    /// Those keys, by account and place.
    pub late_keys: Vec<(String, usize)>,
    /// Changes that the resource manager took on: what was asked for.
    pub managed: Vec<String>,
    /// Whether the next change of a cluster fails after it was taken on.
    pub change_fails: bool,
    /// Operations may not be looked at, resources may.
    pub operations_refused: bool,
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

    /// The address of vault and resource manager.
    pub fn address(&self) -> String {
        format!("https://{}", self.vault)
    }

    /// The newest value of a secret.
    pub fn value(&self, name: &str) -> Option<String> {
        self.now().secrets.get(name).and_then(|versions| Some(versions.last()?.1.clone()))
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
        .route("/secrets", get(list))
        .route("/secrets/{name}", put(write))
        .route("/secrets/{name}/", get(newest))
        .route("/secrets/{name}/{version}", get(version))
        .fallback(manage)
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

/// What anybody without the right token is answered.
fn challenged(vault: &mut Vault, headers: &HeaderMap) -> Option<Response> {
    const CHALLENGE: &str = "Bearer authorization=\"https://login.microsoftonline.com/tenant\", \
                             resource=\"https://vault.azure.net\"";
    let token = headers.get(header::AUTHORIZATION);
    let known = token.is_some_and(|token| token == "Bearer the-right-token");
    if token.is_some() && !known {
        vault.answers.push(401);
    }
    let challenge = [(header::WWW_AUTHENTICATE, CHALLENGE)];
    (!known).then(|| (StatusCode::UNAUTHORIZED, challenge).into_response())
}

fn error(status: u16, code: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    (status, Json(json!({"error": {"code": code, "message": code}}))).into_response()
}

async fn write(
    State(state): State<Shared>,
    UrlPath(name): UrlPath<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut vault = state.lock().unwrap();
    if let Some(response) = challenged(&mut vault, &headers) {
        return response;
    }
    let body: Value = serde_json::from_slice(&body).unwrap();
    let value = body["value"].as_str().unwrap().to_owned();
    vault.expiries.insert(name.clone(), body["attributes"]["exp"].as_i64());
    let versions = vault.secrets.entry(name.clone()).or_default();
    let version = format!("w{}", versions.len());
    versions.push((version.clone(), value));
    Json(json!({"id": format!("https://a.vault.azure.net/secrets/{name}/{version}")}))
        .into_response()
}

async fn list(State(state): State<Shared>, headers: HeaderMap) -> Response {
    let mut vault = state.lock().unwrap();
    if let Some(response) = challenged(&mut vault, &headers) {
        return response;
    }
    let entry = |name: &String| {
        let attributes = json!({"enabled": true, "exp": vault.expiries.get(name)});
        json!({"id": format!("https://a.vault.azure.net/secrets/{name}"), "attributes": attributes})
    };
    let entries: Vec<Value> = vault.secrets.keys().map(entry).collect();
    Json(json!({ "value": entries })).into_response()
}

/// The resource manager: clusters have a password, accounts two keys. A change of a cluster is taken
/// on, and done when it is looked at.
async fn manage(
    State(state): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut vault = state.lock().unwrap();
    let token = headers.get(header::AUTHORIZATION);
    if token.is_none_or(|token| token != "Bearer the-managers-token") {
        return error(401, "InvalidAuthenticationToken");
    }
    if uri.query().is_none_or(|query| !query.starts_with("api-version=20")) {
        return error(400, "MissingApiVersionParameter");
    }
    let path = uri.path().to_owned();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let (id, verb) = path.rsplit_once('/').unwrap();
    if path == "/operations/1" {
        if vault.operations_refused {
            return error(403, "AuthorizationFailed");
        }
        let status = if vault.change_fails { "Failed" } else { "Succeeded" };
        return Json(json!({ "status": status })).into_response();
    }
    if method != Method::GET && verb != "listConnectionStrings" {
        vault.managed.push(format!("{method} {path}"));
    }
    if vault.clusters.contains_key(&path) {
        let host = path.rsplit('/').next().unwrap();
        let shown = format!(
            "mongodb+srv://<user>:<password>@{host}.mongocluster.cosmos.azure.com/?tls=true"
        );
        if method == Method::GET {
            let state = if vault.change_fails { "Failed" } else { "Succeeded" };
            let properties = json!({"connectionString": shown, "provisioningState": state});
            return Json(json!({ "properties": properties })).into_response();
        }
        let administrator = &body["properties"]["administrator"];
        assert_eq!(administrator["userName"], "vitalog");
        if !vault.change_fails {
            let password = administrator["password"].as_str().unwrap().to_owned();
            vault.clusters.insert(path, password);
        }
        let host = headers[header::HOST].to_str().unwrap();
        let at = format!("https://{host}/operations/1?api-version=2024-07-01");
        return (StatusCode::ACCEPTED, [("azure-asyncoperation", at), ("retry-after", "0".into())])
            .into_response();
    }
    let keys_change_late = vault.keys_change_late;
    let Some(keys) = vault.accounts.get_mut(id) else { return error(404, "ResourceNotFound") };
    let names = ["Primary", "Secondary"];
    match verb {
        "listConnectionStrings" => {
            let shown = |place: usize| {
                let uri = format!(
                    "mongodb://a:{}@a.mongo.cosmos.azure.com:10255/?ssl=true&retrywrites=false",
                    keys[place]
                );
                json!({"connectionString": uri, "keyKind": names[place]})
            };
            let strings = [shown(0), shown(1)];
            for (id, place) in std::mem::take(&mut vault.late_keys) {
                vault.accounts.get_mut(&id).unwrap()[place].push('x');
            }
            Json(json!({ "connectionStrings": strings })).into_response()
        }
        "regenerateKey" => {
            let kind = body["keyKind"].as_str().unwrap();
            let place = ["primary", "secondary"].iter().position(|name| kind == *name);
            let Some(place) = place else { return error(400, "BadRequest") };
            if keys_change_late {
                vault.late_keys.push((id.to_owned(), place));
            } else {
                keys[place].push('x');
            }
            StatusCode::OK.into_response()
        }
        _ => error(404, "InvalidResourceType"),
    }
}

fn answer(
    state: &Shared,
    name: &str,
    version: Option<&str>,
    query: &HashMap<String, String>,
    headers: &HeaderMap,
) -> Response {
    let mut vault = state.lock().unwrap();
    if let Some(response) = challenged(&mut vault, headers) {
        return response;
    }
    vault.asked.insert(name.to_owned());
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
    let resource = query.get("resource").map_or("", |it| it.trim_end_matches('/'));
    if !TOKENS_FOR.contains(&resource)
        || headers.get("metadata").is_none_or(|it| it != "true")
        || vault.no_identity
    {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let token = match (resource, vault.wrong_tokens) {
        (_, true) => "another-token",
        (MANAGER, false) => "the-managers-token",
        _ => "the-right-token",
    };
    Json(json!({
        "access_token": token, "expires_on": "4102444800", "token_type": "Bearer", "resource": resource
    }))
    .into_response()
}
