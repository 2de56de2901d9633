//! A back end of telemetry: the ingestion endpoint of Application Insights, as far as a sender of
//! traces sees it, over TLS.

use std::{
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context;
use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use flate2::read::GzDecoder;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

/// The resource that envelopes must be for; a secret of whoever sends them.
pub const INSTRUMENTATION_KEY: &str = "5f1c0000-0000-4000-8000-00000000a1b2";

/// An ingestion endpoint; it ends when it is dropped.
#[derive(Debug)]
pub struct AppInsights {
    address: String,
    certificate: PathBuf,
    shared: Arc<Shared>,
    // Ends the server when it is dropped.
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Shared {
    received: Mutex<Vec<Value>>,
}

impl AppInsights {
    /// Listens on a free port of loopback. Its certificate goes into `folder`.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        runtime::crypto::install_tls_provider();
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let certificate = folder.join("app-insights.pem");
        std::fs::write(&certificate, cert.pem())?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let shared = Arc::new(Shared::default());
        let app = Router::new()
            .route("/v2/track", post(track))
            .route("/v2.1/track", post(track))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&shared));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), app));
        Ok(Self { address, certificate, shared, _tasks: tasks })
    }

    /// The connection string of a sender.
    pub fn connection_string(&self) -> String {
        let Self { address, .. } = self;
        format!("InstrumentationKey={INSTRUMENTATION_KEY};IngestionEndpoint=https://{address}/")
    }

    /// What a process is told, in its environment, in order to send traces here: where, and whose
    /// certificates it takes.
    pub fn environment(&self) -> Vec<(String, String)> {
        vec![
            ("INSIGHTS".to_owned(), self.connection_string()),
            ("VITALOG_APPLICATION_INSIGHTS".to_owned(), "env:INSIGHTS".to_owned()),
            ("SSL_CERT_FILE".to_owned(), self.certificate.display().to_string()),
        ]
    }

    /// Every envelope so far, in the order in which they came.
    pub fn envelopes(&self) -> Vec<Value> {
        self.shared.received().clone()
    }
}

impl Shared {
    fn received(&self) -> MutexGuard<'_, Vec<Value>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, app: Router) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let (tls, app) = (tls.clone(), app.clone());
        connections.spawn(async move {
            if let Ok(stream) = tls.accept(stream).await {
                let service = TowerToHyperService::new(app);
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            }
        });
    }
}

/// Takes envelopes, or says how many it took.
async fn track(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Json<Value>) {
    let Ok(envelopes) = envelopes(&headers, &body) else {
        return (StatusCode::BAD_REQUEST, Json(json!({})));
    };
    let count = envelopes.len();
    let answer = json!({"itemsReceived": count, "itemsAccepted": count, "errors": []});
    if envelopes.iter().any(|envelope| envelope["iKey"] != INSTRUMENTATION_KEY) {
        return (StatusCode::BAD_REQUEST, Json(json!({})));
    }
    shared.received().extend(envelopes);
    (StatusCode::OK, Json(answer))
}

/// The envelopes of a body: an array, or one a line; compressed or not.
fn envelopes(headers: &HeaderMap, body: &[u8]) -> anyhow::Result<Vec<Value>> {
    let mut text = String::new();
    if headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
        GzDecoder::new(body).read_to_string(&mut text)?;
    } else {
        text.push_str(std::str::from_utf8(body)?);
    }
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(&text).context("an array of envelopes");
    }
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| serde_json::from_str(line).context("an envelope")).collect()
}
