//! Why a service does not start.

use crate::secrets::SecretError;

/// Why a service does not start: a setting is insecure, or its secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Insecure {
    /// A password stands in a setting.
    #[error(
        "{0} holds a password, which shows in lists of processes: put the whole URI where only this service can read it, and name that by env:NAME, file:/path or keyvault:https://… (--insecure-allow-plaintext-secrets takes it all the same)"
    )]
    Plaintext(&'static str),
    /// A user or a password stands in the address of a service.
    #[error(
        "{0} holds a user or a password, which shows in lists of processes and logs: services know each other by keys and certificates (--insecure-allow-plaintext-secrets takes it all the same)"
    )]
    UserInAddress(&'static str),
    /// The address of a service is none. It is not repeated: it may hold a password.
    #[error("{0} is no address of a service: write https://HOST:PORT (the value is not shown)")]
    NotAnAddress(&'static str),
    /// A key that is known to all.
    #[error(
        "{0} is a default or known key: make one of 32 random bytes (--insecure-allow-known-keys takes it all the same)"
    )]
    KnownKey(&'static str),
    /// A database that asks nobody who he is.
    #[error(
        "{0} names a MongoDB on another machine without authentication: give it a user and a password, or authMechanism=MONGODB-X509 or MONGODB-OIDC (--insecure-allow-open-stores takes it all the same)"
    )]
    OpenStore(&'static str),
    /// A database that is spoken to in the clear, or that may be anybody.
    #[error(
        "{0} names a MongoDB on another machine without TLS, or with certificates that are not checked: give it tls=true, with tlsCAFile where its authority is your own, and no tlsInsecure or tlsAllowInvalid… (--insecure-allow-plain-stores takes it all the same)"
    )]
    PlainStore(&'static str),
    /// An internal listener that others can reach, and no word on whose connections it takes.
    #[error(
        "{listen} is no loopback address, so --allow-network must say from which networks connections are taken, such as 10.1.0.0/16 (--insecure-allow-any-network takes all)"
    )]
    AnyNetwork {
        /// The setting with the address.
        listen: &'static str,
    },
    /// Clients would send keys and get patient data in the clear.
    #[error(
        "{listen} is no loopback address, so clients need TLS: give --tls-cert and --tls-key, or --trusted-proxy with the load balancer that speaks TLS to them (--insecure-allow-plain-listener takes it all the same)"
    )]
    PlainListener {
        /// The setting with the address.
        listen: &'static str,
    },
    /// Patient data and keys would cross a network in the clear.
    #[error(
        "{0} is plain http to another machine: use https (--insecure-allow-plain-http takes it all the same)"
    )]
    PlainHttp(&'static str),
    /// A secret that is to be looked at cannot be had.
    #[error("{setting} cannot be used")]
    Secret {
        /// The setting.
        setting: &'static str,
        /// Why.
        #[source]
        source: SecretError,
    },
}
