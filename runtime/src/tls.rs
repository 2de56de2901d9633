//! TLS for listeners, with certificates that are read again when they change.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::sleep;
use tokio_rustls::server::TlsStream;

use crate::secrets::{Secret, SecretError, SecretRef};

/// Between two looks at the files.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// The largest file of certificates that is read, in bytes.
const MAX_CERTIFICATES_BYTES: u64 = 1024 * 1024;

/// Where the certificates of a listener are.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// The chain, the listener's own certificate first (PEM).
    pub cert: PathBuf,
    /// Its private key (PEM: PKCS #8, PKCS #1 or SEC 1).
    pub key: SecretRef,
    /// Authorities of which clients must show a certificate (PEM); without it they need none.
    pub client_ca: Option<PathBuf>,
}

/// Why there is nothing to serve TLS with. No variant contains any part of a key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of certificates could not be read.
    #[error("{path} cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A file holds no certificates, or something else among them.
    #[error("{0} holds no PEM certificates")]
    NoCertificates(PathBuf),
    /// The key could not be loaded.
    #[error("the private key cannot be loaded")]
    Key(#[source] SecretError),
    /// The key is not one.
    #[error("{0} holds no PEM private key")]
    NoKey(SecretRef),
    /// The certificate and the key cannot be used together, or not at all.
    #[error("certificate and private key cannot be used")]
    Unusable(#[source] rustls::Error),
    /// The authorities of clients cannot be used.
    #[error("the certificates of the client authorities cannot be used")]
    ClientCa(#[source] VerifierBuilderError),
}

/// Accepts TLS 1.2 and 1.3 with the certificate as it is now. Clones share it.
#[derive(Clone)]
pub struct TlsAcceptor {
    settings: Arc<TlsSettings>,
    current: Arc<ArcSwap<ServerConfig>>,
}

/// What the files held; read again, it tells whether they have changed.
struct Material {
    chain: Vec<u8>,
    key: Secret,
    client_ca: Option<Vec<u8>>,
}

impl TlsAcceptor {
    /// Reads the certificates.
    ///
    /// # Errors
    /// [`TlsError`] when they are not there or do not fit together.
    pub fn load(settings: TlsSettings) -> Result<Self, TlsError> {
        let config = Material::read(&settings)?.config(&settings)?;
        Ok(Self { settings: Arc::new(settings), current: Arc::new(ArcSwap::from_pointee(config)) })
    }

    /// Reads the certificates again whenever they change, for ever. New connections get the new
    /// ones; a pair that cannot be used is logged, and the last good one stays.
    pub async fn watch(self, interval: Duration) {
        // Read once more, so that a change since loading counts.
        let mut seen: Option<Material> = None;
        let mut unreadable = false;
        loop {
            let settings = Arc::clone(&self.settings);
            // Files and secrets are read without holding up the runtime.
            let read = tokio::task::spawn_blocking(move || Material::read(&settings)).await;
            let material = match read {
                Ok(Ok(material)) => Some(material),
                Ok(Err(error)) => {
                    if !unreadable {
                        let error: &(dyn Error + 'static) = &error;
                        tracing::warn!(error, "the certificate cannot be read, the last one stays");
                    }
                    None
                }
                // The process is stopping.
                Err(_) => None,
            };
            unreadable = material.is_none();
            if let Some(material) = material
                && !seen.as_ref().is_some_and(|seen| seen.same_as(&material))
            {
                self.replace(&material, seen.is_none());
                seen = Some(material);
            }
            sleep(interval).await;
        }
    }

    /// The handshake.
    ///
    /// # Errors
    /// Whatever the peer got wrong.
    pub async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = tokio_rustls::TlsAcceptor::from(self.current.load_full());
        match acceptor.accept(stream).into_fallible().await {
            Ok(stream) => Ok(stream),
            Err((error, mut stream)) => {
                // So that the peer gets the alert in place of a reset; gone already, it needs none.
                let _ = stream.shutdown().await;
                Err(error)
            }
        }
    }

    fn replace(&self, material: &Material, first: bool) {
        match material.config(&self.settings) {
            Ok(config) => {
                self.current.store(Arc::new(config));
                if !first {
                    tracing::info!("the certificate was read again");
                }
            }
            Err(error) => {
                let error: &(dyn Error + 'static) = &error;
                tracing::warn!(error, "the new certificate cannot be used, the last one stays");
            }
        }
    }
}

impl fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsAcceptor").field(&self.settings).finish()
    }
}

impl Material {
    fn read(settings: &TlsSettings) -> Result<Self, TlsError> {
        Ok(Self {
            chain: read_file(&settings.cert)?,
            key: settings.key.load().map_err(TlsError::Key)?,
            client_ca: settings.client_ca.as_deref().map(read_file).transpose()?,
        })
    }

    fn same_as(&self, other: &Self) -> bool {
        self.chain == other.chain
            && self.key.bytes() == other.key.bytes()
            && self.client_ca == other.client_ca
    }

    fn config(&self, settings: &TlsSettings) -> Result<ServerConfig, TlsError> {
        let chain = certificates(&self.chain, &settings.cert)?;
        let key = PrivateKeyDer::from_pem_slice(self.key.bytes())
            .map_err(|_| TlsError::NoKey(settings.key.clone()))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(TlsError::Unusable)?;
        let builder = match (&settings.client_ca, &self.client_ca) {
            (Some(path), Some(pem)) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(pem, path)? {
                    roots.add(authority).map_err(TlsError::Unusable)?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .map_err(TlsError::ClientCa)?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Unusable)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn certificates(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(TlsError::NoCertificates(path.to_owned())),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_CERTIFICATES_BYTES).read_to_end(&mut bytes))
        .map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })?;
    Ok(bytes)
}
