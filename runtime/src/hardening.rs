//! What a service refuses to start with, each by the name of its setting.
//!
//! Every refusal has an override `--insecure-allow-…`, which is logged at each start. `standalone`,
//! whose inner listeners are on loopback and whose keys it makes itself, has none of this.

mod insecure;
mod keys;
mod uri;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::Args;
use reqwest::Url;
use tokio::net::TcpListener;

use crate::{
    listener::{Listener, Peers},
    networks::{Network, Networks},
    secrets::SecretRef,
    service_keys::CallerSpec,
    store_location::StoreLocation,
    tls::{TlsAcceptor, TlsError, TlsSettings},
};

pub use insecure::Insecure;

/// What to accept though it is insecure.
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
#[derive(Debug, Clone, Default, Args)]
pub struct Overrides {
    /// Insecure: take connection strings with passwords on the command line.
    #[arg(long, global = true, env = "VITALOG_INSECURE_ALLOW_PLAINTEXT_SECRETS")]
    pub insecure_allow_plaintext_secrets: bool,
    /// Insecure: take default and known keys.
    #[arg(long, global = true, env = "VITALOG_INSECURE_ALLOW_KNOWN_KEYS")]
    pub insecure_allow_known_keys: bool,
    /// Insecure: take databases on other machines that ask for no authentication.
    #[arg(long, global = true, env = "VITALOG_INSECURE_ALLOW_OPEN_STORES")]
    pub insecure_allow_open_stores: bool,
    /// Insecure: send content and keys to databases on other machines without TLS, or to whoever
    /// answers.
    #[arg(long, global = true, env = "VITALOG_INSECURE_ALLOW_PLAIN_STORES")]
    pub insecure_allow_plain_stores: bool,
    /// Insecure: take connections from every network.
    #[arg(long, global = true, env = "VITALOG_INSECURE_ALLOW_ANY_NETWORK")]
    pub insecure_allow_any_network: bool,
    /// Insecure: send patient data and service keys to other machines without encryption.
    #[arg(long, global = true, env = "VITALOG_INSECURE_ALLOW_PLAIN_HTTP")]
    pub insecure_allow_plain_http: bool,
    /// Insecure: serve clients on other machines without encryption (gateway).
    #[arg(long, global = true, env = "VITALOG_INSECURE_ALLOW_PLAIN_LISTENER")]
    pub insecure_allow_plain_listener: bool,
}

/// Whose connections an internal listener takes.
#[derive(Debug, Clone, Default, Args)]
pub struct NetworkArgs {
    /// Network whose connections are taken, such as 10.1.0.0/16; may be given several times.
    /// Without any, only this machine's are. Others are closed before a byte is read.
    #[arg(
        long = "allow-network",
        env = "VITALOG_ALLOW_NETWORK",
        value_name = "NETWORK",
        value_delimiter = ' '
    )]
    pub allow_network: Vec<Network>,
}

/// Whose connections an internal listener takes, and how.
#[derive(Debug, Clone, Default, Args)]
pub struct PeerArgs {
    /// Whose connections are taken.
    #[command(flatten)]
    pub networks: NetworkArgs,
    /// File of the listener's TLS certificate and its chain (PEM), read again when it changes;
    /// without it the listener speaks plain HTTP.
    #[arg(long, env = "VITALOG_TLS_CERT", value_name = "PATH", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM). REF is `env:NAME`, `file:/path` or
    /// `keyvault:https://…`.
    #[arg(long, env = "VITALOG_TLS_KEY", value_name = "REF", requires = "tls_cert")]
    pub tls_key: Option<SecretRef>,
    /// File of the authorities (PEM) of which callers must show a certificate; without it they
    /// need none.
    #[arg(long, env = "VITALOG_TLS_CLIENT_CA", value_name = "PATH", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
}

