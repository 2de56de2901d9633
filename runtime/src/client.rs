//! The HTTP client for hops between services.

use std::time::Duration;

/// How long opening a connection may take. A service that does not answer within this on an
/// internal network is down, and failing closed early is better than holding a request.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an idle connection is kept: shorter than the server's own
/// [`IDLE_TIMEOUT`](crate::serve::IDLE_TIMEOUT), so that a request never meets a
/// connection that the server is about to close.
pub const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Idle connections kept for each host.
pub const POOL_MAX_IDLE_PER_HOST: usize = 256;

/// A client for internal hops: HTTP/1.1, no proxy, no redirects, no overall timeout.
///
/// The caller sets a timeout for each request, because some are long polls.
///
/// # Panics
/// When the TLS library cannot be set up, which is a broken installation.
pub fn internal_client() -> reqwest::Client {
    builder().build().expect("the TLS library can be set up")
}

/// As [`internal_client`], but whoever answers is believed: for a process that asks itself whether
/// it is ready, by an address that its certificate need not name. Send it no secret.
///
/// # Panics
/// As [`internal_client`].
pub fn probe_client() -> reqwest::Client {
    builder().tls_danger_accept_invalid_certs(true).build().expect("the TLS library can be set up")
}

fn builder() -> reqwest::ClientBuilder {
    crate::crypto::install_tls_provider();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .http1_only()
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .pool_max_idle_per_host(POOL_MAX_IDLE_PER_HOST)
}
