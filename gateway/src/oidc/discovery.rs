//! Fetching an issuer's keys: its configuration first, then the key set that this names.

use std::path::PathBuf;
use std::time::Duration;
use std::{fs, io};

use http::StatusCode;
use http::header::ACCEPT;
use reqwest::{Certificate, Client, Url};
use serde::Deserialize;
use tokio::time::timeout;

use super::issuer::Issuer;
use super::keys::KeySet;
use crate::config::OidcSettings;

/// The most bytes of either document. Large issuers publish some 30 KiB, with certificates.
const MAX_DOCUMENT_BYTES: usize = 256 * 1024;

/// Why there is no client that could fetch keys.
#[derive(Debug, thiserror::Error)]
pub enum IssuerClientError {
    /// The file of authorities could not be read.
    #[error("--oidc-ca: {path} cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// Its authorities, or those of the system, cannot be used.
    #[error("the authorities for the token issuer cannot be used: --oidc-ca must be PEM")]
    Unusable(#[source] reqwest::Error),
}

/// Why there are no keys. What the issuer answered is not repeated.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// It cannot be reached, or the connection broke.
    #[error("the {document} cannot be fetched")]
    Unreachable {
        document: &'static str,
        #[source]
        source: reqwest::Error,
    },
    /// It took longer than all of it may.
    #[error("the issuer does not answer in time")]
    Timeout,
    /// Not 200; redirects are not followed.
    #[error("the {document} is answered with status {status}")]
    Status { document: &'static str, status: StatusCode },
    /// Over [`MAX_DOCUMENT_BYTES`].
    #[error("the {0} is larger than {MAX_DOCUMENT_BYTES} bytes")]
    TooLarge(&'static str),
    /// Something else than expected.
    #[error("the {0} is not one")]
    Garbage(&'static str),
    /// The configuration is that of somebody else.
    #[error("the configuration names another issuer than the one that is configured here")]
    OtherIssuer,
    /// It is neither https nor local.
    #[error("the configuration names an address of the keys that is not https")]
    Address,
    /// What is there is for other purposes, or too weak.
    #[error("the issuer publishes no key that tokens may be signed with")]
    NoKeys,
}

const CONFIGURATION: &str = "configuration";
const KEY_SET: &str = "key set";

/// What the configuration has for us.
#[derive(Deserialize)]
struct Configuration {
    issuer: String,
    jwks_uri: String,
}

/// Where keys come from.
pub(super) struct Source {
    issuer: Issuer,
    client: Client,
    /// For all of it.
    patience: Duration,
}

impl Source {
    pub(super) fn new(settings: &OidcSettings) -> Result<Self, IssuerClientError> {
        runtime::crypto::install_tls_provider();
        let (issuer, patience) = (settings.issuer.clone(), settings.fetch_timeout);
        let mut client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .https_only(!issuer.is_local())
            .pool_max_idle_per_host(0);
        if issuer.is_local() {
            // Others may be behind the proxy that the environment names.
            client = client.no_proxy();
        }
        if let Some(path) = &settings.ca {
            let pem = fs::read(path)
                .map_err(|source| IssuerClientError::Unreadable { path: path.clone(), source })?;
            let authorities = Certificate::from_pem_bundle(&pem);
            client = client.tls_certs_only(authorities.map_err(IssuerClientError::Unusable)?);
        }
        let client = client.build().map_err(IssuerClientError::Unusable)?;
        Ok(Self { issuer, client, patience })
    }

    /// The keys as they are now.
    pub(super) async fn fetch(&self) -> Result<KeySet, FetchError> {
        timeout(self.patience, self.fetch_both()).await.map_err(|_| FetchError::Timeout)?
    }

    async fn fetch_both(&self) -> Result<KeySet, FetchError> {
        let json = self.get(CONFIGURATION, self.issuer.configuration()).await?;
        let configuration: Configuration =
            serde_json::from_slice(&json).map_err(|_| FetchError::Garbage(CONFIGURATION))?;
        // OpenID Connect Discovery 1.0, section 4.3.
        if configuration.issuer != self.issuer.as_str() {
            return Err(FetchError::OtherIssuer);
        }
        let keys = Url::parse(&configuration.jwks_uri).map_err(|_| FetchError::Address)?;
        if !self.issuer.may_refer_to(&keys) {
            return Err(FetchError::Address);
        }
        let json = self.get(KEY_SET, keys).await?;
        let keys = KeySet::parse(&json).ok_or(FetchError::Garbage(KEY_SET))?;
        // More likely a mishap than the end of all tokens.
        if keys.len() == 0 { Err(FetchError::NoKeys) } else { Ok(keys) }
    }

    async fn get(&self, document: &'static str, url: Url) -> Result<Vec<u8>, FetchError> {
        let unreachable = |source| FetchError::Unreachable { document, source };
        let request = self.client.get(url).header(ACCEPT, "application/json");
        let mut response = request.send().await.map_err(unreachable)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status { document, status: response.status() });
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if bytes.len() + chunk.len() > MAX_DOCUMENT_BYTES {
                return Err(FetchError::TooLarge(document));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}
