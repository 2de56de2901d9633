//! The public listener.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use http::{HeaderValue, Uri};
use runtime::networks::{Network, Networks};
use runtime::secrets::SecretRef;
use runtime::serve::{Limits, MAX_CONNECTIONS, MAX_CONNECTIONS_PER_ADDRESS};
use runtime::tls::TlsSettings;

/// How the gateway listens.
#[derive(Debug, Args)]
pub struct EdgeOptions {
    /// Address to listen on
    #[arg(long, env = "VITALOG_GATEWAY_LISTEN", default_value = "127.0.0.1:8080")]
    pub(super) listen: SocketAddr,
    /// The listener's protocol and bounds.
    #[command(flatten)]
    pub(super) door: DoorOptions,
}

/// What the public listener speaks, whom it believes and how much it bears.
#[derive(Clone, Debug, Args)]
pub struct DoorOptions {
    /// File of the TLS certificate and its chain (PEM), read again when it changes; without it the
    /// listener speaks plain HTTP, which is for behind a load balancer
    #[arg(long, env = "VITALOG_TLS_CERT", value_name = "PATH", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Where the certificate's private key (PEM) is: `env:NAME`, `file:/path` or
    /// `keyvault:https://…`
    #[arg(long, env = "VITALOG_TLS_KEY", value_name = "REF", requires = "tls_cert")]
    tls_key: Option<SecretRef>,
    /// Proxy whose `X-Forwarded-For` is believed: an address or a network; may be repeated
    #[arg(
        long = "trusted-proxy",
        env = "VITALOG_TRUSTED_PROXIES",
        value_name = "NETWORK",
        value_delimiter = ','
    )]
    trusted_proxies: Vec<Network>,
    /// Origin whose pages may call the API, such as `https://portal.example`; may be repeated
    #[arg(
        long = "cors-origin",
        env = "VITALOG_CORS_ORIGINS",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    cors_origins: Vec<Origin>,
    /// Connections open at once
    #[arg(
        long,
        env = "VITALOG_MAX_CONNECTIONS",
        value_name = "NUMBER",
        default_value_t = MAX_CONNECTIONS
    )]
    max_connections: usize,
    /// Connections open at once from one address that is no trusted proxy
    #[arg(
        long,
        env = "VITALOG_MAX_CONNECTIONS_PER_ADDRESS",
        value_name = "NUMBER",
        default_value_t = MAX_CONNECTIONS_PER_ADDRESS
    )]
    max_connections_per_address: usize,
    /// Seconds for which a connection stays open between requests; longer than a load balancer's
    #[arg(long, env = "VITALOG_IDLE_TIMEOUT", value_name = "SECONDS", default_value_t = 75)]
    idle_timeout: u64,
    /// Seconds between not being ready and not accepting any more, when stopping: as long as a load
    /// balancer takes to notice
    #[arg(long, env = "VITALOG_DRAIN_DELAY", value_name = "SECONDS", default_value_t = 0)]
    drain_delay: u64,
}

impl DoorOptions {
    /// What addresses of the listener begin with: `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls_cert.is_some() { "https" } else { "http" }
    }

    /// What the options say.
    pub fn settings(self) -> EdgeSettings {
        let tls = self.tls_cert.zip(self.tls_key);
        EdgeSettings {
            limits: Limits {
                max_connections: self.max_connections,
                max_connections_per_address: self.max_connections_per_address,
                idle_timeout: Duration::from_secs(self.idle_timeout),
                ..Limits::default()
            },
            tls: tls.map(|(cert, key)| TlsSettings { cert, key, client_ca: None }),
            trusted_proxies: self.trusted_proxies.into_iter().collect(),
            cors_origins: self.cors_origins,
            drain_delay: Duration::from_secs(self.drain_delay),
        }
    }
}

/// How the gateway meets its clients; the default is plain HTTP, no proxies and no origins.
#[derive(Clone, Debug, Default)]
pub struct EdgeSettings {
    /// The bounds of the listener.
    pub limits: Limits,
    /// TLS, in place of plain HTTP.
    pub tls: Option<TlsSettings>,
    /// Proxies whose word about a client's address is taken.
    pub trusted_proxies: Networks,
    /// Origins whose pages may call the API.
    pub cors_origins: Vec<Origin>,
    /// How long to go on accepting after a stop has begun and readiness says so.
    pub drain_delay: Duration,
}

/// The origin of a page as browsers write it: scheme, host and, where unusual, port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(HeaderValue);

/// The text is no origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an origin: write it as browsers do, https://host or https://host:port, in lower case")]
pub struct NotAnOrigin;

impl Origin {
    /// As the `Origin` header has it.
    pub(crate) fn header(&self) -> &HeaderValue {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        let uri: Uri = text.parse().map_err(|_| NotAnOrigin)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(NotAnOrigin);
        };
        let exact = format!("{scheme}://{authority}").to_ascii_lowercase();
        let known = matches!(scheme, "http" | "https");
        let plain = !authority.as_str().contains(['@', '*']);
        if text != exact || !known || !plain {
            return Err(NotAnOrigin);
        }
        HeaderValue::from_str(text).map(Self).map_err(|_| NotAnOrigin)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_browsers_write_it() {
        for text in ["https://portal.example", "http://localhost:3000", "https://[::1]:8443"] {
            assert_eq!(text.parse::<Origin>().unwrap().to_string(), text);
        }
        for text in [
            "*",
            "null",
            "portal.example",
            "https://*.example",
            "https://portal.example/",
            "https://Portal.example",
            "https://portal.example/path",
            "https://user@portal.example",
            "ftp://portal.example",
            "",
        ] {
            assert_eq!(text.parse::<Origin>(), Err(NotAnOrigin), "{text}");
        }
    }
}
