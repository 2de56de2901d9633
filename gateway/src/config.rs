//! Settings, from flags and environment variables.

mod edge;
mod oidc;
mod subscriptions;
mod upstreams;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use runtime::secrets::{Secret, SecretError};

pub use edge::EdgeOptions;
pub use oidc::{
    FETCH_FLOOR, FETCH_TIMEOUT, Issuer, IssuerError, OidcOptions, OidcSettings, REFRESH_INTERVAL,
};
pub use subscriptions::{AddSubscription, SubscriptionOptions, SubscriptionsCommand};
pub use upstreams::{ServiceKey, UpstreamOptions, UpstreamSettings};

/// How long an upstream may take for the head of an answer, beyond a long poll's own wait, and
/// between two parts of its body. Longer than the services' own deadline for an append (8 s), so
/// that their answer, which knows more about the outcome, comes first.
pub const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests in flight at once. Each may hold a body of 1 MiB, and beyond some hundred of them more
/// only add to the time that each takes.
pub const MAX_IN_FLIGHT: usize = 1_024;

/// Between two looks at files that are read again when they change.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// What the gateway needs to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The patient service.
    pub patients: UpstreamSettings,
    /// The audit service.
    pub audit: UpstreamSettings,
    /// The file of subscriptions.
    pub subscriptions: PathBuf,
    /// The secret under which that file holds digests of keys.
    pub pepper: Secret,
    /// Whose tokens are taken; none without it.
    pub oidc: Option<OidcSettings>,
    /// See [`UPSTREAM_TIMEOUT`].
    pub upstream_timeout: Duration,
    /// See [`MAX_IN_FLIGHT`].
    pub max_in_flight: usize,
    /// See [`RELOAD_INTERVAL`].
    pub reload_interval: Duration,
}

impl Settings {
    /// Settings with the default bounds.
    pub fn new(
        patients: UpstreamSettings,
        audit: UpstreamSettings,
        subscriptions: impl Into<PathBuf>,
        pepper: Secret,
    ) -> Self {
        Self {
            patients,
            audit,
            subscriptions: subscriptions.into(),
            pepper,
            oidc: None,
            upstream_timeout: UPSTREAM_TIMEOUT,
            max_in_flight: MAX_IN_FLIGHT,
            reload_interval: RELOAD_INTERVAL,
        }
    }
}

/// Why there are no settings to serve with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// An option is missing.
    #[error("{0} is required to serve")]
    Missing(&'static str),
    /// The pepper could not be loaded.
    #[error("the pepper cannot be loaded")]
    Pepper(#[source] SecretError),
}

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "gateway",
    about = "The public door of Vitalog",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct Cli {
    /// What to do other than serve.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve.
    #[command(flatten)]
    pub options: Options,
}

/// What the program does other than serve.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Manage the file of subscriptions
    #[command(subcommand)]
    Subscriptions(SubscriptionsCommand),
}

/// Options of serving.
#[derive(Debug, Args)]
pub struct Options {
    /// The public listener.
    #[command(flatten)]
    edge: EdgeOptions,
    /// The services behind the gateway.
    #[command(flatten)]
    upstreams: UpstreamOptions,
    /// Who may come in with a key.
    #[command(flatten)]
    subscriptions: SubscriptionOptions,
    /// Who may come in with a token.
    #[command(flatten)]
    oidc: OidcOptions,
}

impl Options {
    /// The address to listen on, and the settings with the pepper read.
    pub fn settings(self) -> Result<(SocketAddr, Settings), ConfigError> {
        let (patients, audit) = self.upstreams.settings()?;
        // The parser has asked for them already: they are optional only beside a subcommand.
        let SubscriptionOptions { subscriptions, pepper } = self.subscriptions;
        let subscriptions = subscriptions.ok_or(ConfigError::Missing("--subscriptions"))?;
        let pepper = pepper.ok_or(ConfigError::Missing("--pepper"))?;
        let pepper = pepper.load().map_err(ConfigError::Pepper)?;
        let mut settings = Settings::new(patients, audit, subscriptions, pepper);
        settings.oidc = self.oidc.settings();
        Ok((self.edge.listen, settings))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serving_takes_tokens_where_an_issuer_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let pepper = folder.path().join("pepper");
        std::fs::write(&pepper, "0123456789abcdef").unwrap();
        let line = format!(
            "gateway --subscriptions s.toml --pepper file:{} --patient-key env:A --audit-key env:B",
            pepper.display()
        );
        let oidc = |more: &str| {
            let line = format!("{line} {more}");
            let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
            cli.options.settings().unwrap().1.oidc
        };
        assert!(oidc("").is_none());
        let tokens = oidc("--oidc-issuer https://login.example --oidc-audience api").unwrap();
        assert_eq!(tokens.issuer.as_str(), "https://login.example");
    }

    #[test]
    fn serving_needs_its_secrets_and_a_subcommand_does_not() {
        assert!(Cli::try_parse_from(["gateway"]).is_err());
        let cli = Cli::try_parse_from([
            "gateway",
            "subscriptions",
            "add",
            "clinic",
            "--scope",
            "patient:read",
            "--scope",
            "patient:write",
            "--subscriptions",
            "s.toml",
            "--pepper",
            "env:PEPPER",
        ])
        .unwrap();
        assert!(matches!(cli.command, Some(Command::Subscriptions(SubscriptionsCommand::Add(_)))));
    }
}
