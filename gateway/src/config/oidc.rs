//! Bearer tokens of an OpenID provider.

use clap::Args;

/// Whose tokens are taken.
#[derive(Debug, Args)]
pub struct OidcOptions {}