impl PeerArgs {
    /// The listener on a bound socket, with TLS where there is a certificate.
    ///
    /// # Errors
    /// [`TlsError`] when the certificate cannot be used.
    pub fn listener(&self, tcp: TcpListener, peers: Peers) -> Result<Listener, TlsError> {
        let listener = Listener::new(tcp, peers);
        let (Some(cert), Some(key)) = (self.tls_cert.clone(), self.tls_key.clone()) else {
            return Ok(listener);
        };
        let settings = TlsSettings { cert, key, client_ca: self.tls_client_ca.clone() };
        Ok(listener.with_tls(TlsAcceptor::load(settings)?))
    }
}

impl Overrides {
    /// Whose connections are taken by a listener on `address`, which the setting `listen` names.
    ///
    /// # Errors
    /// [`Insecure::AnyNetwork`] when others can reach it and no networks are named.
    pub fn peers(
        &self,
        listen: &'static str,
        address: SocketAddr,
        networks: &NetworkArgs,
    ) -> Result<Peers, Insecure> {
        let NetworkArgs { allow_network } = networks;
        let named: Networks = allow_network.iter().copied().collect();
        let networks = named.and(&Networks::loopback());
        if !allow_network.is_empty() || address.ip().to_canonical().is_loopback() {
            return Ok(Peers::Of(networks));
        }
        let error = Insecure::AnyNetwork { listen };
        unless(self.insecure_allow_any_network, error).map(|()| Peers::Anyone)
    }

    /// Looks at the public listener; `is_guarded` says that it speaks TLS, or that proxies are named
    /// which do so in its place.
    ///
    /// # Errors
    /// [`Insecure::PlainListener`] when others can reach it and nothing guards it.
    pub fn public(
        &self,
        listen: &'static str,
        address: SocketAddr,
        is_guarded: bool,
    ) -> Result<(), Insecure> {
        if is_guarded || address.ip().to_canonical().is_loopback() {
            return Ok(());
        }
        unless(self.insecure_allow_plain_listener, Insecure::PlainListener { listen })
    }

    /// Looks at a store's location; follows its reference.
    ///
    /// # Errors
    /// [`Insecure::Plaintext`], [`Insecure::OpenStore`], [`Insecure::PlainStore`] or
    /// [`Insecure::Secret`].
    pub fn store(&self, setting: &'static str, store: &StoreLocation) -> Result<(), Insecure> {
        if let StoreLocation::MongoUri(uri) = store
            && uri::has_password(uri)
        {
            let error = Insecure::Plaintext(setting);
            unless(self.insecure_allow_plaintext_secrets, error)?;
        }
        let failed = |source| Insecure::Secret { setting, source };
        let Some(uri) = store.mongo_uri().map_err(failed)? else { return Ok(()) };
        let uri = uri.text().map_err(failed)?;
        if uri::is_open(uri) {
            unless(self.insecure_allow_open_stores, Insecure::OpenStore(setting))?;
        }
        if uri::is_plain(uri) {
            unless(self.insecure_allow_plain_stores, Insecure::PlainStore(setting))?;
        }
        Ok(())
    }

