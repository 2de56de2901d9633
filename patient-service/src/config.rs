//! Settings of the service, from flags and environment; the only reader of them.

use std::{net::SocketAddr, sync::Arc};

use audit_client::{AuditClient, Options};
use clap::{ArgMatches, CommandFactory, Error, FromArgMatches, Parser, Subcommand};
use domain::time::Timestamp;
use projections::open::{OpenError, open_key_ring, open_projection_store, until_open};
use runtime::{
    client::{ClientError, ClientTlsArgs},
    hardening::{Insecure, Overrides, PeerArgs},
    health::Readiness,
    listener::Peers,
    secrets::{self, Secret, SecretError, SecretRef},
    service_keys::{CallerSpec, Callers},
    store_location::StoreLocation,
    telemetry::TelemetryArgs,
};
use tokio_util::sync::CancellationToken;

use crate::{
    keys::{KeyRingArgs, KeysCommand},
    service::{Deps, Door},
    state::Clock,
    upkeep::PROJECTION_STORE,
};

/// What the program does: it serves, or does what the subcommand `keys` says.
#[derive(Debug)]
pub enum Cli {
    /// Serve until told to stop.
    Serve(Box<Settings>),
    /// Look after the key ring.
    Keys(KeysCommand, Overrides),
}

// By hand, because a derived command line cannot do without the options of serving when there is a
// subcommand.
impl CommandFactory for Cli {
    fn command() -> clap::Command {
        let keys = clap::Command::new("keys").about("Look after the key ring");
        let keys = KeysCommand::augment_subcommands(keys).subcommand_required(true);
        Settings::command().subcommand_negates_reqs(true).subcommand(keys)
    }

    fn command_for_update() -> clap::Command {
        Self::command()
    }
}

impl FromArgMatches for Cli {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        match matches.subcommand() {
            Some((_, keys)) => Ok(Self::Keys(
                KeysCommand::from_arg_matches(keys)?,
                Overrides::from_arg_matches(keys)?,
            )),
            None => Settings::from_arg_matches(matches).map(Box::new).map(Self::Serve),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Parser for Cli {}

/// Patients and their tests: commands and reads, every one of them in the ledger first.
#[derive(Debug, Parser)]
#[command(name = "patient-service", version)]
pub struct Settings {
    /// Address to listen on.
    #[arg(long, env = "VITALOG_PATIENT_LISTEN", default_value = "127.0.0.1:7071")]
    pub listen: SocketAddr,
    /// Whose connections are taken.
    #[command(flatten)]
    pub peers: PeerArgs,
    /// What to accept though it is insecure.
    #[command(flatten)]
    pub overrides: Overrides,
    /// Where traces and metrics go.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
    /// Address of audit-service.
    #[arg(long, env = "VITALOG_AUDIT_URL", default_value = "http://127.0.0.1:7072")]
    pub audit_url: String,
    /// How audit-service is known.
    #[command(flatten)]
    pub client_tls: ClientTlsArgs,
    /// This service's key for audit-service. REF is `env:NAME`, `file:/path` or
    /// `keyvault:https://…`.
    #[arg(long, env = "VITALOG_AUDIT_KEY", value_name = "REF")]
    pub audit_key: SecretRef,
    /// A caller and its service key: gateway=REF, or gateway=REF,REF while a key is rotated. REF is
    /// `env:NAME`, `file:/path` or `keyvault:https://…`.
    #[arg(
        long = "caller",
        env = "VITALOG_PATIENT_CALLERS",
        value_name = "NAME=REF",
        value_delimiter = ' ',
        required = true
    )]
    pub callers: Vec<CallerSpec>,
    /// The read models' store: sqlite:PATH, mongodb://…, or a reference to such a URI. A reference
    /// is `env:NAME`, `file:/path` or `keyvault:https://…`.
    #[arg(long, env = "VITALOG_PATIENTS_STORE")]
    pub store: StoreLocation,
    /// The key ring.
    #[command(flatten)]
    pub ring: KeyRingArgs,
    /// The HMAC key of command ids, the same in every replica: 32 bytes, hexadecimal or base64. REF,
    /// or `REF,OLDER_REF` while it is rotated: commands that are sent again are known under each. REF
    /// is `env:NAME`, `file:/path` or `keyvault:https://…`.
    #[arg(
        long,
        env = "VITALOG_COMMAND_KEY",
        value_name = "REF",
        value_delimiter = ',',
        required = true
    )]
    pub command_key: Vec<SecretRef>,
}

