//! Settings, from flags and environment variables.

mod edge;
mod metrics;
mod oidc;
mod rate;
mod subscriptions;
mod upstreams;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::{Args, Parser, Subcommand};
use runtime::client::{ClientError, Connector};
use runtime::hardening::{Insecure, Overrides};
use runtime::listener::Peers;
use runtime::secrets::{Secret, SecretError, SecretRef};
use runtime::telemetry::TelemetryArgs;

use crate::subscriptions::SubscriptionsLocation;

pub use edge::{DoorOptions, EdgeOptions, EdgeSettings, NotAnOrigin, Origin, UNAUTHENTICATED_RATE};
pub use metrics::MetricsOptions;
pub use oidc::{
    FETCH_FLOOR, FETCH_TIMEOUT, Issuer, IssuerError, KEYS_MAX_AGE, OidcOptions, OidcSettings,
    REFRESH_INTERVAL, TOKEN_RATE,
};
pub(crate) use rate::MAX_RATE;
pub use rate::Rate;
pub use subscriptions::{
    AddSubscription, Done, LedgerOptions, LimitOptions, LimitSubscription, NamedSubscription,
    PepperOptions, RotateSubscription, StoreOptions, SubscriptionOptions, SubscriptionsCommand,
};
pub use upstreams::{
    ANSWER_TIMEOUT, BREAKER_FAILURES, DENIALS_PER_SECOND, PLACES, Places, ServiceKey,
    UPSTREAM_TIMEOUT, UpstreamOptions, UpstreamSettings,
};

/// Between two looks at files that are read again when they change.
pub const RELOAD_INTERVAL: Duration = Duration::from_millis(500);

/// Tells the time, by which subscriptions expire and quotas begin anew.
pub type Clock = fn() -> DateTime<Utc>;

/// The machine's clock.
#[allow(clippy::disallowed_methods)]
const SYSTEM_CLOCK: Clock = Utc::now;

/// What the gateway needs to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The patient service.
    pub patients: UpstreamSettings,
    /// The client with which refusals are recorded.
    pub client: reqwest::Client,
    /// What opens the connections for requests.
    pub connector: Connector,
    /// The audit service.
    pub audit: UpstreamSettings,
    /// Where the subscriptions are.
    pub subscriptions: SubscriptionsLocation,
    /// The secrets under which digests of keys are stored, the newest first.
    pub peppers: Vec<Secret>,
    /// Whose tokens are taken; none without it.
    pub oidc: Option<OidcSettings>,
    /// See [`UPSTREAM_TIMEOUT`].
    pub upstream_timeout: Duration,
    /// See [`ANSWER_TIMEOUT`].
    pub answer_timeout: Duration,
    /// See [`BREAKER_FAILURES`].
    pub breaker_failures: NonZeroU32,
    /// Requests under way at once, by kind.
    pub places: Places,
    /// See [`DENIALS_PER_SECOND`].
    pub denials_per_second: NonZeroU32,
    /// See [`RELOAD_INTERVAL`].
    pub reload_interval: Duration,
    /// The time; the machine's unless a test says otherwise.
    pub clock: Clock,
    /// How clients are met.
    pub edge: EdgeSettings,
}

