//! The HTTP client for hops between services.

use std::{fs, io, path::PathBuf, time::Duration};

use clap::Args;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use reqwest::{Client, ClientBuilder};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;

use crate::secrets::{SecretError, SecretRef};

/// Opens connections, with TLS or without as the address says.
pub type Connector = HttpsConnector<HttpConnector>;

/// How long opening a connection may take. A service that does not answer within this on an
/// internal network is down, and failing closed early is better than holding a request.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an idle connection is kept: shorter than the server's own
/// [`IDLE_TIMEOUT`](crate::serve::IDLE_TIMEOUT), so that a request never meets a
/// connection that the server is about to close.
pub const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Idle connections kept for each host.
pub const POOL_MAX_IDLE_PER_HOST: usize = 256;

/// How other services are known, and this one to them.
#[derive(Debug, Clone, Default, Args)]
pub struct ClientTlsArgs {
    /// File of the authorities (PEM) whose certificates of other services are taken; without it
    /// those of the system.
    #[arg(long, env = "VITALOG_CA", value_name = "PATH")]
    pub ca: Option<PathBuf>,
    /// File of the certificate (PEM) that this service shows to others.
    #[arg(long, env = "VITALOG_CLIENT_CERT", value_name = "PATH", requires = "client_key")]
    pub client_cert: Option<PathBuf>,
    /// That certificate's private key (PEM). REF is `env:NAME`, `file:/path` or
    /// `keyvault:https://…`.
    #[arg(long, env = "VITALOG_CLIENT_KEY", value_name = "REF", requires = "client_cert")]
    pub client_key: Option<SecretRef>,
}

/// Why there is no client. No variant contains any part of a key.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A file could not be read.
    #[error("{path} cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The key could not be loaded.
    #[error("--client-key cannot be loaded")]
    Key(#[source] SecretError),
    /// Certificates or key are none.
    #[error("--ca, --client-cert and --client-key cannot be used: they must be PEM")]
    NoPem(#[source] pem::Error),
    /// Certificates or key do not fit.
    #[error("--ca, --client-cert and --client-key cannot be used: they must fit")]
    Unusable(#[source] rustls::Error),
    /// The TLS library cannot be set up.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
}

impl ClientTlsArgs {
    /// As [`internal_client`], with these certificates, which are read this once.
    ///
    /// # Errors
    /// [`ClientError`] when they cannot be read or used.
    pub fn client(&self) -> Result<Client, ClientError> {
        self.apply(builder())?.build().map_err(ClientError::Client)
    }

    /// A client's builder with these certificates, which are read this once.
    ///
    /// # Errors
    /// As for [`ClientTlsArgs::client`].
    pub fn apply(&self, builder: ClientBuilder) -> Result<ClientBuilder, ClientError> {
        Ok(builder.tls_backend_preconfigured(self.config()?))
    }

    /// As [`internal_connector`], with these certificates, which are read this once.
    ///
    /// # Errors
    /// [`ClientError`] when they cannot be read or used.
    pub fn connector(&self) -> Result<Connector, ClientError> {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        // The scheme may be https.
        http.enforce_http(false);
        let builder = HttpsConnectorBuilder::new().with_tls_config(self.config()?);
        Ok(builder.https_or_http().enable_http1().wrap_connector(http))
    }

    fn config(&self) -> Result<ClientConfig, ClientError> {
        crate::crypto::install_tls_provider();
        let builder = ClientConfig::builder();
        let builder = match &self.ca {
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(path)? {
                    roots.add(authority).map_err(ClientError::Unusable)?;
                }
                builder.with_root_certificates(roots)
            }
            None => builder.with_platform_verifier().map_err(ClientError::Unusable)?,
        };
        let (Some(path), Some(key)) = (&self.client_cert, &self.client_key) else {
            return Ok(builder.with_no_client_auth());
        };
        let key = key.load().map_err(ClientError::Key)?;
        let key = PrivateKeyDer::from_pem_slice(key.bytes()).map_err(ClientError::NoPem)?;
        builder.with_client_auth_cert(certificates(path)?, key).map_err(ClientError::Unusable)
    }
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(ClientError::NoPem(pem::Error::NoItemsFound)),
        found => found.map_err(ClientError::NoPem),
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, ClientError> {
    fs::read(path).map_err(|source| ClientError::Unreadable { path: path.clone(), source })
}

/// A client for internal hops: HTTP/1.1, no proxy, no redirects, no overall timeout.
///
/// The caller sets a timeout for each request, because some are long polls.
///
/// # Panics
/// When the TLS library cannot be set up, which is a broken installation.
pub fn internal_client() -> Client {
    builder().build().expect("the TLS library can be set up")
}

/// Opens connections to internal services within [`CONNECT_TIMEOUT`], for who keeps them by himself.
///
/// # Panics
/// As [`internal_client`].
pub fn internal_connector() -> Connector {
    ClientTlsArgs::default().connector().expect("the TLS library can be set up")
}

/// As [`internal_client`], but whoever answers is believed: for a process that asks itself whether
/// it is ready, by an address that its certificate need not name. Send it no secret.
///
/// # Panics
/// As [`internal_client`].
pub fn probe_client() -> Client {
    builder().tls_danger_accept_invalid_certs(true).build().expect("the TLS library can be set up")
}

fn builder() -> ClientBuilder {
    crate::crypto::install_tls_provider();
    Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .http1_only()
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .pool_max_idle_per_host(POOL_MAX_IDLE_PER_HOST)
}
