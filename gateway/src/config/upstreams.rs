//! The services behind the gateway.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use clap::Args;
use runtime::client::ClientTlsArgs;
use runtime::hardening::{Insecure, Overrides};
use runtime::secrets::{Secret, SecretError, SecretRef};

use super::{ConfigError, Settings};
use crate::bulkheads::Compartment;

/// How long an upstream may take for the head of an answer, beyond a long poll's own wait, and
/// between two parts of its body. Longer than the services' own deadline for an append (8 s), so
/// that their answer, which knows more about the outcome, comes first.
pub const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an answer may be waited for in all, once its head is there. Far longer than the largest
/// page takes, so that only a service that trickles meets it.
pub const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// Failures in a row after which a service is taken for unreachable.
pub const BREAKER_FAILURES: NonZeroU32 = NonZeroU32::new(5).expect("five is not zero");

/// Refusals of one caller that are recorded in a second. Whoever is refused more often is refused in
/// a loop, which the ledger then shows as well as with every turn of it.
pub const DENIALS_PER_SECOND: NonZeroU32 = NonZeroU32::new(10).expect("ten is not zero");

/// How many requests of each kind may be under way at once. Each may hold a body of 1 MiB, and
/// beyond some hundred of them more only add to the time that each takes. Those for
/// patient-service are together no more than it takes itself (1,024), so that the compartments
/// hold there, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub struct Places {
    /// Commands under way at once
    #[arg(long = "max-commands", env = "VITALOG_MAX_COMMANDS", default_value_t = PLACES.commands)]
    pub commands: NonZeroU16,
    /// Reads by id under way at once
    #[arg(long = "max-reads", env = "VITALOG_MAX_READS", default_value_t = PLACES.reads)]
    pub reads: NonZeroU16,
    /// Searches, histories and accountings under way at once
    #[arg(long = "max-searches", env = "VITALOG_MAX_SEARCHES", default_value_t = PLACES.searches)]
    pub searches: NonZeroU16,
    /// Reads of the ledger under way at once, those that wait included
    #[arg(long = "max-ledger-reads", env = "VITALOG_MAX_LEDGER_READS", default_value_t = PLACES.ledger)]
    pub ledger: NonZeroU16,
}

/// Places where the settings say nothing else.
pub const PLACES: Places = Places {
    commands: places(384),
    reads: places(448),
    searches: places(192),
    ledger: places(128),
};

const fn places(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).expect("no default is zero")
}

impl Places {
    pub(crate) fn of(self, compartment: Compartment) -> u16 {
        match compartment {
            Compartment::Commands => self.commands,
            Compartment::Reads => self.reads,
            Compartment::Searches => self.searches,
            Compartment::Ledger => self.ledger,
        }
        .get()
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

/// Where the services are.
#[derive(Debug, Args)]
pub struct UpstreamOptions {
    /// How the services are known.
    #[command(flatten)]
    pub(super) client_tls: ClientTlsArgs,
    /// Address of patient-service
    #[arg(long, env = "VITALOG_PATIENT_URL", default_value = "http://127.0.0.1:7071")]
    patient_url: String,
    /// Where the key for patient-service is. REF is `env:NAME`, `file:/path` or
    /// `keyvault:https://…`.
    #[arg(long, env = "VITALOG_PATIENT_KEY", value_name = "REF", required = true)]
    patient_key: Option<SecretRef>,
    /// Address of audit-service
    #[arg(long, env = "VITALOG_AUDIT_URL", default_value = "http://127.0.0.1:7072")]
    audit_url: String,
    /// Where the key for audit-service is. REF is `env:NAME`, `file:/path` or `keyvault:https://…`.
    #[arg(long, env = "VITALOG_AUDIT_KEY", value_name = "REF", required = true)]
    audit_key: Option<SecretRef>,
    /// How much may go to the services.
    #[command(flatten)]
    bounds: Bounds,
}

/// Bounds on what goes to the services.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Bounds {
    /// Requests under way.
    #[command(flatten)]
    places: Places,
    /// Seconds that a service may take for the head of an answer, and be silent within it
    #[arg(
        long,
        env = "VITALOG_UPSTREAM_TIMEOUT",
        value_name = "SECONDS",
        default_value_t = UPSTREAM_TIMEOUT.as_secs(),
        value_parser = clap::value_parser!(u64).range(1..=600)
    )]
    upstream_timeout: u64,
    /// Seconds that the rest of an answer may be waited for in all
    #[arg(
        long,
        env = "VITALOG_ANSWER_TIMEOUT",
        value_name = "SECONDS",
        default_value_t = ANSWER_TIMEOUT.as_secs(),
        value_parser = clap::value_parser!(u64).range(1..=3_600)
    )]
    answer_timeout: u64,
    /// Failures in a row after which a service is taken for unreachable
    #[arg(long, env = "VITALOG_BREAKER_FAILURES", default_value_t = BREAKER_FAILURES)]
    breaker_failures: NonZeroU32,
    /// Refusals of one caller that are recorded in a second; the others are counted
    #[arg(long, env = "VITALOG_DENIALS_PER_SECOND", default_value_t = DENIALS_PER_SECOND)]
    denials_per_second: NonZeroU32,
}

impl Bounds {
    pub(super) fn apply(self, settings: &mut Settings) {
        settings.places = self.places;
        settings.upstream_timeout = Duration::from_secs(self.upstream_timeout);
        settings.answer_timeout = Duration::from_secs(self.answer_timeout);
        settings.breaker_failures = self.breaker_failures;
        settings.denials_per_second = self.denials_per_second;
    }
}

impl UpstreamOptions {
    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Looks whether the services are reached securely.
    pub(super) fn harden(&self, over: &Overrides) -> Result<(), Insecure> {
        over.upstream("--patient-url", &self.patient_url)?;
        over.upstream("--audit-url", &self.audit_url)?;
        over.keys("--patient-key", &self.patient_key)?;
        over.keys("--audit-key", &self.audit_key)
    }

    /// patient-service and audit-service.
    pub(super) fn settings(self) -> Result<(UpstreamSettings, UpstreamSettings), ConfigError> {
        let named = |url, key: Option<SecretRef>, option| {
            // The parser has asked for it already: it is optional only beside a subcommand.
            let key = ServiceKey::Named(key.ok_or(ConfigError::Missing(option))?);
            Ok(UpstreamSettings { url, key })
        };
        Ok((
            named(self.patient_url, self.patient_key, "--patient-key")?,
            named(self.audit_url, self.audit_key, "--audit-key")?,
        ))
    }
}