impl Settings {
    /// Settings with the default bounds.
    pub fn new(
        patients: UpstreamSettings,
        audit: UpstreamSettings,
        subscriptions: impl Into<SubscriptionsLocation>,
        pepper: Secret,
    ) -> Self {
        Self {
            patients,
            client: runtime::client::internal_client(),
            connector: runtime::client::internal_connector(),
            audit,
            subscriptions: subscriptions.into(),
            peppers: vec![pepper],
            oidc: None,
            upstream_timeout: UPSTREAM_TIMEOUT,
            answer_timeout: ANSWER_TIMEOUT,
            breaker_failures: BREAKER_FAILURES,
            places: PLACES,
            denials_per_second: DENIALS_PER_SECOND,
            reload_interval: RELOAD_INTERVAL,
            clock: SYSTEM_CLOCK,
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
    /// Manage subscriptions
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
    /// What is told to operators.
    #[command(flatten)]
    metrics: MetricsOptions,
    /// Where traces and metrics go.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
    /// What to accept though it is insecure.
    #[command(flatten)]
    overrides: Overrides,
}

impl Options {
    /// What to accept though it is insecure, also beside a subcommand.
    pub fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// The address of the listener of `/metrics`, and whose connections it takes.
    pub fn metrics_listen(&self) -> Result<Option<(SocketAddr, Peers)>, ConfigError> {
        let MetricsOptions { metrics_listen, networks } = &self.metrics;
        let Some(address) = *metrics_listen else { return Ok(None) };
        let peers = self.overrides.peers("--metrics-listen", address, networks);
        Ok(Some((address, peers.map_err(ConfigError::Insecure)?)))
    }

    /// The address to listen on, and how clients are met there.
    pub fn door(&self) -> (SocketAddr, EdgeSettings) {
        (self.edge.listen, self.edge.door.clone().settings())
    }

    /// The settings, looked at and with the pepper read: loads secrets.
    pub fn settings(self) -> Result<Settings, ConfigError> {
        self.harden().map_err(ConfigError::Insecure)?;
        let client_tls = &self.upstreams.client_tls;
        let client = client_tls.client().map_err(ConfigError::Client)?;
        let connector = client_tls.connector().map_err(ConfigError::Client)?;
        let bounds = self.upstreams.bounds();
        let (patients, audit) = self.upstreams.settings()?;
        // The parser has asked for them already: they are optional only beside a subcommand.
        let SubscriptionOptions { subscriptions, database_prefix, pepper } = self.subscriptions;
        let subscriptions = subscriptions.ok_or(ConfigError::Missing("--subscriptions"))?;
        let subscriptions = subscriptions.with_prefix(&database_prefix);
        let peppers = pepper.iter().map(SecretRef::load).collect::<Result<Vec<_>, _>>();
        let peppers = peppers.map_err(ConfigError::Pepper)?;
        let pepper = peppers.first().ok_or(ConfigError::Missing("--pepper"))?.clone();
        let mut settings = Settings::new(patients, audit, subscriptions, pepper);
        settings.peppers = peppers;
        settings.oidc = self.oidc.settings();
        bounds.apply(&mut settings);
        settings.client = client;
        settings.connector = connector;
        settings.edge = self.edge.door.settings();
        Ok(settings)
    }

    /// Looks whether the settings are secure.
    fn harden(&self) -> Result<(), Insecure> {
        let EdgeOptions { listen, door } = &self.edge;
        self.upstreams.harden(&self.overrides)?;
        self.subscriptions.harden(&self.overrides)?;
        self.overrides.public("--listen", *listen, door.is_guarded())
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

    /// A command line that serves, with one option more.
    fn serving(option: &str) -> Result<Cli, clap::Error> {
        let needed = ["--subscriptions=s", "--pepper=env:P", "--patient-key=env:K"];
        let all = ["gateway", "--audit-key=env:K"].into_iter().chain(needed);
        Cli::try_parse_from(all.chain([option]))
    }

    #[test]
    fn bounds_are_what_is_said_or_the_defaults_and_never_nothing() {
        let parsed = |option: &str| {
            let secret = || Secret::new("0123456789abcdef");
            let at = || UpstreamSettings { url: String::new(), key: ServiceKey::Fixed(secret()) };
            let mut settings = Settings::new(at(), at(), std::path::Path::new(""), secret());
            let defaults = settings.clone();
            serving(option).unwrap().options.upstreams.bounds().apply(&mut settings);
            (settings, defaults)
        };
        let (settings, defaults) = parsed("--listen=127.0.0.1:0");
        assert_eq!(settings.places, defaults.places);
        assert_eq!(settings.upstream_timeout, defaults.upstream_timeout);
        assert_eq!(settings.answer_timeout, defaults.answer_timeout);
        assert_eq!(settings.breaker_failures, defaults.breaker_failures);
        assert_eq!(settings.denials_per_second, defaults.denials_per_second);
        assert_eq!(parsed("--max-searches=7").0.places.searches.get(), 7);
        assert_eq!(parsed("--answer-timeout=7").0.answer_timeout.as_secs(), 7);
        for nothing in [
            "--max-commands=0",
            "--max-reads=0",
            "--max-searches=0",
            "--max-ledger-reads=0",
            "--upstream-timeout=0",
            "--answer-timeout=0",
            "--breaker-failures=0",
            "--denials-per-second=0",
        ] {
            assert!(serving(nothing).is_err(), "{nothing}");
        }
    }

    #[test]
    fn serving_takes_tokens_where_an_issuer_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        std::fs::write(&key, runtime::secrets::random_key_hex()).unwrap();
        let key = format!("file:{}", key.display());
        let line = format!(
            "gateway --subscriptions s.toml --pepper {key} --patient-key {key} --audit-key {key}"
        );
        let oidc = |more: &str| {
            let line = format!("{line} {more}");
            let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
            cli.options.settings().unwrap().oidc
        };
        assert!(oidc("").is_none());
        let tokens = oidc("--oidc-issuer https://login.example --oidc-audience api").unwrap();
        assert_eq!(tokens.issuer.as_str(), "https://login.example");
    }

    #[test]
    fn metrics_are_told_to_named_networks_alone() {
        let peers = |options: &str| {
            let line = format!(
                "gateway --subscriptions=s --pepper=env:P --patient-key=env:K --audit-key=env:K {options}"
            );
            Cli::try_parse_from(line.split_whitespace()).unwrap().options.metrics_listen()
        };
        assert!(peers("").unwrap().is_none());
        assert!(peers("--metrics-listen=127.0.0.1:9090").unwrap().is_some());
        let open = peers("--metrics-listen=0.0.0.0:9090").unwrap_err();
        assert!(format!("{open:?}").contains("--metrics-listen"), "{open:?}");
        let (_, peers) =
            peers("--metrics-listen=0.0.0.0:9090 --allow-network=10.1.0.0/16").unwrap().unwrap();
        assert!(peers.may_connect("10.1.2.3".parse().unwrap()));
        assert!(!peers.may_connect("10.2.0.1".parse().unwrap()));
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
            "--unrecorded",
        ])
        .unwrap();
        assert!(matches!(cli.command, Some(Command::Subscriptions(SubscriptionsCommand::Add(_)))));
    }
}
