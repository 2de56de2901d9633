//! Settings, from flags and environment variables.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use domain::ids::Name;
use runtime::secrets::{Secret, SecretError, SecretRef};

use crate::subscriptions::{self, Entry, Scope, SubscriptionsError};

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
            upstream_timeout: UPSTREAM_TIMEOUT,
            max_in_flight: MAX_IN_FLIGHT,
            reload_interval: RELOAD_INTERVAL,
        }
    }
}

/// How to reach a service.
#[derive(Clone, Debug)]
pub struct UpstreamSettings {
    /// Base address, such as `http://127.0.0.1:7071`.
    pub url: String,
    /// The key by which the service knows the gateway.
    pub key: ServiceKey,
}

/// A service key, or where it is.
#[derive(Clone, Debug)]
pub enum ServiceKey {
    /// At hand, in a process that composes several services.
    Fixed(Secret),
    /// Named; read again when it changes.
    Named(SecretRef),
}

impl ServiceKey {
    /// The key as it is now.
    pub fn load(&self) -> Result<Secret, SecretError> {
        match self {
            Self::Fixed(secret) => Ok(secret.clone()),
            Self::Named(reference) => reference.load(),
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
    /// Address to listen on
    #[arg(long, env = "VITALOG_GATEWAY_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Address of patient-service
    #[arg(long, env = "VITALOG_PATIENT_URL", default_value = "http://127.0.0.1:7071")]
    patient_url: String,
    /// Where the key for patient-service is: `env:NAME` or `file:/path`
    #[arg(long, env = "VITALOG_PATIENT_KEY", value_name = "REF", required = true)]
    patient_key: Option<SecretRef>,
    /// Address of audit-service
    #[arg(long, env = "VITALOG_AUDIT_URL", default_value = "http://127.0.0.1:7072")]
    audit_url: String,
    /// Where the key for audit-service is: `env:NAME` or `file:/path`
    #[arg(long, env = "VITALOG_AUDIT_KEY", value_name = "REF", required = true)]
    audit_key: Option<SecretRef>,
    /// File of subscriptions (TOML)
    #[arg(long, env = "VITALOG_SUBSCRIPTIONS", value_name = "PATH", required = true)]
    subscriptions: Option<PathBuf>,
    /// Where the pepper of the subscription keys is: `env:NAME` or `file:/path`
    #[arg(long, env = "VITALOG_PEPPER", value_name = "REF", required = true)]
    pepper: Option<SecretRef>,
}

impl Options {
    /// The address to listen on, and the settings with the pepper read.
    pub fn settings(self) -> Result<(SocketAddr, Settings), ConfigError> {
        // The parser has asked for them already: they are optional only beside a subcommand.
        let patient_key = self.patient_key.ok_or(ConfigError::Missing("--patient-key"))?;
        let audit_key = self.audit_key.ok_or(ConfigError::Missing("--audit-key"))?;
        let subscriptions = self.subscriptions.ok_or(ConfigError::Missing("--subscriptions"))?;
        let pepper = self.pepper.ok_or(ConfigError::Missing("--pepper"))?;
        let pepper = pepper.load().map_err(ConfigError::Pepper)?;
        let settings = Settings::new(
            UpstreamSettings { url: self.patient_url, key: ServiceKey::Named(patient_key) },
            UpstreamSettings { url: self.audit_url, key: ServiceKey::Named(audit_key) },
            subscriptions,
            pepper,
        );
        Ok((self.listen, settings))
    }
}

/// What can be done with the file of subscriptions.
#[derive(Debug, Subcommand)]
pub enum SubscriptionsCommand {
    /// Add a subscription and print its key, which is shown this once
    Add(AddSubscription),
}

impl SubscriptionsCommand {
    /// Does it, and returns the new key.
    pub fn run(&self) -> Result<String, SubscriptionsError> {
        let Self::Add(add) = self;
        add.run()
    }
}

/// Options of adding a subscription.
#[derive(Debug, Args)]
pub struct AddSubscription {
    /// Name, up to 64 letters, digits, dots, dashes and underscores; it stands in records
    name: Name,
    /// Scope that the subscription has; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<Scope>,
    /// File of subscriptions (TOML); made if it does not exist
    #[arg(long, env = "VITALOG_SUBSCRIPTIONS", value_name = "PATH")]
    subscriptions: PathBuf,
    /// Where the pepper of the subscription keys is: `env:NAME` or `file:/path`
    #[arg(long, env = "VITALOG_PEPPER", value_name = "REF")]
    pepper: SecretRef,
}

impl AddSubscription {
    fn run(&self) -> Result<String, SubscriptionsError> {
        let pepper = self.pepper.load().map_err(SubscriptionsError::Pepper)?;
        subscriptions::check_pepper(&pepper)?;
        let key = subscriptions::new_key();
        let entry = Entry {
            name: self.name.clone(),
            scopes: self.scopes.clone(),
            keys: vec![subscriptions::hash_key(&pepper, &key)],
        };
        subscriptions::append(&self.subscriptions, &entry)?;
        Ok(key)
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
        let Some(Command::Subscriptions(SubscriptionsCommand::Add(add))) = cli.command else {
            panic!("not the subcommand");
        };
        assert_eq!(add.scopes, [Scope::PatientRead, Scope::PatientWrite]);
    }
}
