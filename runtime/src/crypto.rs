//! The one TLS provider of the process.

/// Makes aws-lc the provider of every TLS connection of this process.
///
/// Call it first in `main`, before any client is built. Later calls do nothing.
pub fn install_tls_provider() {
    // An error only says that a provider is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
