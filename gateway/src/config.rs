//! Settings, from flags and environment variables.

mod edge;
mod oidc;
mod subscriptions;
mod upstreams;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use runtime::client::ClientError;
use runtime::hardening::{Insecure, Overrides};
use runtime::secrets::{Secret, SecretError};

pub use edge::{DoorOptions, EdgeOptions, EdgeSettings, NotAnOrigin, Origin};
pub use oidc::OidcOptions;
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
    /// The client to reach both with.
    pub client: reqwest::Client,
    /// The audit service.
    pub audit: UpstreamSettings,
    /// The file of subscriptions.
    pub subscriptions: PathBuf,
    /// The secret under which that file holds digests of keys.
    pub pepper: Secret,
    /// See [`UPSTREAM_TIMEOUT`].
    pub upstream_timeout: Duration,
    /// See [`MAX_IN_FLIGHT`].
    pub max_in_flight: usize,
    /// See [`RELOAD_INTERVAL`].
    pub reload_interval: Duration,
    /// How clients are met.
    pub edge: EdgeSettings,
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
            client: runtime::client::internal_client(),
            audit,
            subscriptions: subscriptions.into(),
            pepper,
            upstream_timeout: UPSTREAM_TIMEOUT,
            max_in_flight: MAX_IN_FLIGHT,
            reload_interval: RELOAD_INTERVAL,
            edge: EdgeSettings::default(),
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
    /// The certificates towards the services cannot be used.
    #[error("the services cannot be reached")]
    Client(#[source] ClientError),
    /// A setting is insecure.
    #[error(transparent)]
    Insecure(Insecure),
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
    /// What to accept though it is insecure.
    #[command(flatten)]
    overrides: Overrides,
}

impl Options {
    /// The address to listen on, and the settings with the pepper read.
    pub fn settings(self) -> Result<(SocketAddr, Settings), ConfigError> {
        let OidcOptions {} = self.oidc;
        self.upstreams.harden(&self.overrides).map_err(ConfigError::Insecure)?;
        let pepper = &self.subscriptions.pepper;
        self.overrides.keys("--pepper", pepper).map_err(ConfigError::Insecure)?;
        let client = self.upstreams.client_tls.client().map_err(ConfigError::Client)?;
        let (patients, audit) = self.upstreams.settings()?;
        // The parser has asked for them already: they are optional only beside a subcommand.
        let SubscriptionOptions { subscriptions, pepper } = self.subscriptions;
        let subscriptions = subscriptions.ok_or(ConfigError::Missing("--subscriptions"))?;
        let pepper = pepper.ok_or(ConfigError::Missing("--pepper"))?;
        let pepper = pepper.load().map_err(ConfigError::Pepper)?;
        let mut settings = Settings::new(patients, audit, subscriptions, pepper);
        settings.client = client;
        settings.edge = self.edge.door.settings();
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
