//! The public listener.

use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use http::{HeaderValue, Uri};
use runtime::networks::{Network, Networks};
use runtime::secrets::SecretRef;
use runtime::serve::{IDLE_TIMEOUT, Limits, MAX_CONNECTIONS, MAX_CONNECTIONS_PER_ADDRESS};
use runtime::tls::TlsSettings;

use super::rate::{Rate, rate};

/// The longest time that an option may name, in seconds.
const DAY: u64 = 24 * 60 * 60;

const CONNECTIONS: NonZeroUsize = NonZeroUsize::new(MAX_CONNECTIONS).expect("it is not zero");
const CONNECTIONS_PER_ADDRESS: NonZeroUsize =
    NonZeroUsize::new(MAX_CONNECTIONS_PER_ADDRESS).expect("it is not zero");

/// Requests from one address (IPv6: from one /64) without a valid key or token. A client that is set
/// up wrongly stays below it, and sees in its answers what is wrong.
pub const UNAUTHENTICATED_RATE: Rate = Rate::new(20, 100);

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
    /// listener speaks plain HTTP, which is for this machine and for behind a trusted proxy
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
        default_value_t = CONNECTIONS
    )]
    max_connections: NonZeroUsize,
    /// Connections open at once from one address that is no trusted proxy
    #[arg(
        long,
        env = "VITALOG_MAX_CONNECTIONS_PER_ADDRESS",
        value_name = "NUMBER",
        default_value_t = CONNECTIONS_PER_ADDRESS
    )]
    max_connections_per_address: NonZeroUsize,
    /// Seconds for which a connection stays open between requests; longer than a load balancer's
    #[arg(
        long,
        env = "VITALOG_IDLE_TIMEOUT",
        value_name = "SECONDS",
        default_value_t = IDLE_TIMEOUT.as_secs(),
        value_parser = clap::value_parser!(u64).range(1..=DAY)
    )]
    idle_timeout: u64,
    /// Seconds between not being ready and not accepting any more, when stopping: as long as a load
    /// balancer takes to notice
    #[arg(
        long,
        env = "VITALOG_DRAIN_DELAY",
        value_name = "SECONDS",
        default_value_t = 0,
        value_parser = clap::value_parser!(u64).range(..=DAY)
    )]
    drain_delay: u64,
    /// Requests without a valid key or token in a second from one address; more are answered 429.
    /// Valid keys and tokens are not counted, wherever they come from
    #[arg(
        long,
        env = "VITALOG_UNAUTHENTICATED_RATE",
        value_name = "NUMBER",
        value_parser = rate,
        default_value_t = UNAUTHENTICATED_RATE.per_second
    )]
    unauthenticated_rate: NonZeroU32,
    /// Such requests at once before that rate limits them
    #[arg(
        long,
        env = "VITALOG_UNAUTHENTICATED_BURST",
        value_name = "NUMBER",
        value_parser = rate,
        default_value_t = UNAUTHENTICATED_RATE.burst
    )]
    unauthenticated_burst: NonZeroU32,
}

impl DoorOptions {
    /// What addresses of the listener begin with: `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls_cert.is_some() { "https" } else { "http" }
    }

    /// Whether clients speak TLS to it, or to proxies that are named.
    pub(super) fn is_guarded(&self) -> bool {
        self.tls_cert.is_some() || !self.trusted_proxies.is_empty()
    }

    /// What the options say.
    pub fn settings(self) -> EdgeSettings {
        let tls = self.tls_cert.zip(self.tls_key);
        EdgeSettings {
            limits: Limits {
                max_connections: self.max_connections.get(),
                max_connections_per_address: self.max_connections_per_address.get(),
                idle_timeout: Duration::from_secs(self.idle_timeout),
                ..Limits::default()
            },
            tls: tls.map(|(cert, key)| TlsSettings { cert, key, client_ca: None }),
            uncounted: Networks::loopback(),
            trusted_proxies: self.trusted_proxies.into_iter().collect(),
            cors_origins: self.cors_origins,
            drain_delay: Duration::from_secs(self.drain_delay),
            unauthenticated: Rate {
                per_second: self.unauthenticated_rate,
                burst: self.unauthenticated_burst,
            },
        }
    }
}