    /// Looks at the keys that a setting names.
    ///
    /// # Errors
    /// [`Insecure::KnownKey`] or [`Insecure::Secret`].
    pub fn keys<'a>(
        &self,
        setting: &'static str,
        keys: impl IntoIterator<Item = &'a SecretRef>,
    ) -> Result<(), Insecure> {
        for key in keys {
            let key = key.load().map_err(|source| Insecure::Secret { setting, source })?;
            if keys::is_known(key.bytes()) {
                unless(self.insecure_allow_known_keys, Insecure::KnownKey(setting))?;
            }
        }
        Ok(())
    }

    /// Looks at the keys of all callers.
    ///
    /// # Errors
    /// As for [`Overrides::keys`].
    pub fn callers(&self, callers: &[CallerSpec]) -> Result<(), Insecure> {
        self.keys("--caller", callers.iter().flat_map(CallerSpec::keys))
    }

    /// Looks at the address of a service that is sent keys and patient data.
    ///
    /// # Errors
    /// [`Insecure::NotAnAddress`], [`Insecure::UserInAddress`] or [`Insecure::PlainHttp`].
    pub fn upstream(&self, setting: &'static str, url: &str) -> Result<(), Insecure> {
        let url = Url::parse(url).ok().filter(is_address);
        let url = url.ok_or(Insecure::NotAnAddress(setting))?;
        if !url.username().is_empty() || url.password().is_some() {
            unless(self.insecure_allow_plaintext_secrets, Insecure::UserInAddress(setting))?;
        }
        if url.scheme() == "http" && !url.host_str().is_some_and(is_this_machine) {
            unless(self.insecure_allow_plain_http, Insecure::PlainHttp(setting))?;
        }
        Ok(())
    }
}

/// Whether paths can be put behind it.
fn is_address(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none()
}

/// The error, unless it is overridden, which is logged.
fn unless(overridden: bool, error: Insecure) -> Result<(), Insecure> {
    if !overridden {
        return Err(error);
    }
    tracing::warn!(reason = %error, "started though it is insecure, as the settings ask for");
    Ok(())
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address.parse().is_ok_and(|address: IpAddr| {
            // Connecting to the unspecified address leads to this machine.
            address.to_canonical().is_loopback() || address.is_unspecified()
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_takes_this_machine_and_what_is_named() {
        let over = Overrides::default();
        let peers = |listen: &str, networks: &[&str]| {
            let allow_network = networks.iter().map(|network| network.parse().unwrap()).collect();
            over.peers("--listen", listen.parse().unwrap(), &NetworkArgs { allow_network })
        };
        for (listen, networks) in
            [("127.0.0.1:1", &[][..]), ("[::1]:1", &[]), ("0.0.0.0:1", &["10.0.0.0/8"])]
        {
            let peers = peers(listen, networks).unwrap();
            for address in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
                assert!(peers.may_connect(address.parse().unwrap()), "{listen} {address}");
            }
            assert_eq!(peers.may_connect("10.1.2.3".parse().unwrap()), !networks.is_empty());
            assert!(!peers.may_connect("192.0.2.1".parse().unwrap()));
        }
        for listen in ["0.0.0.0:1", "[::]:1", "10.1.2.3:1"] {
            assert!(matches!(peers(listen, &[]), Err(Insecure::AnyNetwork { .. })), "{listen}");
        }
    }

    #[test]
    fn clients_elsewhere_need_tls_or_a_proxy_that_speaks_it() {
        let over = Overrides::default();
        let public =
            |listen: &str, is_guarded| over.public("--listen", listen.parse().unwrap(), is_guarded);
        for listen in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(public(listen, false).is_ok(), "{listen}");
        }
        for listen in ["0.0.0.0:1", "[::]:1", "10.1.2.3:1"] {
            assert!(public(listen, true).is_ok(), "{listen}");
            let refused = public(listen, false);
            assert!(matches!(refused, Err(Insecure::PlainListener { .. })), "{listen}");
        }
    }

    #[test]
    fn an_address_of_a_service_has_no_credentials_and_is_not_repeated() {
        let over = Overrides::default();
        for url in ["http://127.0.0.1:7072", "https://audit.example", "http://[::1]:1/base"] {
            over.upstream("--audit-url", url).unwrap();
        }
        for url in [
            "https://user:canary@audit.example",
            "https://canary@audit.example",
            "https:/user:canary@audit.example",
            "https://audit.example/?key=canary",
            "https://audit.example/#canary",
            "user:canary@audit.example:7072",
            "ftp://canary",
            "canary",
            "",
        ] {
            let error = over.upstream("--audit-url", url).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains("--audit-url") && !text.contains("canary"), "{url}: {text}");
        }
    }
}
