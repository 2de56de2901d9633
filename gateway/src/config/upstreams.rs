//! The services behind the gateway.

use clap::Args;
use runtime::client::ClientTlsArgs;
use runtime::hardening::{Insecure, Overrides};
use runtime::secrets::{Secret, SecretError, SecretRef};

use super::ConfigError;

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
}

impl UpstreamOptions {
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