/// Why the settings do not make a service.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No command key is named.
    #[error("no command key is named")]
    NoCommandKey,
    /// A setting is insecure, or its secret cannot be had.
    #[error(transparent)]
    Insecure(#[from] Insecure),
    /// A secret cannot be used.
    #[error("a secret cannot be used")]
    Secret(#[from] SecretError),
    /// The certificates towards audit-service cannot be used.
    #[error("audit-service cannot be reached")]
    Client(#[from] ClientError),
    /// A store refuses to be opened; waiting does not help.
    #[error("a store cannot be opened")]
    Open(#[from] OpenError),
}

impl Settings {
    /// Whose connections are taken.
    pub fn peers(&self) -> Result<Peers, Insecure> {
        self.overrides.peers("--listen", self.listen, &self.peers.networks)
    }

    /// Looks whether the settings are secure. Loads secrets.
    fn harden(&self) -> Result<(), Insecure> {
        let over = &self.overrides;
        over.store("--store", &self.store)?;
        self.ring.harden(over)?;
        over.upstream("--audit-url", &self.audit_url)?;
        over.keys("--audit-key", [&self.audit_key])?;
        over.keys("--command-key", &self.command_key)?;
        over.callers(&self.callers)
    }

    /// Loads the secrets, refuses insecure ones, lets callers in and opens the stores, waiting for
    /// those that are not there yet; `None` when shutdown came first. The keys of callers are read
    /// again until `shutdown`.
    pub async fn connect(
        self: Arc<Self>,
        door: &Door,
        shutdown: &CancellationToken,
    ) -> Result<Option<Deps>, ConfigError> {
        let (settings, callers) = (Arc::clone(&self), Arc::clone(&door.callers));
        let loaded = secrets::loading(&door.readiness, shutdown, move || settings.load(&callers));
        let Some(loaded) = loaded.await? else { return Ok(None) };
        let callers = Callers::clone(&door.callers);
        tokio::spawn(callers.keep_reloading(self.callers.clone(), shutdown.clone()));
        match self.open(loaded, &door.readiness, shutdown).await {
            Ok(deps) => Ok(Some(deps)),
            Err(ConfigError::Open(OpenError::Stopped)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn load(&self, callers: &Callers) -> Result<Loaded, ConfigError> {
        self.harden()?;
        callers.reload(&self.callers)?;
        let options = Options::new(&self.audit_url, self.audit_key.load()?);
        let audit = Options { http: self.client_tls.client()?, ..options };
        let keys = self.command_key.iter().map(SecretRef::load).collect::<Result<Vec<_>, _>>()?;
        let mut keys = keys.into_iter();
        let command_key = keys.next().ok_or(ConfigError::NoCommandKey)?;
        Ok(Loaded { audit, command_key, older_command_keys: keys.collect() })
    }

    async fn open(
        &self,
        Loaded { audit, command_key, older_command_keys }: Loaded,
        readiness: &Readiness,
        shutdown: &CancellationToken,
    ) -> Result<Deps, ConfigError> {
        let ring = readiness.component("key ring");
        let store = readiness.component(PROJECTION_STORE);
        let (store, ring) = tokio::try_join!(
            until_open(PROJECTION_STORE, &store, shutdown, || {
                open_projection_store(&self.store, &self.ring.database_prefix)
            }),
            until_open("key ring", &ring, shutdown, || {
                open_key_ring(&self.ring.keys, &self.ring.database_prefix, &self.ring.kek)
            }),
        )?;
        let audit = AuditClient::start(audit);
        audit.keep_reading_key(self.audit_key.clone());
        Ok(Deps { audit, store, ring, command_key, older_command_keys, clock: SYSTEM_CLOCK })
    }
}

/// What is had before the stores are opened.
struct Loaded {
    audit: Options,
    command_key: Secret,
    older_command_keys: Vec<Secret>,
}

/// The machine's clock.
#[allow(clippy::disallowed_methods)]
const SYSTEM_CLOCK: Clock = || Timestamp::from(chrono::Utc::now());

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn it_serves_unless_told_to_look_after_keys() {
        let ring = ["--keys=sqlite:k", "--kek=env:NEW,env:OLD"];
        let program = ["patient-service", "--command-key=env:C"];
        let serve = ["--audit-key=env:A", "--caller=gateway=env:B", "--store=sqlite:p"];
        match Cli::try_parse_from([&program[..], &serve, &ring].concat()).unwrap() {
            Cli::Serve(settings) => assert_eq!(settings.ring.kek.len(), 2),
            Cli::Keys(..) => panic!("no subcommand"),
        }
        for command in ["status", "rotate"] {
            let mut arguments = [["patient-service", "keys", command].as_slice(), &ring].concat();
            for known_keys in [false, true] {
                let cli = Cli::try_parse_from(&arguments).unwrap();
                let Cli::Keys(_, over) = cli else { panic!("it looks after keys") };
                assert_eq!(over.insecure_allow_known_keys, known_keys);
                arguments.push("--insecure-allow-known-keys");
            }
        }
        assert!(Cli::try_parse_from(["patient-service"]).is_err());
        assert!(Cli::try_parse_from(["patient-service", "keys"]).is_err());
        assert!(Cli::try_parse_from(["patient-service", "keys", "rotate"]).is_err());
    }
}
