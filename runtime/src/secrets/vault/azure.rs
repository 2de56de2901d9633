//! Asking a vault, through the official client and the managed identity.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use azure_core::{
    error::{Error, ErrorKind},
    http::{ClientOptions, RetryOptions, Transport},
};
use azure_identity::{ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId};
use azure_security_keyvault_secrets::{
    SecretClient, SecretClientOptions, models::SecretClientGetSecretOptions,
};

use super::{VaultFailure, VaultSecret};
use crate::secrets::Secret;

/// The vaults of a process, a client and so a token for each.
pub(super) struct Azure {
    transport: Transport,
    client_id: Option<String>,
    clients: Mutex<HashMap<String, Arc<SecretClient>>>,
}

/// A failed attempt.
pub(super) struct Failed {
    pub(super) failure: VaultFailure,
    /// How long the vault asks to be left alone.
    pub(super) retry_after: Option<Duration>,
}

impl From<VaultFailure> for Failed {
    fn from(failure: VaultFailure) -> Self {
        Self { failure, retry_after: None }
    }
}

impl Azure {
    pub(super) fn new(http: reqwest::Client, client_id: Option<String>) -> Self {
        let transport = Transport::new(Arc::new(http));
        Self { transport, client_id, clients: Mutex::default() }
    }

    /// Asks once; trying again is up to the caller, who knows for how long.
    pub(super) async fn fetch(&self, secret: &VaultSecret) -> Result<Secret, Failed> {
        let client = self.client(secret).map_err(|_| VaultFailure::Setup)?;
        let options = SecretClientGetSecretOptions {
            secret_version: secret.version().map(ToOwned::to_owned),
            ..Default::default()
        };
        let answer = client.get_secret(secret.name(), Some(options)).await;
        let answer = answer.map_err(|error| failed(&error)).inspect_err(|failed| {
            if failed.failure == VaultFailure::Token {
                // The client would show the same token until that expires.
                self.clients().remove(secret.vault());
            }
        })?;
        let value = answer.into_model().ok().and_then(|model| model.value);
        Ok(Secret::new(value.ok_or(VaultFailure::Answer)?))
    }

    fn client(&self, secret: &VaultSecret) -> Result<Arc<SecretClient>, Error> {
        let mut clients = self.clients();
        if let Some(client) = clients.get(secret.vault()) {
            return Ok(Arc::clone(client));
        }
        let client_options = ClientOptions {
            retry: RetryOptions::none(),
            transport: Some(self.transport.clone()),
            ..Default::default()
        };
        let credential = ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
            user_assigned_id: self.client_id.clone().map(UserAssignedId::ClientId),
            client_options: client_options.clone(),
        }))?;
        let options = SecretClientOptions {
            client_options,
            // A local vault has no domain that its challenge could name.
            verify_challenge_resource: Some(!secret.is_local()),
            ..Default::default()
        };
        let client = SecretClient::new(secret.vault(), credential, Some(options))?;
        let client = Arc::new(client);
        clients.insert(secret.vault().to_owned(), Arc::clone(&client));
        Ok(client)
    }

    fn clients(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<SecretClient>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an error comes down to. Its text is left out: it may repeat an answer's body.
fn failed(error: &Error) -> Failed {
    match error.kind() {
        ErrorKind::HttpResponse { status, raw_response, .. } => {
            let header = raw_response
                .as_ref()
                .and_then(|response| response.headers().get_optional_string(&"retry-after".into()));
            let retry_after = header.and_then(|text| text.trim().parse().ok());
            let failure = match u16::from(*status) {
                401 => VaultFailure::Token,
                403 => VaultFailure::Forbidden,
                404 => VaultFailure::Missing,
                429 => VaultFailure::Throttled,
                status => VaultFailure::Status(status),
            };
            Failed { failure, retry_after: retry_after.map(Duration::from_secs) }
        }
        ErrorKind::Credential => VaultFailure::Identity.into(),
        ErrorKind::Connection | ErrorKind::Io => VaultFailure::Unreachable.into(),
        _ => VaultFailure::Answer.into(),
    }
}