/// How the gateway meets its clients; the default is plain HTTP, no proxies and no origins.
#[derive(Clone, Debug)]
pub struct EdgeSettings {
    /// The bounds of the listener.
    pub limits: Limits,
    /// TLS, in place of plain HTTP.
    pub tls: Option<TlsSettings>,
    /// Peers without a bound on their connections, besides trusted proxies: this machine unless a
    /// test says otherwise.
    pub uncounted: Networks,
    /// Proxies whose word about a client's address is taken.
    pub trusted_proxies: Networks,
    /// Origins whose pages may call the API.
    pub cors_origins: Vec<Origin>,
    /// How long to go on accepting after a stop has begun and readiness says so.
    pub drain_delay: Duration,
    /// See [`UNAUTHENTICATED_RATE`].
    pub unauthenticated: Rate,
}

impl Default for EdgeSettings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            tls: None,
            uncounted: Networks::loopback(),
            trusted_proxies: Networks::default(),
            cors_origins: Vec::new(),
            drain_delay: Duration::ZERO,
            unauthenticated: UNAUTHENTICATED_RATE,
        }
    }
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
    use clap::Parser;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        door: DoorOptions,
    }

    fn parse(options: &[&str]) -> Result<EdgeSettings, clap::Error> {
        let line = ["gateway"].iter().chain(options);
        Line::try_parse_from(line).map(|line| line.door.settings())
    }

    #[test]
    fn options_become_settings() {
        let plain = parse(&[]).unwrap();
        assert!(plain.tls.is_none() && plain.trusted_proxies.is_empty());
        assert!(plain.cors_origins.is_empty() && plain.drain_delay.is_zero());
        assert_eq!(plain.unauthenticated, UNAUTHENTICATED_RATE);
        let settings = parse(&[
            "--tls-cert=cert.pem",
            "--tls-key=file:key.pem",
            "--trusted-proxy=10.0.0.0/8,192.0.2.1",
            "--trusted-proxy=fd00::/8",
            "--cors-origin=https://portal.example",
            "--max-connections=7",
            "--max-connections-per-address=3",
            "--idle-timeout=5",
            "--drain-delay=9",
            "--unauthenticated-rate=2",
            "--unauthenticated-burst=8",
        ])
        .unwrap();
        assert_eq!(settings.tls.unwrap().key, "file:key.pem".parse().unwrap());
        for proxy in ["10.1.2.3", "192.0.2.1", "fd00::1"] {
            assert!(settings.trusted_proxies.contains(proxy.parse().unwrap()), "{proxy}");
        }
        assert_eq!(settings.cors_origins, ["https://portal.example".parse().unwrap()]);
        let limits = settings.limits;
        assert_eq!((limits.max_connections, limits.max_connections_per_address), (7, 3));
        assert_eq!(limits.idle_timeout, Duration::from_secs(5));
        assert_eq!(settings.drain_delay, Duration::from_secs(9));
        assert_eq!(settings.unauthenticated, Rate::new(2, 8));
    }

    #[test]
    fn options_that_would_harm_are_refused() {
        for option in [
            "--tls-cert=cert.pem",
            "--tls-key=file:key.pem",
            "--tls-key=secret",
            "--trusted-proxy=0.0.0.0/0",
            "--trusted-proxy=proxy",
            "--cors-origin=*",
            "--max-connections=0",
            "--max-connections-per-address=0",
            "--idle-timeout=0",
            "--unauthenticated-rate=0",
            "--unauthenticated-burst=1000001",
            "--idle-timeout=18446744073709551615",
            "--drain-delay=18446744073709551615",
        ] {
            assert!(parse(&[option]).is_err(), "{option}");
        }
    }

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
